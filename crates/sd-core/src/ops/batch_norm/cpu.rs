//! Batch normalisation on the CPU. Memory is walked in its own order, plane after plane (a plane being one channel of one image);
//! what is summed is summed for each plane, and joined over the batch in `f64` and in a fixed order.

use super::{Dims, Normalise, Statistics};
use crate::ops::Real;
use crate::ops::buffer::written;
use crate::ops::lanes::{block_sums, map};
use crate::ops::moments::{BLOCK, Moments, moments};
use crate::ops::pieces::{alone, each, rows_for};
use crate::ops::simd::vectorised;

/// Elements in a piece of work.
const PIECE: usize = 1 << 14;

/// `p·a + q·b + r`.
#[derive(Clone, Copy)]
pub(super) struct Line {
    p: f64,
    q: f64,
    r: f64,
}

/// dγ and dβ of a channel.
pub(super) type GradientSums = [f64; 2];

/// Calls `plane` for the elements of every plane of `x` (…and of whatever lies at the same place elsewhere) and joins its results
/// over the batch: one result a channel.
fn over_batch<S: Copy + Send>(
    dims: &Dims,
    nothing: S,
    plane: impl Fn(std::ops::Range<usize>, usize) -> S + Sync + Send,
    join: impl Fn(S, S) -> S + Sync + Send,
) -> Vec<S> {
    let (channels, positions) = (dims.channels, dims.positions);
    // Small images: several in a piece, joined at once. Large ones: some planes of one image in a piece.
    let images = rows_for(channels * positions, PIECE);
    let planes = if images > 1 { channels } else { rows_for(positions, PIECE).min(channels) };
    let mut partial = vec![nothing; dims.batch.div_ceil(images) * channels];
    let fill = |piece: usize, sums: &mut [S]| {
        let first = piece * planes;
        for (sum, index) in sums.iter_mut().zip(first..) {
            let (group, channel) = (index / channels, index % channels);
            for image in group * images..((group + 1) * images).min(dims.batch) {
                let start = (image * channels + channel) * positions;
                *sum = join(*sum, plane(start..start + positions, channel));
            }
        }
    };
    if alone(dims.batch * channels * positions) {
        partial.chunks_mut(planes).enumerate().for_each(|(piece, sums)| fill(piece, sums));
    } else {
        use rayon::prelude::*;
        partial.par_chunks_mut(planes).enumerate().for_each(|(piece, sums)| fill(piece, sums));
    }
    let (all, rest) = partial.split_at(channels);
    let mut all = all.to_vec();
    for group in rest.chunks(channels) {
        all.iter_mut().zip(group).for_each(|(all, part)| *all = join(*all, *part));
    }
    all
}

/// Mean and biased variance of every channel: no cancellation, whatever the mean.
pub(super) fn statistics<T: Real>(x: &[T], dims: &Dims) -> Statistics {
    let plane = |range: std::ops::Range<usize>, _| plane_moments(&x[range]);
    let join = |a: Moments, b: Moments| if a.count == 0.0 { b } else { a.join(b) };
    let all = over_batch(dims, Moments::NONE, plane, join);
    let (mean, variance) = all.iter().map(|moments| (moments.mean, moments.variance())).unzip();
    Statistics { mean, variance, count: dims.batch * dims.positions }
}

vectorised! {
    fn plane_moments<T, V>(x: &[T]) -> Moments {
        moments::<T, V>(x)
    }
}

/// y = (γ·rstd)·x + (β − γ·rstd·μ).
pub(super) fn forward_lines<T: Real>(mean: &[f64], rstd: &[f64], gamma: &[T], beta: &[T]) -> Vec<Line> {
    let line = |c: usize| {
        let p = gamma[c].to_f64() * rstd[c];
        Line { p, q: 0.0, r: beta[c].to_f64() - p * mean[c] }
    };
    (0..mean.len()).map(line).collect()
}

/// dγ = Σ dy·x̂ and dβ = Σ dy with x̂ = (x − μ)·rstd, for every channel.
pub(super) fn gradient_sums<T: Real>(x: &[T], dy: &[T], op: &Normalise) -> Vec<GradientSums> {
    let plane = |range: std::ops::Range<usize>, channel: usize| {
        plane_sums(&x[range.clone()], &dy[range], T::from_f64(op.mean[channel]))
    };
    let mut sums = over_batch(&op.dims, [0.0; 2], plane, |a, b| [a[0] + b[0], a[1] + b[1]]);
    sums.iter_mut().zip(&op.rstd).for_each(|(sum, rstd)| sum[0] *= rstd);
    sums
}

vectorised! {
    /// Σ dy·(x − mean) and Σ dy.
    fn plane_sums<T, V>(x: &[T], dy: &[T], mean: T) -> GradientSums {
        let mean = V::splat(mean);
        let mut sums = [0.0; 2];
        for (x, dy) in x.chunks(BLOCK).zip(dy.chunks(BLOCK)) {
            let part = block_sums!(T, V, [x: x, dy: dy], (dy * (x - mean), dy));
            sums = [sums[0] + part.0.to_f64(), sums[1] + part.1.to_f64()];
        }
        sums
    }
}

/// dx = γ·rstd·(dy − dβ/M − x̂·dγ/M) with M elements a channel; without the last two terms where the statistics are constants.
pub(super) fn backward_lines<T: Real>(op: &Normalise, gamma: &[T], sums: &[GradientSums]) -> Vec<Line> {
    let count = (op.dims.batch * op.dims.positions) as f64;
    let line = |c: usize| {
        let p = gamma[c].to_f64() * op.rstd[c];
        if !op.through_statistics {
            return Line { p, q: 0.0, r: 0.0 };
        }
        let [dgamma, dbeta] = sums[c];
        let q = -p * op.rstd[c] * dgamma / count;
        Line { p, q, r: -p * dbeta / count - q * op.mean[c] }
    };
    (0..op.dims.channels).map(line).collect()
}

/// `p_c·a + q_c·b + r_c`: the forward, and with a `b` the input gradient.
pub(super) fn affine<T: Real>(a: &[T], b: Option<&[T]>, lines: &[Line], dims: &Dims) -> Vec<T> {
    let planes = rows_for(dims.positions, PIECE);
    let write = |out: &mut [T]| {
        each(out, planes * dims.positions, |piece, out| {
            let start = piece * planes * dims.positions;
            affine_planes(out, &a[start..], b.map(|b| &b[start..]), lines, dims.positions, piece * planes);
        });
    };
    // SAFETY: the pieces cover the buffer, and `affine_planes` stores every element of its piece.
    unsafe { written(a.len(), write) }
}

vectorised! {
    /// Some whole planes from number `first` on.
    fn affine_planes<T, V>(
        out: &mut [T],
        a: &[T],
        b: Option<&[T]>,
        lines: &[Line],
        positions: usize,
        first: usize,
    ) {
        for (plane, out) in out.chunks_exact_mut(positions).enumerate() {
            let Line { p, q, r } = lines[(first + plane) % lines.len()];
            let (p, q, r) = (T::from_f64(p), T::from_f64(q), T::from_f64(r));
            let (p, q, r) = (V::splat(p), V::splat(q), V::splat(r));
            let start = plane * positions;
            match b {
                None => map!(T, V, out, [a: a[start..]], a.fused(p, r)),
                Some(b) => map!(T, V, out, [a: a[start..], b: b[start..]], a.fused(p, b.fused(q, r))),
            }
        }
    }
}
