//! Group normalisation on the CPU. A group's elements are adjacent in memory; a piece of work is some whole groups, and all
//! passes over a group but the first find it in the cache.

use super::{Dims, Saved};
use crate::ops::Real;
use crate::ops::buffer::written;
use crate::ops::lanes::{block_sums, map, update};
use crate::ops::moments::{BLOCK, moments};
use crate::ops::pieces::{each_pair, rows_for};
use crate::ops::simd::{Vector, vectorised};

/// Elements in a piece of work.
const PIECE: usize = 1 << 14;

/// What follows the normalisation.
#[derive(Clone, Copy)]
pub(super) struct Affine<'a, T> {
    pub(super) gamma: &'a [T],
    pub(super) beta: &'a [T],
    pub(super) silu: bool,
}

/// y, and the statistics that the backward needs.
pub(super) fn forward<T: Real>(x: &[T], affine: &Affine<'_, T>, dims: &Dims, eps: f64) -> (Vec<T>, Saved) {
    let group = dims.group();
    let rows = rows_for(group, PIECE);
    let mut statistics = vec![[0.0; 2]; dims.batch * dims.groups];
    let write = |y: &mut [T]| {
        each_pair((y, rows * group), (&mut statistics, rows), |piece, y, statistics| {
            let x = &x[piece * rows * group..];
            forward_groups(y, x, affine, dims, eps, piece * rows, statistics);
        });
    };
    // SAFETY: the pieces cover y, and `forward_groups` stores every element of its piece.
    let y = unsafe { written(x.len(), write) };
    let (mean, rstd) = statistics.into_iter().map(|[mean, rstd]| (mean, rstd)).unzip();
    (y, Saved { mean, rstd })
}

vectorised! {
    /// Some whole groups from number `first` on.
    fn forward_groups<T, V>(
        y: &mut [T],
        x: &[T],
        affine: &Affine<'_, T>,
        dims: &Dims,
        eps: f64,
        first: usize,
        statistics: &mut [[f64; 2]],
    ) {
        let group = dims.group();
        for (row, statistics) in statistics.iter_mut().enumerate() {
            let x = &x[row * group..(row + 1) * group];
            let found = moments::<T, V>(x);
            let rstd = 1.0 / (found.variance() + eps).sqrt();
            *statistics = [found.mean, rstd];
            let channel = (first + row) % dims.groups * dims.group_channels();
            let planes = y[row * group..(row + 1) * group].chunks_exact_mut(dims.positions);
            for (c, (y, x)) in planes.zip(x.chunks_exact(dims.positions)).enumerate() {
                let [p, r] = line(affine, channel + c, found.mean, rstd);
                let (p, r) = (V::splat(p), V::splat(r));
                if affine.silu {
                    map!(T, V, y, [x: x], silu::<T, V>(x.fused(p, r)));
                } else {
                    map!(T, V, y, [x: x], x.fused(p, r));
                }
            }
        }
    }
}

/// z = p·x + r.
#[inline(always)]
fn line<T: Real>(affine: &Affine<'_, T>, channel: usize, mean: f64, rstd: f64) -> [T; 2] {
    let p = affine.gamma[channel].to_f64() * rstd;
    [T::from_f64(p), T::from_f64(affine.beta[channel].to_f64() - p * mean)]
}

#[inline(always)]
fn silu<T, V: Vector<T>>(z: V) -> V {
    z * z.sigmoid()
}

/// d silu(z)/dz = s·(1 + z·(1 − s)).
#[inline(always)]
fn silu_slope<T: Real, V: Vector<T>>(z: V) -> V {
    let (s, complement) = z.sigmoids();
    s * z.fused(complement, V::splat(T::one()))
}

/// dx, dγ and dβ one after the other.
pub(super) fn backward<T: Real>(
    x: &[T],
    dy: &[T],
    affine: &Affine<'_, T>,
    dims: &Dims,
    saved: &Saved,
) -> Vec<T> {
    let (group, channels) = (dims.group(), dims.group_channels());
    let rows = rows_for(group, PIECE);
    let mut sums = vec![[0.0; 2]; dims.batch * dims.channels];
    let write = |flat: &mut [T]| {
        let (dx, parameters) = flat.split_at_mut(x.len());
        each_pair((dx, rows * group), (&mut sums, rows * channels), |piece, dx, sums| {
            let range = piece * rows * group..piece * rows * group + dx.len();
            backward_groups(dx, &x[range.clone()], &dy[range], affine, dims, saved, piece * rows, sums);
        });
        let mut totals = vec![[0.0; 2]; dims.channels];
        for image in sums.chunks(dims.channels) {
            totals.iter_mut().zip(image).for_each(|(total, sum)| {
                *total = [total[0] + sum[0], total[1] + sum[1]];
            });
        }
        let (dgamma, dbeta) = parameters.split_at_mut(dims.channels);
        for ((dgamma, dbeta), total) in dgamma.iter_mut().zip(dbeta).zip(totals) {
            (*dgamma, *dbeta) = (T::from_f64(total[0]), T::from_f64(total[1]));
        }
    };
    // SAFETY: dx, dγ and dβ make up the buffer. The pieces cover dx and `backward_groups` stores every element of its piece
    // before it reads it; the loop stores every element of dγ and dβ.
    unsafe { written(x.len() + 2 * dims.channels, write) }
}

vectorised! {
    /// dx of some whole groups from number `first` on, and Σ g·x̂ and Σ g of each of their channels, g being dz.
    fn backward_groups<T, V>(
        dx: &mut [T],
        x: &[T],
        dy: &[T],
        affine: &Affine<'_, T>,
        dims: &Dims,
        saved: &Saved,
        first: usize,
        sums: &mut [[f64; 2]],
    ) {
        let (group, channels) = (dims.group(), dims.group_channels());
        for (row, sums) in sums.chunks_exact_mut(channels).enumerate() {
            let range = row * group..(row + 1) * group;
            let (dx, x, dy) = (&mut dx[range.clone()], &x[range.clone()], &dy[range]);
            let (mean, rstd) = (saved.mean[first + row], saved.rstd[first + row]);
            let channel = (first + row) % dims.groups * channels;
            let mut totals = [0.0; 2];
            for (c, sum) in sums.iter_mut().enumerate() {
                let plane = c * dims.positions..(c + 1) * dims.positions;
                let line = line(affine, channel + c, mean, rstd);
                let (dx, x, dy) = (&mut dx[plane.clone()], &x[plane.clone()], &dy[plane]);
                *sum = plane_sums::<T, V>(dx, x, dy, T::from_f64(mean), affine.silu.then_some(line));
                sum[0] *= rstd;
                let gamma = affine.gamma[channel + c].to_f64();
                totals = [totals[0] + gamma * sum[0], totals[1] + gamma * sum[1]];
            }
            // dx = rstd·(γ·g − Σγg/D − x̂·Σγgx̂/D)
            let q = V::splat(T::from_f64(-rstd * rstd * totals[0] / group as f64));
            let r = V::splat(T::from_f64(-rstd * totals[1] / group as f64));
            let mean = V::splat(T::from_f64(mean));
            for c in 0..channels {
                let plane = c * dims.positions..(c + 1) * dims.positions;
                let p = V::splat(T::from_f64(affine.gamma[channel + c].to_f64() * rstd));
                let (dx, x) = (&mut dx[plane.clone()], &x[plane.clone()]);
                if affine.silu {
                    update!(T, V, g, dx, [x: x], g.fused(p, (x - mean).fused(q, r)));
                } else {
                    map!(T, V, dx, [x: x, dy: dy[plane]], dy.fused(p, (x - mean).fused(q, r)));
                }
            }
        }
    }
}

/// Σ g·(x − mean) and Σ g over a plane, in `f64` across blocks. With `silu` (the line of z) g = dy·silu'(z) is left in `dx`;
/// without, g is dy.
#[inline(always)]
fn plane_sums<T: Real, V: Vector<T>>(
    dx: &mut [T],
    x: &[T],
    dy: &[T],
    mean: T,
    silu: Option<[T; 2]>,
) -> [f64; 2] {
    let mut sums = [0.0; 2];
    let mean = V::splat(mean);
    for ((dx, x), dy) in dx.chunks_mut(BLOCK).zip(x.chunks(BLOCK)).zip(dy.chunks(BLOCK)) {
        let part = if let Some([p, r]) = silu {
            let (p, r) = (V::splat(p), V::splat(r));
            map!(T, V, dx, [x: x, dy: dy], dy * silu_slope::<T, V>(x.fused(p, r)));
            block_sums!(T, V, [x: x, g: dx], (g * (x - mean), g))
        } else {
            block_sums!(T, V, [x: x, g: dy], (g * (x - mean), g))
        };
        sums = [sums[0] + part.0.to_f64(), sums[1] + part.1.to_f64()];
    }
    sums
}
