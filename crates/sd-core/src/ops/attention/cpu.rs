//! Attention on the CPU: the definition, and a blocked path for every element type whose products go to `gemm`.
//!
//! The blocked path holds the probabilities of some rows of queries at a time, [`BLOCK`] numbers a thread.

use std::ops::Range;

use rayon::prelude::*;

use super::Dims;
#[cfg(target_arch = "x86_64")]
use super::tiled;
use crate::ops::Real;
use crate::ops::buffer::written;
use crate::ops::lanes::{block_sums, largest, update};
use crate::ops::matmul::{View, product};
use crate::ops::moments::BLOCK as BLOCK_SUM;
use crate::ops::simd::vectorised;

/// Probabilities held at a time, about.
const BLOCK: usize = 1 << 18;

/// Operands of the backward, row-major: q, y, dy (B·H, Tq, D), k, v (B·H, Tk, D), and what the forward kept.
pub(super) struct Saved<'a, T> {
    pub(super) q: &'a [T],
    pub(super) k: &'a [T],
    pub(super) v: &'a [T],
    pub(super) y: &'a [T],
    pub(super) dy: &'a [T],
    /// log₂ Σ e^logit of every query.
    pub(super) lse: &'a [T],
}

impl<T> Saved<'_, T> {
    /// That of one head.
    pub(super) fn of_head(&self, dims: &Dims, head: usize) -> Self {
        let (per_q, per_k) = (dims.queries * dims.head, dims.keys * dims.head);
        let (queries, keys) = (head * per_q..(head + 1) * per_q, head * per_k..(head + 1) * per_k);
        Self {
            q: &self.q[queries.clone()],
            k: &self.k[keys.clone()],
            v: &self.v[keys],
            y: &self.y[queries.clone()],
            dy: &self.dy[queries],
            lse: &self.lse[head * dims.queries..][..dims.queries],
        }
    }

    /// That of some queries of a head, with all of its keys.
    pub(super) fn of_queries(&self, dims: &Dims, queries: Range<usize>) -> Self {
        let numbers = queries.start * dims.head..queries.end * dims.head;
        Self {
            q: &self.q[numbers.clone()],
            y: &self.y[numbers.clone()],
            dy: &self.dy[numbers],
            lse: &self.lse[queries],
            ..*self
        }
    }
}

/// y and, of every query, log₂ Σ e^logit.
pub(super) fn forward_f32(dims: &Dims, q: &[f32], k: &[f32], v: &[f32]) -> (Vec<f32>, Vec<f32>) {
    #[cfg(target_arch = "x86_64")]
    if crate::ops::tile::available() {
        let mut lse = Vec::new();
        let write = |y: &mut [f32]| {
            let write = |lse: &mut [f32]| tiled::forward(dims, q, k, v, y, lse);
            // SAFETY: the blocks cover the queries, and each stores the sum of every query of its own.
            lse = unsafe { written(dims.heads * dims.queries, write) };
        };
        // SAFETY: as above, of every query's row of y.
        return (unsafe { written(q.len(), write) }, lse);
    }
    forward(dims, q, k, v)
}

/// (dq, dk, dv).
pub(super) fn backward_f32(dims: &Dims, saved: &Saved<'_, f32>) -> [Vec<f32>; 3] {
    #[cfg(target_arch = "x86_64")]
    if crate::ops::tile::available() {
        let [mut dq, mut dk, mut dv] = [saved.q, saved.k, saved.v].map(|like| vec![0.0; like.len()]);
        tiled::backward(dims, saved, &mut dq, &mut dk, &mut dv);
        return [dq, dk, dv];
    }
    backward(dims, saved)
}

/// y and, of every query, log₂ Σ e^logit.
pub(super) fn forward<T: Real>(dims: &Dims, q: &[T], k: &[T], v: &[T]) -> (Vec<T>, Vec<T>) {
    let mut y = vec![T::zero(); q.len()];
    let mut lse = vec![T::zero(); dims.heads * dims.queries];
    let (per_q, per_k) = (dims.queries * dims.head, dims.keys * dims.head);
    y.par_chunks_mut(per_q).zip(lse.par_chunks_mut(dims.queries)).enumerate().for_each(|(head, (y, lse))| {
        let (q, k, v) = (&q[head * per_q..], &k[head * per_k..][..per_k], &v[head * per_k..][..per_k]);
        let rows = block(dims);
        let blocks = y.par_chunks_mut(rows * dims.head).zip(lse.par_chunks_mut(rows)).enumerate();
        blocks.for_each(|(index, (y, lse))| {
            let first = index * rows;
            let mut p = logits(dims, &q[first * dims.head..][..y.len()], k);
            normalise(dims, first..first + lse.len(), &mut p, lse);
            let p = View::new(&p, lse.len(), dims.keys);
            product(y, dims.head, p, View::new(v, dims.keys, dims.head), false);
        });
    });
    (y, lse)
}

/// Queries whose probabilities are held together.
fn block(dims: &Dims) -> usize {
    (BLOCK / dims.keys).max(1)
}

/// scale · q·kᵀ of some rows.
fn logits<T: Real>(dims: &Dims, q: &[T], k: &[T]) -> Vec<T> {
    let scale = T::from_f64(dims.scale);
    let scaled: Vec<T> = q.iter().map(|q| *q * scale).collect();
    let rows = q.len() / dims.head;
    let mut logits = vec![T::zero(); rows * dims.keys];
    let keys = View::new(k, dims.keys, dims.head).transposed();
    product(&mut logits, dims.keys, View::new(&scaled, rows, dims.head), keys, false);
    logits
}

/// Keys that query `query` sees.
fn seen(dims: &Dims, query: usize) -> usize {
    if dims.causal { dims.keys.min(query + 1) } else { dims.keys }
}

/// Logits → probabilities, and log₂ Σ e^logit of each row.
fn normalise<T: Real>(dims: &Dims, rows: Range<usize>, p: &mut [T], lse: &mut [T]) {
    for ((query, p), lse) in rows.zip(p.chunks_exact_mut(dims.keys)).zip(lse) {
        let (seen, hidden) = p.split_at_mut(seen(dims, query));
        hidden.fill(T::zero());
        *lse = normalise_row(seen);
    }
}

vectorised! {
    /// Logits of one query → probabilities; returns log₂ Σ e^logit.
    fn normalise_row<T, V>(p: &mut [T]) -> T {
        let highest = largest::<T, V>(p);
        let top = V::splat(highest);
        update!(T, V, logit, p, [], (logit - top).exp_of_negative());
        let nothing = V::splat(T::zero());
        let mut total = 0.0;
        for p in p.chunks(BLOCK_SUM) {
            total += block_sums!(T, V, [p: p], (p, nothing)).0.to_f64();
        }
        let share = V::splat(T::from_f64(1.0 / total));
        update!(T, V, power, p, [], power * share);
        T::from_f64((highest.to_f64() + total.ln()) / std::f64::consts::LN_2)
    }
}

/// (dq, dk, dv).
pub(super) fn backward<T: Real>(dims: &Dims, saved: &Saved<'_, T>) -> [Vec<T>; 3] {
    let [mut dq, mut dk, mut dv] = [saved.q, saved.k, saved.v].map(|like| vec![T::zero(); like.len()]);
    let (per_q, per_k) = (dims.queries * dims.head, dims.keys * dims.head);
    let gradients = dq.par_chunks_mut(per_q).zip(dk.par_chunks_mut(per_k)).zip(dv.par_chunks_mut(per_k));
    gradients.enumerate().for_each(|(head, ((dq, dk), dv))| {
        let saved = saved.of_head(dims, head);
        backward_head(dims, &saved, dq, dk, dv);
    });
    [dq, dk, dv]
}

/// Writes dq, adds to dk and dv.
fn backward_head<T: Real>(dims: &Dims, saved: &Saved<'_, T>, dq: &mut [T], dk: &mut [T], dv: &mut [T]) {
    let part = dims.part(block(dims));
    let sums: Vec<[Vec<T>; 2]> = (dq.par_chunks_mut(part * dims.head).enumerate())
        .map(|(index, dq)| {
            let [mut dk, mut dv] = [(); 2].map(|()| vec![T::zero(); saved.k.len()]);
            backward_part(dims, index * part, saved, dq, &mut dk, &mut dv);
            [dk, dv]
        })
        .collect();
    for [part_dk, part_dv] in sums {
        dk.iter_mut().zip(part_dk).for_each(|(total, part)| *total += part);
        dv.iter_mut().zip(part_dv).for_each(|(total, part)| *total += part);
    }
}

/// The queries from `first` on to which `dq` belongs, block by block.
fn backward_part<T: Real>(
    dims: &Dims,
    first: usize,
    saved: &Saved<'_, T>,
    dq: &mut [T],
    dk: &mut [T],
    dv: &mut [T],
) {
    for (index, dq) in dq.chunks_mut(block(dims) * dims.head).enumerate() {
        let start = first + index * block(dims);
        let rows = start..start + dq.len() / dims.head;
        let saved = saved.of_queries(dims, rows.clone());
        backward_rows(dims, rows, &saved, dq, dk, dv);
    }
}

/// One block of queries of one head: writes dq, adds to dk and dv.
fn backward_rows<T: Real>(
    dims: &Dims,
    rows: Range<usize>,
    saved: &Saved<'_, T>,
    dq: &mut [T],
    dk: &mut [T],
    dv: &mut [T],
) {
    let (count, head) = (rows.len(), dims.head);
    let mut p = logits(dims, saved.q, saved.k);
    let mut ds = vec![T::zero(); p.len()];
    let dy = View::new(saved.dy, count, head);
    product(&mut ds, dims.keys, dy, View::new(saved.v, dims.keys, head).transposed(), false);
    for (index, (p, ds)) in p.chunks_exact_mut(dims.keys).zip(ds.chunks_exact_mut(dims.keys)).enumerate() {
        let row = index * head..(index + 1) * head;
        let dot: f64 =
            saved.dy[row.clone()].iter().zip(&saved.y[row]).map(|(a, b)| a.to_f64() * b.to_f64()).sum();
        let seen = seen(dims, rows.start + index);
        let lse = saved.lse[index].to_f64() * std::f64::consts::LN_2;
        let (seen_p, hidden_p) = p.split_at_mut(seen);
        let (seen_ds, hidden_ds) = ds.split_at_mut(seen);
        hidden_p.fill(T::zero());
        hidden_ds.fill(T::zero());
        probabilities(seen_p, seen_ds, [lse, dot, dims.scale].map(T::from_f64));
    }
    let (p, ds) = (View::new(&p, count, dims.keys), View::new(&ds, count, dims.keys));
    product(dq, head, ds, View::new(saved.k, dims.keys, head), false);
    product(dk, head, ds.transposed(), View::new(saved.q, count, head), true);
    product(dv, head, p.transposed(), dy, true);
}

vectorised! {
    /// For one query, `row` its lse, dot and scale: logits → P = e^(logit − lse), and dP → dS = P ∘ (dP − dot) · scale.
    fn probabilities<T, V>(p: &mut [T], ds: &mut [T], row: [T; 3]) {
        let [lse, dot, scale] = row.map(V::splat);
        update!(T, V, logit, p, [], (logit - lse).exp_of_negative());
        update!(T, V, gradient, ds, [p: p], p * (gradient - dot) * scale);
    }
}

/// The definition, in the reader's order: what every other path is tested against. Returns (y, dq, dk, dv) for a given dy.
#[cfg(test)]
pub(super) fn reference(dims: &Dims, [q, k, v, dy]: [&[f64]; 4]) -> [Vec<f64>; 4] {
    let size = dims.head;
    let [mut y, mut dq, mut dk, mut dv] = [q, q, k, v].map(|like| vec![0.0; like.len()]);
    let dot = |a: &[f64], i: usize, b: &[f64], j: usize| -> f64 {
        (0..size).map(|d| a[i * size + d] * b[j * size + d]).sum()
    };
    for head in 0..dims.heads {
        for query in 0..dims.queries {
            let i = head * dims.queries + query;
            let keys: Vec<usize> = (0..seen(dims, query)).map(|key| head * dims.keys + key).collect();
            let logits: Vec<f64> = keys.iter().map(|j| dims.scale * dot(q, i, k, *j)).collect();
            let total: f64 = logits.iter().map(|x| x.exp()).sum();
            let p: Vec<f64> = logits.iter().map(|x| x.exp() / total).collect();
            let dp: Vec<f64> = keys.iter().map(|j| dot(dy, i, v, *j)).collect();
            let mean: f64 = p.iter().zip(&dp).map(|(p, dp)| p * dp).sum();
            for ((j, p), dp) in keys.iter().zip(&p).zip(&dp) {
                let ds = p * (dp - mean) * dims.scale;
                for d in 0..size {
                    y[i * size + d] += p * v[j * size + d];
                    dq[i * size + d] += ds * k[j * size + d];
                    dk[j * size + d] += ds * q[i * size + d];
                    dv[j * size + d] += p * dy[i * size + d];
                }
            }
        }
    }
    [y, dq, dk, dv]
}
