//! Layer normalisation on the CPU. A piece of work is some whole rows; a row is read from memory once and stays in the
//! first-level cache for the second pass over it.

use super::Statistics;
use crate::ops::Real;
use crate::ops::buffer::written;
use crate::ops::lanes::{block_sums, map};
use crate::ops::moments::{BLOCK, moments};
use crate::ops::pieces::{each_pair, rows_for};
use crate::ops::simd::{Vector, vectorised};

/// Elements in a piece of work.
const PIECE: usize = 1 << 14;
/// Rows whose contributions to dγ and dβ are summed in `T` before they are added in `f64`.
const RUN: usize = 32;

/// y, and the statistics that the backward needs.
pub(super) fn forward<T: Real>(x: &[T], gamma: &[T], beta: &[T], eps: f64) -> (Vec<T>, Vec<Statistics>) {
    let size = gamma.len();
    let rows = rows_for(size, PIECE);
    let mut statistics = vec![[0.0; 2]; x.len() / size];
    let write = |y: &mut [T]| {
        each_pair((y, rows * size), (&mut statistics, rows), |piece, y, statistics| {
            let x = &x[piece * rows * size..];
            forward_rows(y, x, gamma, beta, eps, statistics);
        });
    };
    // SAFETY: the pieces cover y, and `forward_rows` stores every element of its piece.
    let y = unsafe { written(x.len(), write) };
    (y, statistics)
}

vectorised! {
    fn forward_rows<T, V>(
        y: &mut [T],
        x: &[T],
        gamma: &[T],
        beta: &[T],
        eps: f64,
        statistics: &mut [Statistics],
    ) {
        let size = gamma.len();
        for ((y, x), statistics) in y.chunks_exact_mut(size).zip(x.chunks_exact(size)).zip(statistics) {
            let found = moments::<T, V>(x);
            let rstd = 1.0 / (found.variance() + eps).sqrt();
            *statistics = [found.mean, rstd];
            let (mean, rstd) = (V::splat(T::from_f64(found.mean)), V::splat(T::from_f64(rstd)));
            map!(T, V, y, [x: x, gamma: gamma, beta: beta], ((x - mean) * rstd).fused(gamma, beta));
        }
    }
}

/// dx, dγ and dβ one after the other.
pub(super) fn backward<T: Real>(x: &[T], dy: &[T], gamma: &[T], statistics: &[Statistics]) -> Vec<T> {
    let size = gamma.len();
    let rows = rows_for(size, PIECE);
    let mut partial = vec![0.0; statistics.len().div_ceil(rows) * 2 * size];
    let write = |flat: &mut [T]| {
        let (dx, parameters) = flat.split_at_mut(x.len());
        each_pair((dx, rows * size), (&mut partial, 2 * size), |piece, dx, sums| {
            let range = piece * rows * size..piece * rows * size + dx.len();
            let statistics = &statistics[piece * rows..];
            backward_rows(dx, &x[range.clone()], &dy[range], gamma, statistics, sums);
        });
        for (index, out) in parameters.iter_mut().enumerate() {
            *out = T::from_f64(partial.iter().skip(index).step_by(2 * size).sum());
        }
    };
    // SAFETY: dx and the parameters' gradients make up the buffer. The pieces cover dx and `backward_rows` stores every
    // element of its piece; the loop stores every element of dγ and dβ.
    unsafe { written(x.len() + 2 * size, write) }
}

vectorised! {
    /// dx of some rows, and their Σ dy·x̂ and Σ dy in the two halves of `totals`.
    fn backward_rows<T, V>(
        dx: &mut [T],
        x: &[T],
        dy: &[T],
        gamma: &[T],
        statistics: &[Statistics],
        totals: &mut [f64],
    ) {
        let size = gamma.len();
        let mut run = vec![T::zero(); 2 * size];
        let (dgamma, dbeta) = run.split_at_mut(size);
        let rows = dx.chunks_exact_mut(size).zip(x.chunks_exact(size)).zip(dy.chunks_exact(size));
        for (row, (((dx, x), dy), statistics)) in rows.zip(statistics).enumerate() {
            backward_row::<T, V>(dx, x, dy, gamma, *statistics, dgamma, dbeta);
            if row % RUN == RUN - 1 {
                flush(dgamma, dbeta, totals);
            }
        }
        flush(dgamma, dbeta, totals);
    }
}

/// dx = rstd·(γ·dy − Σγ·dy/D − x̂·Σγ·dy·x̂/D).
#[inline(always)]
fn backward_row<T: Real, V: Vector<T>>(
    dx: &mut [T],
    x: &[T],
    dy: &[T],
    gamma: &[T],
    [mean, rstd]: Statistics,
    dgamma: &mut [T],
    dbeta: &mut [T],
) {
    let centre = V::splat(T::from_f64(mean));
    let (mut with_x, mut plain) = (0.0, 0.0);
    for ((x, dy), gamma) in x.chunks(BLOCK).zip(dy.chunks(BLOCK)).zip(gamma.chunks(BLOCK)) {
        let part = block_sums!(T, V, [x: x, dy: dy, gamma: gamma], (gamma * dy * (x - centre), gamma * dy));
        (with_x, plain) = (with_x + part.0.to_f64(), plain + part.1.to_f64());
    }
    let count = gamma.len() as f64;
    let q = V::splat(T::from_f64(-rstd * rstd * rstd * with_x / count));
    let r = V::splat(T::from_f64(-rstd * plain / count));
    let rstd = V::splat(T::from_f64(rstd));
    // One loop for all three: the row and its gradient are loaded once.
    let mut start = 0;
    while start < dx.len() {
        let (x, dy, gamma) = (V::load(x, start) - centre, V::load(dy, start), V::load(gamma, start));
        (gamma * dy).fused(rstd, x.fused(q, r)).store(dx, start);
        dy.fused(x * rstd, V::load(dgamma, start)).store(dgamma, start);
        (V::load(dbeta, start) + dy).store(dbeta, start);
        start += V::LANES;
    }
}

#[inline(always)]
fn flush<T: Real>(dgamma: &mut [T], dbeta: &mut [T], totals: &mut [f64]) {
    for (run, total) in dgamma.iter_mut().chain(dbeta).zip(totals) {
        *total += run.to_f64();
        *run = T::zero();
    }
}
