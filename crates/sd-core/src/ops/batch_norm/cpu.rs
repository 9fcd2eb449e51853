//! Batch normalisation on the CPU. Forward and input gradient are both, per channel, `p·a + q·b + r` for one or two input
//! tensors, so one pass ([`affine`]) serves both; the sums behind p, q and r are taken in `f64`.

use rayon::prelude::*;

use super::{Dims, Normalise, Statistics};
use crate::ops::Real;

/// `p·a + q·b + r`.
#[derive(Clone, Copy)]
pub(super) struct Line {
    p: f64,
    q: f64,
    r: f64,
}

/// dγ and dβ.
pub(super) struct GradientSums {
    pub(super) dgamma: Vec<f64>,
    pub(super) dbeta: Vec<f64>,
}

/// Partial sums kept side by side, so that the compiler can use vector registers without reordering a sum.
const LANES: usize = 16;

/// Mean and biased variance of every channel (two passes: no cancellation).
pub(super) fn statistics<T: Real>(x: &[T], dims: &Dims) -> Statistics {
    let count = dims.batch * dims.positions;
    let per_channel = |channel: usize| {
        let mean = total(x, dims, channel, |value| value) / count as f64;
        let centre = T::from_f64(mean);
        let variance = total(x, dims, channel, |value| (value - centre) * (value - centre)) / count as f64;
        (mean, variance)
    };
    let (mean, variance) = (0..dims.channels).into_par_iter().map(per_channel).unzip();
    Statistics { mean, variance, count }
}

/// Σ over batch and positions of `f(x)` in one channel: lanes of `T` within a plane, `f64` across planes.
fn total<T: Real>(x: &[T], dims: &Dims, channel: usize, f: impl Fn(T) -> T) -> f64 {
    planes(x, dims, channel).map(|plane| plane_sum(plane, plane, |a, _| f(a))).sum()
}

fn planes<'a, T>(x: &'a [T], dims: &Dims, channel: usize) -> impl Iterator<Item = &'a [T]> {
    let (step, positions) = (dims.channels * dims.positions, dims.positions);
    x.chunks_exact(step).map(move |image| &image[channel * positions..(channel + 1) * positions])
}

fn plane_sum<T: Real>(a: &[T], b: &[T], f: impl Fn(T, T) -> T) -> f64 {
    // Long planes are cut, so that the error of a lane's sum stays that of a short one.
    let block = |(a, b): (&[T], &[T])| {
        let mut lanes = [T::zero(); LANES];
        let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
        let rest: f64 = a.remainder().iter().zip(b.remainder()).map(|(&a, &b)| f(a, b).to_f64()).sum();
        for (a, b) in a.zip(b) {
            for lane in 0..LANES {
                lanes[lane] += f(a[lane], b[lane]);
            }
        }
        rest + lanes.iter().map(|lane| lane.to_f64()).sum::<f64>()
    };
    a.chunks(64 * LANES).zip(b.chunks(64 * LANES)).map(block).sum()
}

/// y = (γ·rstd)·x + (β − γ·rstd·μ).
pub(super) fn forward_lines<T: Real>(mean: &[f64], rstd: &[f64], gamma: &[T], beta: &[T]) -> Vec<Line> {
    let line = |c: usize| {
        let p = gamma[c].to_f64() * rstd[c];
        Line { p, q: 0.0, r: beta[c].to_f64() - p * mean[c] }
    };
    (0..mean.len()).map(line).collect()
}

/// dγ = Σ dy·x̂ and dβ = Σ dy with x̂ = (x − μ)·rstd.
pub(super) fn gradient_sums<T: Real>(
    x: &[T],
    dy: &[T],
    mean: &[f64],
    rstd: &[f64],
    dims: &Dims,
) -> GradientSums {
    let per_channel = |c: usize| {
        let centre = T::from_f64(mean[c]);
        let pairs = || planes(x, dims, c).zip(planes(dy, dims, c));
        let dbeta: f64 = pairs().map(|(x, dy)| plane_sum(x, dy, |_, dy| dy)).sum();
        let dgamma: f64 = pairs().map(|(x, dy)| plane_sum(x, dy, |x, dy| (x - centre) * dy)).sum();
        (dgamma * rstd[c], dbeta)
    };
    let (dgamma, dbeta) = (0..dims.channels).into_par_iter().map(per_channel).unzip();
    GradientSums { dgamma, dbeta }
}

/// dx = γ·rstd·(dy − dβ/M − x̂·dγ/M) with M elements a channel; without the last two terms where the statistics are constants.
pub(super) fn backward_lines<T: Real>(op: &Normalise, gamma: &[T], sums: &GradientSums) -> Vec<Line> {
    let count = (op.dims.batch * op.dims.positions) as f64;
    let line = |c: usize| {
        let p = gamma[c].to_f64() * op.rstd[c];
        if !op.through_statistics {
            return Line { p, q: 0.0, r: 0.0 };
        }
        let q = -p * op.rstd[c] * sums.dgamma[c] / count;
        Line { p, q, r: -p * sums.dbeta[c] / count - q * op.mean[c] }
    };
    (0..op.dims.channels).map(line).collect()
}

/// `p_c·a + q_c·b + r_c`, images in parallel.
pub(super) fn affine<T: Real>(a: &[T], b: Option<&[T]>, lines: &[Line], dims: &Dims) -> Vec<T> {
    let mut out = vec![T::zero(); a.len()];
    let image = dims.channels * dims.positions;
    out.par_chunks_mut(image).enumerate().for_each(|(n, out)| {
        for (c, out) in out.chunks_exact_mut(dims.positions).enumerate() {
            let start = n * image + c * dims.positions;
            let range = start..start + dims.positions;
            affine_plane(out, &a[range.clone()], b.map(|b| &b[range]), lines[c]);
        }
    });
    out
}

fn affine_plane<T: Real>(out: &mut [T], a: &[T], b: Option<&[T]>, line: Line) {
    let [p, q, r] = [line.p, line.q, line.r].map(T::from_f64);
    match b {
        None => out.iter_mut().zip(a).for_each(|(out, &a)| *out = p * a + r),
        Some(b) => out.iter_mut().zip(a).zip(b).for_each(|((out, &a), &b)| *out = p * a + q * b + r),
    }
}
