//! What a layer norm does on a CUDA device: one launch of `layer_norm.cu` forward, two or three backward.

#[cfg(feature = "cuda")]
pub(super) mod device;

use candle_core::Result;

use crate::cuda::packs::{MULTIPROCESSORS, Team, int, kernels, line, long, packs, threads, width};
use crate::cuda::{Arg, Buffer, Element, Program, Source, blocks};

/// `layer_norm.cu`.
pub static SOURCE: Source = Source {
    name: "layer_norm",
    path: "crates/sd-core/src/ops/layer_norm/layer_norm.cu",
    text: include_str!("layer_norm.cu"),
    kernels: kernels![
        "layer_norm",
        "layer_norm_long",
        "layer_norm_backward",
        "layer_norm_long_backward",
        "layer_norm_columns";
        "layer_norm_affine"
    ],
    stack_limit: 0,
};

/// Packs that a thread keeps of a row, and rows that a team takes at a time in the backward.
const KEPT: usize = 8;
const ROWS: usize = 4;

/// (x (rows, length), γ, β) → (y, μ, 1/√(σ² + ε)); all but x and y are `f32`.
///
/// # Errors
/// Where a row is too long for a kernel's `int`.
pub fn forward(rows: usize, length: usize, eps: f64, element: Element) -> Result<Program> {
    let mut program = Program::new("layer_norm");
    let x = program.input(element, rows * length);
    let [gamma, beta] = [(); 2].map(|()| program.input(Element::F32, length));
    let y = program.output(element, rows * length);
    let [mean, rstd] = [(); 2].map(|()| program.output(Element::F32, rows));
    let per_row = packs(length, element);
    let team = Team::of(per_row, KEPT);
    let mut args = vec![long(rows), long(length), int("layer_norm", per_row)?];
    args.extend(team.map(|team| int("layer_norm", team.size)).transpose()?);
    args.push(Arg::F32(eps as f32));
    args.extend([x, gamma, beta, y, mean, rstd].map(Arg::Buffer));
    let (kernel, block, rows_of_block) =
        team.map_or(("layer_norm_long", 512, 1), |team| ("layer_norm", team.threads, team.rows()));
    let kernel = format!("{kernel}_{}", element.suffix());
    program.launch(&SOURCE, &kernel, blocks(rows, rows_of_block), threads(block), 0, args);
    Ok(program)
}

/// (x, γ, μ, 1/√(σ² + ε), dy) → (dx, dγ | dβ); the second output is `f32` of 2·length.
///
/// # Errors
/// As [`forward`].
pub fn backward(rows: usize, length: usize, element: Element) -> Result<Program> {
    let mut program = Program::new("layer_norm backward");
    let x = program.input(element, rows * length);
    let gamma = program.input(Element::F32, length);
    let [mean, rstd] = [(); 2].map(|()| program.input(Element::F32, rows));
    let dy = program.input(element, rows * length);
    let dx = program.output(element, rows * length);
    let affine = program.output(Element::F32, 2 * length);
    let buffers = Backward { x, dy, gamma, mean, rstd, dx };
    let per_row = packs(length, element);
    let whole = length.is_multiple_of(width(element));
    let (parts, slots) = match Team::of(per_row, 1).filter(|_| whole) {
        Some(team) => together(&mut program, [rows, length, per_row], team, &buffers, element)?,
        None => apart(&mut program, [rows, length, per_row], &buffers, element)?,
    };
    let args = vec![long(2 * length), int("layer_norm", slots)?, Arg::Buffer(parts), Arg::Buffer(affine)];
    program.launch(&SOURCE, "layer_norm_affine", blocks(2 * length, 32), [32, 32, 1], 0, args);
    Ok(program)
}

struct Backward {
    x: Buffer,
    dy: Buffer,
    gamma: Buffer,
    mean: Buffer,
    rstd: Buffer,
    dx: Buffer,
}

/// dx and the columns' sums in one reading. Returns the sums' parts and their number.
fn together(
    program: &mut Program,
    [rows, length, per_row]: [usize; 3],
    team: Team,
    buffers: &Backward,
    element: Element,
) -> Result<(Buffer, usize)> {
    // So many blocks that a multiprocessor works on 256 packs of rows at a time, eight loads of each under way.
    let full = MULTIPROCESSORS * (256 / (team.rows() * per_row)).clamp(2, 8);
    let grid = rows.div_ceil(team.rows() * ROWS).clamp(1, full);
    let slots = if team.size <= 32 { grid * team.threads / 32 } else { grid };
    let parts = program.scratch(Element::F32, slots * 2 * length);
    let mut args = vec![long(rows), long(length), int("layer_norm", per_row)?, int("layer_norm", team.size)?];
    let Backward { x, dy, gamma, mean, rstd, dx } = *buffers;
    args.extend([x, dy, gamma, mean, rstd, dx, parts].map(Arg::Buffer));
    let kernel = format!("layer_norm_backward_{}", element.suffix());
    program.launch(&SOURCE, &kernel, line("layer_norm", grid)?, threads(team.threads), 0, args);
    Ok((parts, slots))
}

/// dx, then the columns' sums, for rows that are no whole packs or longer than a block.
fn apart(
    program: &mut Program,
    [rows, length, per_row]: [usize; 3],
    buffers: &Backward,
    element: Element,
) -> Result<(Buffer, usize)> {
    let Backward { x, dy, gamma, mean, rstd, dx } = *buffers;
    let mut args = vec![long(rows), long(length), int("layer_norm", per_row)?];
    args.extend([x, dy, gamma, mean, rstd, dx].map(Arg::Buffer));
    let block = per_row.next_multiple_of(32).min(512);
    let kernel = format!("layer_norm_long_backward_{}", element.suffix());
    program.launch(&SOURCE, &kernel, blocks(rows, 1), threads(block), 0, args);
    let slots = rows.div_ceil(64).clamp(1, 64);
    let parts = program.scratch(Element::F32, slots * 2 * length);
    let mut args = vec![long(rows), long(length)];
    args.extend([x, dy, mean, rstd, parts].map(Arg::Buffer));
    let [across, ..] = blocks(length, 32);
    let kernel = format!("layer_norm_columns_{}", element.suffix());
    program.launch(&SOURCE, &kernel, [across, slots as u32, 1], [32, 8, 1], 0, args);
    Ok((parts, slots))
}
