//! What a softmax does on a CUDA device: one launch of `softmax.cu`, forward and backward.

#[cfg(feature = "cuda")]
pub(super) mod device;

use candle_core::Result;

use crate::cuda::packs::{Team, int, kernels, long, packs, threads};
use crate::cuda::{Arg, Element, Program, Source, blocks};

/// `softmax.cu`.
pub static SOURCE: Source = Source {
    name: "softmax",
    path: "crates/sd-core/src/ops/softmax/softmax.cu",
    text: include_str!("softmax.cu"),
    kernels: kernels!["softmax", "softmax_backward", "softmax_long", "softmax_long_backward"],
    stack_limit: 0,
};

/// Packs that a thread keeps: `KEPT` and `KEPT_BACKWARD` of `softmax.cu`.
const KEPT: [usize; 2] = [8, 4];

/// x (rows, length) → y.
///
/// # Errors
/// Where a row is too long for a kernel's `int`.
pub fn forward(rows: usize, length: usize, element: Element) -> Result<Program> {
    let mut program = Program::new("softmax");
    let x = program.input(element, rows * length);
    let y = program.output(element, rows * length);
    launch(&mut program, "softmax", [rows, length, KEPT[0]], element, vec![Arg::Buffer(x), Arg::Buffer(y)])?;
    Ok(program)
}

/// (y, dy) → dx.
///
/// # Errors
/// As [`forward`].
pub fn backward(rows: usize, length: usize, element: Element) -> Result<Program> {
    let mut program = Program::new("softmax backward");
    let y = program.input(element, rows * length);
    let dy = program.input(element, rows * length);
    let dx = program.output(element, rows * length);
    let buffers = [y, dy, dx].map(Arg::Buffer).to_vec();
    launch(&mut program, "softmax_backward", [rows, length, KEPT[1]], element, buffers)?;
    Ok(program)
}

/// The kernel that keeps rows, or its long form.
fn launch(
    program: &mut Program,
    kernel: &str,
    [rows, length, kept]: [usize; 3],
    element: Element,
    buffers: Vec<Arg>,
) -> Result<()> {
    let per_row = packs(length, element);
    let mut args = vec![long(rows), long(length), int("softmax", per_row)?];
    let team = Team::of(per_row, kept);
    args.extend(team.map(|team| int("softmax", team.size)).transpose()?);
    args.extend(buffers);
    let (kernel, block, rows_of_block) = match team {
        Some(team) => (kernel.to_owned(), team.threads, team.rows()),
        None => (kernel.replace("softmax", "softmax_long"), 512, 1),
    };
    let kernel = format!("{kernel}_{}", element.suffix());
    program.launch(&SOURCE, &kernel, blocks(rows, rows_of_block), threads(block), 0, args);
    Ok(())
}
