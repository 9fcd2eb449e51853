//! What attention does on a CUDA device.
//!
//! `f16` and `bf16` run on tensor cores (`attention.cu`), `f32` on `attention_fma.cu`; both keep the map in registers and shared
//! memory. The path that hands out the map is matrix products and `attention_map.cu`.
//! `logsumexp` is an `f32` buffer (heads, Tq): natural logarithms of Σ_j exp of the scaled logits.

#[cfg(feature = "cuda")]
pub(super) mod device;

use candle_core::{Result, bail};

use crate::cuda::{Arg, Buffer, Element, Matrix, Product, Program, Source, blocks};

/// Names of kernels: each of the first for every width of [`WIDTHS`], then the others.
macro_rules! kernels {
    ($($wide:literal)* ; $($plain:literal)*) => {
        &[
            $(
                concat!($wide, "_16"),
                concat!($wide, "_32"),
                concat!($wide, "_48"),
                concat!($wide, "_64"),
                concat!($wide, "_80"),
                concat!($wide, "_128"),
                concat!($wide, "_160"),
            )*
            $($plain,)*
        ]
    };
}

/// Head sizes that there are tiles for; the others take the next.
const WIDTHS: [usize; 7] = [16, 32, 48, 64, 80, 128, 160];

/// `attention.cu`: on tensor cores.
pub static SOURCE: Source = Source {
    name: "attention",
    path: "crates/sd-core/src/ops/attention/attention.cu",
    text: include_str!("attention.cu"),
    kernels: kernels!(
        "attention_forward_f16" "attention_forward_bf16"
        "attention_key_grad_f16" "attention_key_grad_bf16"
        "attention_query_grad_f16" "attention_query_grad_bf16" ;
    ),
    stack_limit: 0,
};

/// `attention_fma.cu`: in `f32`.
pub static FMA: Source = Source {
    name: "attention_fma",
    path: "crates/sd-core/src/ops/attention/attention_fma.cu",
    text: include_str!("attention_fma.cu"),
    kernels: kernels!(
        "attention_forward_f32" "attention_key_grad_f32" "attention_query_grad_f32" ;
        "attention_delta_f32" "attention_delta_f16" "attention_delta_bf16"
    ),
    stack_limit: 0,
};

/// `attention_map.cu`: the map's rows.
pub static MAP: Source = Source {
    name: "attention_map",
    path: "crates/sd-core/src/ops/attention/attention_map.cu",
    text: include_str!("attention_map.cu"),
    kernels: kernels!(;
        "attention_map_f32" "attention_map_f16" "attention_map_bf16"
        "attention_map_grad_f32" "attention_map_grad_f16" "attention_map_grad_bf16"
    ),
    stack_limit: 0,
};

/// One attention: q (heads, queries, size), k and v (heads, keys, size).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shape {
    /// Batch × heads.
    pub heads: usize,
    /// Tq.
    pub queries: usize,
    /// Tk.
    pub keys: usize,
    /// D, the head size.
    pub size: usize,
    /// What logits are multiplied with.
    pub scale: f32,
    /// Query i sees keys j ≤ i only.
    pub causal: bool,
}

impl Shape {
    fn of_queries(&self) -> usize {
        self.heads * self.queries * self.size
    }

    fn of_keys(&self) -> usize {
        self.heads * self.keys * self.size
    }

    fn rows(&self) -> usize {
        self.heads * self.queries
    }

    fn map(&self) -> usize {
        self.rows() * self.keys
    }

    /// The tile's width for this head size.
    fn width(&self) -> Result<usize> {
        match WIDTHS.into_iter().find(|width| self.size <= *width) {
            Some(width) if self.size > 0 => Ok(width),
            _ => bail!("attention on CUDA: head size {} in {self:?}; expected 1 to 160", self.size),
        }
    }

    /// What the kernels take last.
    fn args(&self) -> [Arg; 5] {
        [
            int(self.queries),
            int(self.keys),
            int(self.size),
            Arg::F32(self.scale),
            int(usize::from(self.causal)),
        ]
    }

    /// The kernels count queries and keys of a head in 32 bits, and blocks have a limit.
    fn check(&self) -> Result<()> {
        let limit = 0x7fff_ffff - 256;
        if self.queries.max(self.keys) > limit || self.heads * (self.queries.max(self.keys) / 16 + 1) > limit
        {
            bail!("attention on CUDA: {self:?} is too large; expected fewer than 2³¹ rows a head and blocks");
        }
        Ok(())
    }
}

/// (q, k, v) → y, logsumexp.
///
/// # Errors
/// Where the head size is beyond 160 or a count beyond 32 bits.
pub fn forward(shape: &Shape, element: Element) -> Result<Program> {
    shape.check()?;
    let width = shape.width()?;
    let mut program = Program::new("attention");
    let q = program.input(element, shape.of_queries());
    let k = program.input(element, shape.of_keys());
    let v = program.input(element, shape.of_keys());
    let y = program.output(element, shape.of_queries());
    let logsumexp = program.output(Element::F32, shape.rows());
    let mut args: Vec<Arg> = [y, logsumexp, q, k, v].map(Arg::Buffer).into();
    args.extend(shape.args());
    let kernel = format!("attention_forward_{}_{width}", element.suffix());
    if element == Element::F32 {
        let shared = 4 * (2 * 64 * (width + 4) + 64 * 68);
        launch(&mut program, &FMA, &kernel, tiles(shape, shape.queries, 64), 256, shared, args);
    } else {
        let block_queries = if width > 80 { 64 } else { 128 };
        launch(&mut program, &SOURCE, &kernel, tiles(shape, shape.queries, block_queries), 128, 0, args);
    }
    Ok(program)
}

/// (q, k, v, y, dy, logsumexp) → dq, dk, dv.
///
/// # Errors
/// As [`forward`].
pub fn backward(shape: &Shape, element: Element) -> Result<Program> {
    shape.check()?;
    let width = shape.width()?;
    let mut program = Program::new("attention backward");
    let q = program.input(element, shape.of_queries());
    let k = program.input(element, shape.of_keys());
    let v = program.input(element, shape.of_keys());
    let y = program.input(element, shape.of_queries());
    let dy = program.input(element, shape.of_queries());
    let logsumexp = program.input(Element::F32, shape.rows());
    let dq = program.output(element, shape.of_queries());
    let dk = program.output(element, shape.of_keys());
    let dv = program.output(element, shape.of_keys());
    let delta = program.scratch(Element::F32, shape.rows());

    let mut args: Vec<Arg> = [delta, dy, y].map(Arg::Buffer).into();
    args.extend([long(shape.rows()), int(shape.size)]);
    let kernel = format!("attention_delta_{}", element.suffix());
    launch(&mut program, &FMA, &kernel, blocks(shape.rows(), 8), 256, 0, args);

    let gradients = [("key", vec![dk, dv], shape.keys), ("query", vec![dq], shape.queries)];
    for (name, outputs, count) in gradients {
        let buffers = outputs.into_iter().chain([q, k, v, dy, logsumexp, delta]);
        let args = buffers.map(Arg::Buffer).chain(shape.args()).collect();
        let kernel = format!("attention_{name}_grad_{}_{width}", element.suffix());
        let Tiles { source, held, threads, shared } = gradient_tiles(element, width, name == "key");
        launch(&mut program, source, &kernel, tiles(shape, count, held), threads, shared, args);
    }
    Ok(program)
}

/// What a block of a gradient's kernel holds and needs.
struct Tiles {
    source: &'static Source,
    held: usize,
    threads: u32,
    shared: usize,
}

/// As the instances at the ends of the two files have it: two held tiles, two (on tensor cores, twice two) passing ones.
fn gradient_tiles(element: Element, width: usize, keys: bool) -> Tiles {
    if element == Element::F32 {
        let held = if width > 80 { 32 } else { 64 };
        let shared = 4 * (2 * (held + 32) * (width + 4) + 2 * held * 36);
        return Tiles { source: &FMA, held, threads: 256, shared };
    }
    let held = if width <= 48 || (!keys && width <= 80) { 128 } else { 64 };
    let passing = if keys && width == 64 { 64 } else { 32 };
    let shared = 2 * (2 * held + 4 * passing) * (width + 8) + 4 * 4 * passing;
    Tiles { source: &SOURCE, held, threads: 128, shared }
}

/// (q, k) → map (heads, queries, keys).
///
/// # Errors
/// Where a count is beyond 32 bits.
pub fn map(shape: &Shape, element: Element) -> Result<Program> {
    shape.check()?;
    let mut program = Program::new("attention map");
    let q = program.input(element, shape.of_queries());
    let k = program.input(element, shape.of_keys());
    let map = program.output(element, shape.map());
    let logits = program.scratch(Element::F32, shape.map());
    program.product(Product {
        m: shape.queries,
        n: shape.keys,
        k: shape.size,
        batch: shape.heads,
        a: stack(q, shape.queries, shape.size, false),
        b: stack(k, shape.keys, shape.size, true),
        c: stack(logits, shape.queries, shape.keys, false),
        accumulate: false,
    });
    let mut args = vec![Arg::Buffer(map), Arg::Buffer(logits), long(shape.rows()), int(shape.queries)];
    args.extend([int(shape.keys), Arg::F32(shape.scale), int(usize::from(shape.causal))]);
    let kernel = format!("attention_map_{}", element.suffix());
    launch(&mut program, &MAP, &kernel, blocks(shape.rows(), 1), row_threads(shape.keys), 0, args);
    Ok(program)
}

/// (q, k, map, dmap) → dq, dk.
///
/// # Errors
/// As [`map`].
pub fn map_backward(shape: &Shape, element: Element) -> Result<Program> {
    shape.check()?;
    let mut program = Program::new("attention map backward");
    let q = program.input(element, shape.of_queries());
    let k = program.input(element, shape.of_keys());
    let map = program.input(element, shape.map());
    let dmap = program.input(element, shape.map());
    let dq = program.output(element, shape.of_queries());
    let dk = program.output(element, shape.of_keys());
    let dlogits = program.scratch(element, shape.map());
    let mut args: Vec<Arg> = [dlogits, map, dmap].map(Arg::Buffer).into();
    args.extend([long(shape.rows()), int(shape.keys), Arg::F32(shape.scale)]);
    let kernel = format!("attention_map_grad_{}", element.suffix());
    launch(&mut program, &MAP, &kernel, blocks(shape.rows(), 1), row_threads(shape.keys), 0, args);
    program.product(Product {
        m: shape.queries,
        n: shape.size,
        k: shape.keys,
        batch: shape.heads,
        a: stack(dlogits, shape.queries, shape.keys, false),
        b: stack(k, shape.keys, shape.size, false),
        c: stack(dq, shape.queries, shape.size, false),
        accumulate: false,
    });
    program.product(Product {
        m: shape.keys,
        n: shape.size,
        k: shape.queries,
        batch: shape.heads,
        a: stack(dlogits, shape.queries, shape.keys, true),
        b: stack(q, shape.queries, shape.size, false),
        c: stack(dk, shape.keys, shape.size, false),
        accumulate: false,
    });
    Ok(program)
}

/// (heads, rows, columns) as a batch of matrices.
fn stack(buffer: Buffer, rows: usize, columns: usize, transposed: bool) -> Matrix {
    Matrix { buffer, offset: 0, row_stride: columns, batch_stride: rows * columns, transposed }
}

/// A block for each tile of `held` of the `count` rows of a head.
fn tiles(shape: &Shape, count: usize, held: usize) -> [u32; 3] {
    blocks(shape.heads * count.div_ceil(held), 1)
}

/// Threads that share a row of the map.
fn row_threads(keys: usize) -> u32 {
    match keys {
        0..=128 => 32,
        129..=1024 => 128,
        _ => 256,
    }
}

fn launch(
    program: &mut Program,
    source: &'static Source,
    kernel: &str,
    grid: [u32; 3],
    threads: u32,
    shared: usize,
    args: Vec<Arg>,
) {
    let shared = u32::try_from(shared).unwrap_or(u32::MAX);
    program.launch(source, kernel, grid, [threads, 1, 1], shared, args);
}

/// [`Shape::check`] has seen that these fit.
fn int(value: usize) -> Arg {
    Arg::I32(i32::try_from(value).unwrap_or(i32::MAX))
}

fn long(value: usize) -> Arg {
    Arg::I64(i64::try_from(value).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_or_a_length_beyond_the_tiles_is_refused() {
        let small = Shape { heads: 2, queries: 3, keys: 4, size: 160, scale: 0.1, causal: false };
        for element in [Element::F32, Element::Bf16] {
            assert!(forward(&small, element).is_ok() && backward(&small, element).is_ok());
            for size in [0, 161] {
                let Err(error) = forward(&Shape { size, ..small }, element) else {
                    panic!("{size} is accepted")
                };
                assert!(error.to_string().contains("expected 1 to 160"), "{error}");
            }
            assert!(forward(&Shape { keys: 1 << 31, ..small }, element).is_err());
        }
    }
}
