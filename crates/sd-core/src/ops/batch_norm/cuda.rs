//! What a batch norm does on a CUDA device: one launch of `batch_norm.cu` where a channel fits a block, else two for every part
//! of the tensor that stays in the L2 cache between them. Running statistics are the caller's.

#[cfg(feature = "cuda")]
pub(super) mod device;

use candle_core::Result;

pub use crate::cuda::packs::Cuts;
use crate::cuda::packs::{Slices, THREADS, int, kernels, line, long, packs, threads};
use crate::cuda::{Arg, Element, Program, Source};

/// `batch_norm.cu`.
pub static SOURCE: Source = Source {
    name: "batch_norm",
    path: "crates/sd-core/src/ops/batch_norm/batch_norm.cu",
    text: include_str!("batch_norm.cu"),
    kernels: kernels![
        "batch_norm",
        "batch_norm_parts",
        "batch_norm_apply",
        "batch_norm_eval",
        "batch_norm_backward",
        "batch_norm_backward_parts",
        "batch_norm_backward_apply"
    ],
    stack_limit: 0,
};

const OP: &str = "batch_norm";

/// Packs that a thread of the whole-channel kernels keeps: `KEPT` and `KEPT_BACKWARD` of `batch_norm.cu`.
const KEPT: [usize; 2] = [8, 4];

/// x (batch, channels, positions).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Images.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Elements of a channel of an image.
    pub positions: usize,
}

impl Shape {
    fn len(&self) -> usize {
        self.batch * self.channels * self.positions
    }

    /// Packs of a channel.
    fn packs(&self, element: Element) -> usize {
        self.batch * packs(self.positions, element)
    }

    /// What every kernel takes first.
    fn args(&self, element: Element) -> Result<Vec<Arg>> {
        let per_plane = int(OP, packs(self.positions, element))?;
        int(OP, self.packs(element))?;
        Ok(vec![long(self.batch), long(self.channels), long(self.positions), per_plane])
    }

    fn sliced(&self, first: usize, slices: Slices, element: Element) -> Result<Vec<Arg>> {
        let mut args = self.args(element)?;
        args.extend([long(first), int(OP, slices.count)?, int(OP, slices.packs)?]);
        Ok(args)
    }
}

/// Training: (x, γ, β) → (y, μ, σ², 1/√(σ² + ε)); γ, β and the statistics (channels) are `f32`, σ² is the biased one.
///
/// # Errors
/// Where a size does not fit a kernel's `int`.
pub fn train(shape: &Shape, eps: f64, cuts: &Cuts, element: Element) -> Result<Program> {
    let mut program = Program::new(OP);
    let x = program.input(element, shape.len());
    let [gamma, beta] = [(); 2].map(|()| program.input(Element::F32, shape.channels));
    let y = program.output(element, shape.len());
    let statistics = [(); 3].map(|()| program.output(Element::F32, shape.channels));
    let packs = shape.packs(element);
    let eps = Arg::F32(eps as f32);
    if let Some(block) = cuts.threads(packs, KEPT[0]) {
        let mut args = shape.args(element)?;
        args.push(eps);
        args.extend([x, gamma, beta, y].into_iter().chain(statistics).map(Arg::Buffer));
        launch(&mut program, "batch_norm", element, line(OP, shape.channels)?, block, args);
        return Ok(program);
    }
    let slices = cuts.slices(packs);
    let triples = program.scratch(Element::F32, shape.channels * slices.count * 3);
    for (first, count) in cuts.together(shape.channels, packs, 1) {
        let grid = line(OP, count * slices.count)?;
        let mut args = shape.sliced(first, slices, element)?;
        let mut apply = args.clone();
        args.extend([x, triples].map(Arg::Buffer));
        launch(&mut program, "batch_norm_parts", element, grid, THREADS, args);
        apply.push(eps.clone());
        apply.extend([x, gamma, beta, triples, y].into_iter().chain(statistics).map(Arg::Buffer));
        launch(&mut program, "batch_norm_apply", element, grid, THREADS, apply);
    }
    Ok(program)
}

/// Evaluation: (x, γ, β, μ, 1/√(σ² + ε)) → y.
///
/// # Errors
/// As [`train`].
pub fn eval(shape: &Shape, element: Element) -> Result<Program> {
    let mut program = Program::new("batch_norm evaluation");
    let x = program.input(element, shape.len());
    let channels = [(); 4].map(|()| program.input(Element::F32, shape.channels));
    let y = program.output(element, shape.len());
    let packs = shape.packs(element);
    let slices = Slices { count: packs.div_ceil(4 * THREADS), packs: 4 * THREADS };
    let mut args = shape.args(element)?;
    args.extend([int(OP, slices.count)?, int(OP, slices.packs)?]);
    args.extend(std::iter::once(x).chain(channels).chain([y]).map(Arg::Buffer));
    let grid = line(OP, shape.channels * slices.count)?;
    launch(&mut program, "batch_norm_eval", element, grid, THREADS, args);
    Ok(program)
}

/// (x, γ, μ, 1/√(σ² + ε), dy) → (dx, dγ | dβ); the second output is `f32` of 2·channels. `through` where the statistics are
/// those of x itself (training).
///
/// # Errors
/// As [`train`].
pub fn backward(shape: &Shape, through: bool, cuts: &Cuts, element: Element) -> Result<Program> {
    let mut program = Program::new("batch_norm backward");
    let x = program.input(element, shape.len());
    let [gamma, mean, rstd] = [(); 3].map(|()| program.input(Element::F32, shape.channels));
    let dy = program.input(element, shape.len());
    let dx = program.output(element, shape.len());
    let affine = program.output(Element::F32, 2 * shape.channels);
    let (packs, through) = (shape.packs(element), int(OP, usize::from(through))?);
    if let Some(block) = cuts.threads(packs, KEPT[1]) {
        let mut args = shape.args(element)?;
        args.push(through);
        args.extend([x, dy, gamma, mean, rstd, dx, affine].map(Arg::Buffer));
        launch(&mut program, "batch_norm_backward", element, line(OP, shape.channels)?, block, args);
        return Ok(program);
    }
    let slices = cuts.slices(packs);
    let pairs = program.scratch(Element::F32, shape.channels * slices.count * 2);
    for (first, count) in cuts.together(shape.channels, packs, 2) {
        let grid = line(OP, count * slices.count)?;
        let mut args = shape.sliced(first, slices, element)?;
        let mut apply = args.clone();
        args.extend([x, dy, mean, rstd, pairs].map(Arg::Buffer));
        launch(&mut program, "batch_norm_backward_parts", element, grid, THREADS, args);
        apply.push(through.clone());
        apply.extend([x, dy, gamma, mean, rstd, pairs, dx, affine].map(Arg::Buffer));
        launch(&mut program, "batch_norm_backward_apply", element, grid, THREADS, apply);
    }
    Ok(program)
}

fn launch(
    program: &mut Program,
    kernel: &str,
    element: Element,
    grid: [u32; 3],
    block: usize,
    args: Vec<Arg>,
) {
    let kernel = format!("{kernel}_{}", element.suffix());
    program.launch(&SOURCE, &kernel, grid, threads(block), 0, args);
}
