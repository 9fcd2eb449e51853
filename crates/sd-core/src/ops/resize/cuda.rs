//! What a bilinear resize does on a CUDA device: one launch of `resize.cu`, forward and backward.

#[cfg(feature = "cuda")]
pub(super) mod device;

use candle_core::{Result, bail};

use crate::cuda::packs::{THREADS, kernels, long, threads, width};
use crate::cuda::{Arg, Element, Program, Source, blocks};

/// `resize.cu`.
pub static SOURCE: Source = Source {
    name: "resize",
    path: "crates/sd-core/src/ops/resize/resize.cu",
    text: include_str!("resize.cu"),
    kernels: kernels!["resize", "resize_backward"],
    stack_limit: 0,
};

/// Rows of dx that a thread makes: `STRIP` of `resize.cu`.
const STRIP: usize = 8;

/// From (planes, input) to (planes, output), both (height, width).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Images times channels.
    pub planes: usize,
    /// Height and width of x.
    pub input: (usize, usize),
    /// Height and width of y.
    pub output: (usize, usize),
    /// Whether the corners of both lie on each other.
    pub align_corners: bool,
}

impl Shape {
    fn counts(&self) -> [usize; 2] {
        [self.input, self.output].map(|(height, width)| self.planes * height * width)
    }

    /// What both kernels take first.
    fn args(&self) -> Result<Vec<Arg>> {
        // Coordinates are found in f32, which knows every integer up to 2²⁴.
        let sides = [self.input.0, self.input.1, self.output.0, self.output.1];
        if let Some(side) = sides.into_iter().find(|side| *side > 1 << 24) {
            bail!("resize on CUDA: a side of {side}; expected at most 2²⁴");
        }
        let mut args = vec![long(self.planes)];
        args.extend(sides.map(|side| Arg::I32(side as i32)));
        args.push(Arg::I32(i32::from(self.align_corners)));
        args.extend([(sides[0], sides[2]), (sides[1], sides[3])].map(|(i, o)| Arg::F32(self.scale(i, o))));
        Ok(args)
    }

    /// Input positions from one output to the next, divided in `f32` as PyTorch does.
    fn scale(&self, input: usize, output: usize) -> f32 {
        match (self.align_corners, output) {
            (false, _) => input as f32 / output as f32,
            (true, 1) => 0.0,
            (true, _) => (input - 1) as f32 / (output - 1) as f32,
        }
    }
}

/// x → y.
///
/// # Errors
/// Where a side is longer than 2²⁴.
pub fn forward(shape: &Shape, element: Element) -> Result<Program> {
    let mut program = Program::new("resize");
    let [input, output] = shape.counts();
    let x = program.input(element, input);
    let y = program.output(element, output);
    let mut args = shape.args()?;
    args.extend([x, y].map(Arg::Buffer));
    let packs = shape.planes * shape.output.0 * shape.output.1.div_ceil(width(element));
    let kernel = format!("resize_{}", element.suffix());
    program.launch(&SOURCE, &kernel, blocks(packs, THREADS), threads(THREADS), 0, args);
    Ok(program)
}

/// dy → dx.
///
/// # Errors
/// As [`forward`].
pub fn backward(shape: &Shape, element: Element) -> Result<Program> {
    let mut program = Program::new("resize backward");
    let [input, output] = shape.counts();
    let dy = program.input(element, output);
    let dx = program.output(element, input);
    let mut args = shape.args()?;
    args.extend([dy, dx].map(Arg::Buffer));
    let items = shape.planes * shape.input.0.div_ceil(STRIP) * shape.input.1;
    let kernel = format!("resize_backward_{}", element.suffix());
    program.launch(&SOURCE, &kernel, blocks(items, THREADS), threads(THREADS), 0, args);
    Ok(program)
}
