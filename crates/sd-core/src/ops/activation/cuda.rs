//! What the activations do on a CUDA device: one launch of `activation.cu` each, forward and backward.

#[cfg(feature = "cuda")]
pub(super) mod device;

use candle_core::Result;

use crate::cuda::packs::{THREADS, elementwise, kernels, long, threads, width};
use crate::cuda::{Arg, Element, Program, Source, blocks};

/// `activation.cu`.
pub static SOURCE: Source = Source {
    name: "activation",
    path: "crates/sd-core/src/ops/activation/activation.cu",
    text: include_str!("activation.cu"),
    kernels: kernels![
        "silu",
        "silu_backward",
        "gelu",
        "gelu_backward",
        "gelu_tanh",
        "gelu_tanh_backward",
        "quick_gelu",
        "quick_gelu_backward",
        "geglu",
        "geglu_backward"
    ],
    stack_limit: 0,
};

/// Which function of one element.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// `x·σ(x)`.
    Silu,
    /// `x·Φ(x)`, by the error function.
    Gelu,
    /// GELU's approximation by the hyperbolic tangent.
    GeluTanh,
    /// `x·σ(1.702·x)`.
    QuickGelu,
}

impl Map {
    /// All four.
    pub const ALL: [Self; 4] = [Self::Silu, Self::Gelu, Self::GeluTanh, Self::QuickGelu];

    fn kernel(self) -> &'static str {
        match self {
            Self::Silu => "silu",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
            Self::QuickGelu => "quick_gelu",
        }
    }
}

/// x → y, of `count` elements.
///
/// # Errors
/// Never; the type is that of every op's programs.
pub fn forward(map: Map, count: usize, element: Element) -> Result<Program> {
    let mut program = Program::new(map.kernel());
    let x = program.input(element, count);
    let y = program.output(element, count);
    let args = vec![long(count), Arg::Buffer(x), Arg::Buffer(y)];
    let kernel = format!("{}_{}", map.kernel(), element.suffix());
    program.launch(&SOURCE, &kernel, elementwise(count, element, 1), threads(THREADS), 0, args);
    Ok(program)
}

/// (x, dy) → dx, of `count` elements.
///
/// # Errors
/// Never; the type is that of every op's programs.
pub fn backward(map: Map, count: usize, element: Element) -> Result<Program> {
    let mut program = Program::new(format!("{} backward", map.kernel()));
    let x = program.input(element, count);
    let dy = program.input(element, count);
    let dx = program.output(element, count);
    let args = vec![long(count), Arg::Buffer(x), Arg::Buffer(dy), Arg::Buffer(dx)];
    let kernel = format!("{}_backward_{}", map.kernel(), element.suffix());
    program.launch(&SOURCE, &kernel, elementwise(count, element, 2), threads(THREADS), 0, args);
    Ok(program)
}

/// x (rows, 2·width) → y (rows, width).
///
/// # Errors
/// Never; the type is that of every op's programs.
pub fn geglu(rows: usize, columns: usize, element: Element) -> Result<Program> {
    let mut program = Program::new("geglu");
    let x = program.input(element, 2 * rows * columns);
    let y = program.output(element, rows * columns);
    let args = vec![long(rows), long(columns), Arg::Buffer(x), Arg::Buffer(y)];
    let kernel = format!("geglu_{}", element.suffix());
    program.launch(&SOURCE, &kernel, geglu_grid(rows * columns, element), threads(THREADS), 0, args);
    Ok(program)
}

/// (x, dy) → dx.
///
/// # Errors
/// Never; the type is that of every op's programs.
pub fn geglu_backward(rows: usize, columns: usize, element: Element) -> Result<Program> {
    let mut program = Program::new("geglu backward");
    let x = program.input(element, 2 * rows * columns);
    let dy = program.input(element, rows * columns);
    let dx = program.output(element, 2 * rows * columns);
    let args = vec![long(rows), long(columns), Arg::Buffer(x), Arg::Buffer(dy), Arg::Buffer(dx)];
    let kernel = format!("geglu_backward_{}", element.suffix());
    program.launch(&SOURCE, &kernel, geglu_grid(rows * columns, element), threads(THREADS), 0, args);
    Ok(program)
}

/// Four packs a thread, as `each_pack` takes them.
fn geglu_grid(count: usize, element: Element) -> [u32; 3] {
    blocks(count, 4 * THREADS * width(element))
}
