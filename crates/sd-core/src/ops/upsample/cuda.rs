//! What nearest up-sampling by two does on a CUDA device: one launch of `upsample.cu`, forward and backward.

#[cfg(feature = "cuda")]
pub(super) mod device;

use candle_core::Result;

use crate::cuda::packs::{THREADS, kernels, long, threads, width};
use crate::cuda::{Arg, Element, Program, Source, blocks};

/// `upsample.cu`.
pub static SOURCE: Source = Source {
    name: "upsample",
    path: "crates/sd-core/src/ops/upsample/upsample.cu",
    text: include_str!("upsample.cu"),
    kernels: kernels!["upsample", "upsample_backward"],
    stack_limit: 0,
};

/// x (rows, columns) → y (2·rows, 2·columns); the rows are those of all planes, one after another.
///
/// # Errors
/// Never; the type is that of every op's programs.
pub fn forward(rows: usize, columns: usize, element: Element) -> Result<Program> {
    let mut program = Program::new("upsample");
    let x = program.input(element, rows * columns);
    let y = program.output(element, 4 * rows * columns);
    let args = vec![long(rows), long(columns), Arg::Buffer(x), Arg::Buffer(y)];
    let kernel = format!("upsample_{}", element.suffix());
    program.launch(&SOURCE, &kernel, grid(rows * columns, element), threads(THREADS), 0, args);
    Ok(program)
}

/// dy (2·rows, 2·columns) → dx (rows, columns).
///
/// # Errors
/// Never; the type is that of every op's programs.
pub fn backward(rows: usize, columns: usize, element: Element) -> Result<Program> {
    let mut program = Program::new("upsample backward");
    let dy = program.input(element, 4 * rows * columns);
    let dx = program.output(element, rows * columns);
    let args = vec![long(rows), long(columns), Arg::Buffer(dy), Arg::Buffer(dx)];
    let kernel = format!("upsample_backward_{}", element.suffix());
    program.launch(&SOURCE, &kernel, grid(rows * columns, element), threads(THREADS), 0, args);
    Ok(program)
}

/// A pack of x a thread.
fn grid(count: usize, element: Element) -> [u32; 3] {
    blocks(count, THREADS * width(element))
}
