//! The gradient of attention in `f32` with AVX-512 or AVX2: all five products of a block of queries and a block of keys while its probabilities
//! are in cache. Heads run in parallel and, where they are few, parts of a head's queries, each with sums of its own for the keys.

use std::ops::Range;

use rayon::prelude::*;

use super::super::Dims;
use super::super::cpu::Saved;
use super::{
    KEYS, PANEL, Panels, QUERIES, View, by_panels, exp2, lanes, pack_columns, pack_left, pack_turned,
    products, read_row,
};
use crate::ops::scratch::Scratch;
use crate::ops::simd::{Sixteen, on_sixteen};
use crate::ops::tile::{LANES, MAX_ROWS, Rows, even_pieces};

/// dq, dk and dv.
pub(in super::super) fn backward(
    dims: &Dims,
    saved: &Saved<'_, f32>,
    dq: &mut [f32],
    dk: &mut [f32],
    dv: &mut [f32],
) {
    let (per_q, per_k) = (dims.queries * dims.head, dims.keys * dims.head);
    let gradients = dq.par_chunks_mut(per_q).zip(dk.par_chunks_mut(per_k)).zip(dv.par_chunks_mut(per_k));
    gradients.enumerate().for_each(|(head, ((dq, dk), dv))| {
        let saved = saved.of_head(dims, head);
        // SAFETY: `available` was asked before.
        unsafe { backward_head(dims, &saved, dq, dk, dv) };
    });
}

/// One head's operands, packed.
struct Head {
    keys_turned: Scratch,
    values_turned: Scratch,
    keys: Scratch,
    panels: Panels,
}

/// Sums for the keys of a head, over some of its queries.
struct Sums {
    dk: Scratch,
    dv: Scratch,
}

impl Sums {
    fn new(panels: Panels) -> Self {
        let [dk, dv] = std::array::from_fn(|_| Scratch::new(panels.len()));
        // SAFETY: room was just made.
        unsafe {
            std::ptr::write_bytes(dk.start(), 0, panels.len());
            std::ptr::write_bytes(dv.start(), 0, panels.len());
        }
        Self { dk, dv }
    }
}

impl Head {
    fn new(dims: &Dims, k: &[f32], v: &[f32]) -> Self {
        let panels = Panels { rows: dims.keys, columns: dims.head };
        let turned = dims.keys.next_multiple_of(PANEL) * dims.head;
        let [keys_turned, values_turned] = [Scratch::new(turned), Scratch::new(turned)];
        let keys = Scratch::new(panels.len());
        // SAFETY: room was just made.
        unsafe {
            pack_turned(k, dims.head, keys_turned.start());
            pack_turned(v, dims.head, values_turned.start());
            pack_columns(k, dims.head, panels, keys.start());
        }
        Self { keys_turned, values_turned, keys, panels }
    }
}

/// # Safety
/// The machine has AVX2.
unsafe fn backward_head(dims: &Dims, saved: &Saved<'_, f32>, dq: &mut [f32], dk: &mut [f32], dv: &mut [f32]) {
    let head = Head::new(dims, saved.k, saved.v);
    let part = dims.part(QUERIES);
    let parts: Vec<Sums> = (dq.par_chunks_mut(part * dims.head).enumerate())
        .map(|(index, dq)| {
            let sums = Sums::new(head.panels);
            // SAFETY: as here.
            unsafe { backward_part(dims, &head, &sums, index * part, saved, dq) };
            sums
        })
        .collect();
    for (index, Sums { dk: from_dk, dv: from_dv }) in parts.iter().enumerate() {
        for (sums, to) in [(from_dk, &mut *dk), (from_dv, &mut *dv)] {
            for (row, to) in to.chunks_exact_mut(dims.head).enumerate() {
                // SAFETY: the sums hold a row for every key.
                unsafe { read_row(sums.start(), head.panels, row, 1.0, index > 0, to) };
            }
        }
    }
}

/// The queries from `first` on to which `dq` belongs, block by block.
///
/// # Safety
/// The machine has AVX2.
unsafe fn backward_part(
    dims: &Dims,
    head: &Head,
    sums: &Sums,
    first: usize,
    saved: &Saved<'_, f32>,
    dq: &mut [f32],
) {
    for (block, dq) in dq.chunks_mut(QUERIES * dims.head).enumerate() {
        let start = first + block * QUERIES;
        let queries = start..start + dq.len() / dims.head;
        let saved = saved.of_queries(dims, queries.clone());
        // SAFETY: as here.
        unsafe { backward_block(dims, head, sums, queries, &saved, dq) };
    }
}

/// A block of queries, packed for the five products.
struct Block {
    /// (head size, rows) of every tile: q times the factor of the logits, and dy.
    q_left: Scratch,
    dy_left: Scratch,
    /// The same rows as panels.
    q: Scratch,
    dy: Scratch,
    dq: Scratch,
    /// Probabilities and their gradients, (queries, 128).
    p: Scratch,
    ds: Scratch,
    panels: Panels,
    /// Σ_d dy·y of every query.
    dots: Vec<f32>,
    tiles: Vec<Range<usize>>,
}

impl Block {
    fn new(dims: &Dims, saved: &Saved<'_, f32>) -> Self {
        let (head, queries) = (dims.head, saved.lse.len());
        let panels = Panels { rows: queries, columns: head };
        let [q_left, dy_left] = std::array::from_fn(|_| Scratch::new(queries * head));
        let [q, dy, dq] = std::array::from_fn(|_| Scratch::new(panels.len()));
        let [p, ds] = std::array::from_fn(|_| Scratch::new(queries * KEYS));
        let tiles: Vec<Range<usize>> = even_pieces(queries, MAX_ROWS).collect();
        // SAFETY: room was just made.
        unsafe {
            for tile in &tiles {
                let (numbers, at) = (tile.start * head..tile.end * head, tile.start * head);
                pack_left(&saved.q[numbers.clone()], head, dims.factor(), q_left.start().add(at));
                pack_left(&saved.dy[numbers], head, 1.0, dy_left.start().add(at));
            }
            pack_columns(saved.q, head, panels, q.start());
            pack_columns(saved.dy, head, panels, dy.start());
            std::ptr::write_bytes(dq.start(), 0, panels.len());
        }
        let rows = saved.dy.chunks_exact(head).zip(saved.y.chunks_exact(head));
        let dots = rows.map(|(dy, y)| dy.iter().zip(y).map(|(a, b)| a * b).sum()).collect();
        Self { q_left, dy_left, q, dy, dq, p, ds, panels, dots, tiles }
    }
}

on_sixteen! {
    /// # Safety
    /// The machine has AVX2.
    unsafe fn backward_block<V>(
        dims: &Dims,
        head: &Head,
        totals: &Sums,
        queries: Range<usize>,
        saved: &Saved<'_, f32>,
        dq: &mut [f32],
    ) {
        let view = View { keys: dims.keys, causal: dims.causal };
        let block = Block::new(dims, saved);
        for start in (0..view.of(queries.end - 1)).step_by(KEYS) {
            let width = (dims.keys - start).min(KEYS);
            for tile in &block.tiles {
                // SAFETY: as here; the keys from `start` are in the packed operands.
                unsafe {
                    probabilities::<V>(dims, head, &block, saved.lse, tile.clone(), queries.start, start, width)
                };
            }
            // SAFETY: as above.
            unsafe { sums(dims, head, totals, &block, start, width) };
        }
        for (row, to) in dq.chunks_exact_mut(dims.head).enumerate() {
            // SAFETY: dq holds a row for every query of the block.
            unsafe { read_row(block.dq.start(), block.panels, row, 1.0, false, to) };
        }
    }
}

/// For one tile of queries and a block of keys: P and dS = P ∘ (dP − Σ dy·y) · scale.
///
/// # Safety
/// The machine has the registers of `V`; `start + width` keys are packed.
#[inline(always)]
#[expect(
    clippy::too_many_arguments,
    reason = "one place calls it, and a struct would name each of them twice"
)]
unsafe fn probabilities<V: Sixteen>(
    dims: &Dims,
    head: &Head,
    block: &Block,
    lse: &[f32],
    tile: Range<usize>,
    first: usize,
    start: usize,
    width: usize,
) {
    let (rows, size) = (tile.len(), dims.head);
    let view = View { keys: dims.keys, causal: dims.causal };
    let scale = V::splat(dims.scale as f32);
    // SAFETY: rows of the block's buffers, keys of the head's.
    unsafe {
        let (p, ds) = (block.p.start().add(tile.start * KEYS), block.ds.start().add(tile.start * KEYS));
        let (q, dy) =
            (block.q_left.start().add(tile.start * size), block.dy_left.start().add(tile.start * size));
        products(rows, size, q, head.keys_turned.start().add(start * size), p, width);
        products(rows, size, dy, head.values_turned.start().add(start * size), ds, width);
        for (row, query) in tile.enumerate() {
            let seen = view.of(first + query).saturating_sub(start);
            let (lse, dot) = (V::splat(lse[query]), V::splat(block.dots[query]));
            for key in (0..width).step_by(LANES) {
                let (p, ds) = (p.add(row * KEYS + key), ds.add(row * KEYS + key));
                let seen = lanes(key, seen);
                let power = exp2(V::read(p) - lse).keep(seen);
                let gap = (V::read(ds) - dot) * scale;
                power.write(p);
                // Cut off, since what lies beyond the last key is 0 · unknown.
                (power * gap).keep(seen).write(ds);
            }
        }
    }
}

/// dq += dS·K, dk += dSᵀ·Q, dv += Pᵀ·dy for a block of queries and a block of keys.
///
/// # Safety
/// The machine has AVX2; `start + width` keys are packed.
unsafe fn sums(dims: &Dims, head: &Head, totals: &Sums, block: &Block, start: usize, width: usize) {
    let queries = block.panels.rows;
    debug_assert_eq!(dims.head, block.panels.columns, "the block was packed for another head size");
    // SAFETY: rows of the block's buffers, keys of the head's and of its sums.
    unsafe {
        for tile in &block.tiles {
            let keys = ((head.keys.start().cast_const(), head.panels), start);
            let dq = ((block.dq.start(), block.panels), tile.start);
            by_panels(tile.len(), Rows::Of128, width, block.ds.start().add(tile.start * KEYS), keys, dq);
        }
        for keys in even_pieces(width, MAX_ROWS) {
            let at = start + keys.start;
            for (left, right, sum) in [(&block.ds, &block.q, &totals.dk), (&block.p, &block.dy, &totals.dv)] {
                let right = ((right.start().cast_const(), block.panels), 0);
                let sum = ((sum.start(), head.panels), at);
                by_panels(keys.len(), Rows::Turned128, queries, left.start().add(keys.start), right, sum);
            }
        }
    }
}
