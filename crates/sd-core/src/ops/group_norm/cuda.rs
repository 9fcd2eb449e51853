//! What a group norm does on a CUDA device: one launch of `group_norm.cu` where a group fits a block, else two for every part of
//! the tensor that stays in the L2 cache between them; one more in the backward for dγ and dβ.

#[cfg(feature = "cuda")]
pub(super) mod device;

use candle_core::Result;

pub use crate::cuda::packs::Cuts;
use crate::cuda::packs::{Slices, THREADS, int, kernels, line, long, packs, threads};
use crate::cuda::{Arg, Buffer, Element, Program, Source, blocks};

/// `group_norm.cu`.
pub static SOURCE: Source = Source {
    name: "group_norm",
    path: "crates/sd-core/src/ops/group_norm/group_norm.cu",
    text: include_str!("group_norm.cu"),
    kernels: kernels![
        "group_norm",
        "group_norm_parts",
        "group_norm_apply",
        "group_norm_backward",
        "group_norm_backward_parts",
        "group_norm_backward_apply";
        "group_norm_affine"
    ],
    stack_limit: 0,
};

const OP: &str = "group_norm";

/// Packs that a thread of the whole-group kernels keeps: `KEPT` and `KEPT_BACKWARD` of `group_norm.cu`.
const KEPT: [usize; 2] = [8, 4];

/// Sizes and what is applied to x (batch, channels, positions).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Images.
    pub batch: usize,
    /// Channels; a multiple of `groups`.
    pub channels: usize,
    /// Elements of a channel of an image.
    pub positions: usize,
    /// Groups of channels.
    pub groups: usize,
    /// Whether SiLU follows.
    pub silu: bool,
}

impl Shape {
    fn len(&self) -> usize {
        self.batch * self.channels * self.positions
    }

    fn group_channels(&self) -> usize {
        self.channels / self.groups
    }

    /// What every kernel but `affine` takes first.
    fn args(&self, element: Element) -> Result<Vec<Arg>> {
        let sizes = [long(self.channels), long(self.positions)];
        let counts = [self.group_channels(), packs(self.positions, element), usize::from(self.silu)];
        // Packs of a group are counted in 32 bits.
        int(OP, counts[0] * counts[1])?;
        let counts: Result<Vec<Arg>> = counts.into_iter().map(|count| int(OP, count)).collect();
        Ok(sizes.into_iter().chain(counts?).collect())
    }
}

/// (x, γ, β) → (y, μ, 1/√(σ² + ε)); γ, β (channels) and the statistics (batch·groups) are `f32`.
///
/// # Errors
/// Where a size does not fit a kernel's `int`.
pub fn forward(shape: &Shape, eps: f64, cuts: &Cuts, element: Element) -> Result<Program> {
    let mut program = Program::new(OP);
    let x = program.input(element, shape.len());
    let [gamma, beta] = [(); 2].map(|()| program.input(Element::F32, shape.channels));
    let y = program.output(element, shape.len());
    let sets = shape.batch * shape.groups;
    let [mean, rstd] = [(); 2].map(|()| program.output(Element::F32, sets));
    let packs = shape.group_channels() * packs(shape.positions, element);
    let eps = Arg::F32(eps as f32);
    if let Some(block) = cuts.threads(packs, KEPT[0]) {
        let mut args = shape.args(element)?;
        args.push(eps);
        args.extend([x, gamma, beta, y, mean, rstd].map(Arg::Buffer));
        launch(&mut program, "group_norm", element, line(OP, sets)?, (block, 0), args);
        return Ok(program);
    }
    let slices = cuts.slices(packs);
    let triples = program.scratch(Element::F32, sets * slices.count * 3);
    for (first, count) in cuts.together(sets, packs, 1) {
        let grid = line(OP, count * slices.count)?;
        let mut args = sliced(shape, first, slices, element)?;
        let mut apply = args.clone();
        args.extend([x, triples].map(Arg::Buffer));
        launch(&mut program, "group_norm_parts", element, grid, (THREADS, 0), args);
        apply.push(eps.clone());
        apply.extend([x, gamma, beta, triples, y, mean, rstd].map(Arg::Buffer));
        launch(&mut program, "group_norm_apply", element, grid, (THREADS, 0), apply);
    }
    Ok(program)
}

/// (x, γ, β, μ, 1/√(σ² + ε), dy) → (dx, dγ | dβ); the second output is `f32` of 2·channels.
///
/// # Errors
/// As [`forward`].
pub fn backward(shape: &Shape, cuts: &Cuts, element: Element) -> Result<Program> {
    let mut program = Program::new("group_norm backward");
    let x = program.input(element, shape.len());
    let [gamma, beta] = [(); 2].map(|()| program.input(Element::F32, shape.channels));
    let [mean, rstd] = [(); 2].map(|()| program.input(Element::F32, shape.batch * shape.groups));
    let dy = program.input(element, shape.len());
    let dx = program.output(element, shape.len());
    let affine = program.output(Element::F32, 2 * shape.channels);
    let buffers = Backward { given: [x, dy, gamma, beta, mean, rstd], dx };
    let (sums, slices) = gradients(&mut program, shape, cuts, &buffers, element)?;
    let args = vec![
        long(shape.batch),
        long(shape.channels),
        int(OP, slices)?,
        Arg::Buffer(sums),
        Arg::Buffer(affine),
    ];
    program.launch(&SOURCE, "group_norm_affine", blocks(shape.channels, 4), threads(128), 0, args);
    Ok(program)
}

struct Backward {
    /// x, dy, γ, β, μ, 1/√(σ² + ε).
    given: [Buffer; 6],
    dx: Buffer,
}

/// dx and the sums of every channel of every image. Returns the sums and into how many slices a plane was cut.
fn gradients(
    program: &mut Program,
    shape: &Shape,
    cuts: &Cuts,
    buffers: &Backward,
    element: Element,
) -> Result<(Buffer, usize)> {
    let (planes, per_plane) = (shape.batch * shape.channels, packs(shape.positions, element));
    let packs = shape.group_channels() * per_plane;
    let Backward { given, dx } = buffers;
    if let Some(block) = cuts.threads(packs, KEPT[1]) {
        let sums = program.scratch(Element::F32, planes * 2);
        let mut args = shape.args(element)?;
        args.extend(given.map(Arg::Buffer));
        args.extend([*dx, sums].map(Arg::Buffer));
        let grid = line(OP, shape.batch * shape.groups)?;
        launch(program, "group_norm_backward", element, grid, (block, 8 * packs), args);
        return Ok((sums, 1));
    }
    let slices = cuts.slices(per_plane);
    let sums = program.scratch(Element::F32, planes * slices.count * 2);
    for (first, groups) in cuts.together(shape.batch * shape.groups, packs, 2) {
        let channels = shape.group_channels();
        let grid = line(OP, groups * channels * slices.count)?;
        let mut args = sliced(shape, first * channels, slices, element)?;
        args.extend(given.map(Arg::Buffer));
        args.push(Arg::Buffer(sums));
        launch(program, "group_norm_backward_parts", element, grid, (THREADS, 0), args.clone());
        args.push(Arg::Buffer(*dx));
        launch(program, "group_norm_backward_apply", element, grid, (THREADS, 0), args);
    }
    Ok((sums, slices.count))
}

fn sliced(shape: &Shape, first: usize, slices: Slices, element: Element) -> Result<Vec<Arg>> {
    let mut args = shape.args(element)?;
    args.extend([long(first), int(OP, slices.count)?, int(OP, slices.packs)?]);
    Ok(args)
}

/// A launch with `(threads, bytes of dynamic shared memory)` a block.
fn launch(
    program: &mut Program,
    kernel: &str,
    element: Element,
    grid: [u32; 3],
    (block, shared): (usize, usize),
    args: Vec<Arg>,
) {
    let kernel = format!("{kernel}_{}", element.suffix());
    program.launch(&SOURCE, &kernel, grid, threads(block), shared as u32, args);
}
