//! What a linear layer does on a CUDA device: matrix products with `linear.cu` between them.

#[cfg(feature = "cuda")]
pub(super) mod device;

use crate::cuda::{Arg, Buffer, Element, Matrix, Product, Program, Source, blocks};
use crate::ops::activation::Activation;

/// `linear.cu`.
pub static SOURCE: Source = Source {
    name: "linear",
    path: "crates/sd-core/src/ops/linear/linear.cu",
    text: include_str!("linear.cu"),
    kernels: &[
        "linear_epilogue_f32",
        "linear_epilogue_f16",
        "linear_epilogue_bf16",
        "linear_grad_f32",
        "linear_grad_f16",
        "linear_grad_bf16",
        "linear_bias_grad_f32",
        "linear_bias_grad_f16",
        "linear_bias_grad_bf16",
    ],
    stack_limit: 0,
};

/// One layer applied to `rows` rows: x (rows, inputs), w (outputs, inputs), y (rows, outputs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows of x: all axes but the last.
    pub rows: usize,
    /// Columns of x.
    pub inputs: usize,
    /// Rows of w.
    pub outputs: usize,
    /// Whether there is a bias (outputs).
    pub bias: bool,
    /// What follows.
    pub activation: Activation,
}

/// (x, w) or (x, w, bias) → y, and with `keep` also z = x·wᵀ + b, which [`backward`] of an activation needs.
#[must_use]
pub fn forward(shape: &Shape, keep: bool, element: Element) -> Program {
    let mut program = Program::new("linear");
    let x = program.input(element, shape.rows * shape.inputs);
    let w = program.input(element, shape.outputs * shape.inputs);
    let bias = shape.bias.then(|| program.input(element, shape.outputs));
    let y = program.output(element, shape.rows * shape.outputs);
    let z = keep.then(|| program.output(element, shape.rows * shape.outputs));
    program.product(Product {
        m: shape.rows,
        n: shape.outputs,
        k: shape.inputs,
        batch: 1,
        a: matrix(x, shape.inputs, false),
        b: matrix(w, shape.inputs, true),
        c: matrix(y, shape.outputs, false),
        accumulate: false,
    });
    if shape.bias || keep || shape.activation != Activation::None {
        let count = shape.rows * shape.outputs;
        // Where there is no bias or nothing to keep, the pointer is not used.
        let mut args: Vec<Arg> = [y, z.unwrap_or(y), bias.unwrap_or(w)].map(Arg::Buffer).into();
        args.extend([long(count), int(shape.outputs), code(shape.activation)]);
        args.extend([int(usize::from(shape.bias)), int(usize::from(keep))]);
        launch(&mut program, "epilogue", element, blocks(count, 2048), [256, 1, 1], args);
    }
    program
}

/// Which gradients [`backward`] makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// dx.
    pub x: bool,
    /// dw.
    pub w: bool,
}

/// (x, w, dy), followed by z where there is an activation → those of dx, dw that are wanted, then dbias where there is a bias.
#[must_use]
pub fn backward(shape: &Shape, wanted: Wanted, element: Element) -> Program {
    let mut program = Program::new("linear backward");
    let x = program.input(element, shape.rows * shape.inputs);
    let w = program.input(element, shape.outputs * shape.inputs);
    let dy = program.input(element, shape.rows * shape.outputs);
    let active = shape.activation != Activation::None;
    let z = active.then(|| program.input(element, shape.rows * shape.outputs));
    let dx = wanted.x.then(|| program.output(element, shape.rows * shape.inputs));
    let dw = wanted.w.then(|| program.output(element, shape.outputs * shape.inputs));
    let dbias = shape.bias.then(|| program.output(element, shape.outputs));
    let dz = if active { program.scratch(element, shape.rows * shape.outputs) } else { dy };
    if active || shape.bias {
        grad(&mut program, shape, element, [dz, dy, z.unwrap_or(dy)], dbias);
    }
    if let Some(dx) = dx {
        program.product(Product {
            m: shape.rows,
            n: shape.inputs,
            k: shape.outputs,
            batch: 1,
            a: matrix(dz, shape.outputs, false),
            b: matrix(w, shape.inputs, false),
            c: matrix(dx, shape.inputs, false),
            accumulate: false,
        });
    }
    if let Some(dw) = dw {
        program.product(Product {
            m: shape.outputs,
            n: shape.inputs,
            k: shape.rows,
            batch: 1,
            a: matrix(dz, shape.outputs, true),
            b: matrix(x, shape.inputs, false),
            c: matrix(dw, shape.inputs, false),
            accumulate: false,
        });
    }
    program
}

/// dz from dy and z, and dbias from pieces of the rows.
fn grad(
    program: &mut Program,
    shape: &Shape,
    element: Element,
    [dz, dy, z]: [Buffer; 3],
    dbias: Option<Buffer>,
) {
    let across = shape.outputs.div_ceil(32);
    // About two thousand blocks fill the largest device; each has at least 64 rows.
    let pieces = 2048usize.div_ceil(across).min(shape.rows.div_ceil(64)).clamp(1, 65535);
    let parts = program.scratch(Element::F32, pieces * shape.outputs);
    let written = if shape.activation == Activation::None { program.scratch(element, 1) } else { dz };
    let mut args: Vec<Arg> = [written, parts, dy, z].map(Arg::Buffer).into();
    args.extend([long(shape.rows), int(shape.outputs), code(shape.activation)]);
    let grid = [across, pieces, 1].map(|blocks| u32::try_from(blocks).unwrap_or(u32::MAX));
    launch(program, "grad", element, grid, [32, 8, 1], args);
    if let Some(dbias) = dbias {
        let args = vec![Arg::Buffer(dbias), Arg::Buffer(parts), int(shape.outputs), int(pieces)];
        launch(program, "bias_grad", element, blocks(shape.outputs, 128), [128, 1, 1], args);
    }
}

/// A whole buffer as one matrix.
fn matrix(buffer: Buffer, columns: usize, transposed: bool) -> Matrix {
    Matrix { buffer, offset: 0, row_stride: columns, batch_stride: 0, transposed }
}

/// As `linear.cu` numbers them.
fn code(activation: Activation) -> Arg {
    Arg::I32(match activation {
        Activation::None => 0,
        Activation::Silu => 1,
        Activation::Gelu => 2,
        Activation::QuickGelu => 3,
        Activation::GeluTanh => 4,
    })
}

fn launch(
    program: &mut Program,
    kernel: &str,
    element: Element,
    grid: [u32; 3],
    block: [u32; 3],
    args: Vec<Arg>,
) {
    program.launch(&SOURCE, &format!("linear_{kernel}_{}", element.suffix()), grid, block, 0, args);
}

fn int(value: usize) -> Arg {
    Arg::I32(i32::try_from(value).unwrap_or(i32::MAX))
}

fn long(value: usize) -> Arg {
    Arg::I64(i64::try_from(value).unwrap_or(i64::MAX))
}
