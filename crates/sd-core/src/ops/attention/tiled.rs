//! Attention in `f32` with AVX-512 or AVX2: tiles of 14 queries × 32 keys in registers, probabilities of 128 keys at a time in cache.
//!
//! Forward: for a tile of queries and a block of keys, logits, their running maximum and sum, and the products with the values are
//! finished before the next block is read (Rabe and Staats 2021; Dao et al. 2022, algorithm 1). Backward: the probabilities are made
//! again from the saved logarithm of the sum, and all five products are taken while they are in cache (Dao et al. 2022, algorithm 4).
//! Logits are kept in units of ln 2, so that e^x is 2^x and costs one instruction less.

mod backward;

use rayon::prelude::*;

pub(super) use self::backward::backward;
use super::Dims;
use crate::ops::scratch::Scratch;
use crate::ops::simd::{Sixteen, on_sixteen};
use crate::ops::tile::{self, Depth, LANES, LONG_ROW as KEYS, MAX_ROWS, Rows, even_pieces};

/// Columns of a panel.
const PANEL: usize = 2 * LANES;
/// Queries that share a block of keys while it is in cache.
const QUERIES: usize = 8 * MAX_ROWS;

/// Where the columns of a matrix packed as panels lie: panel by panel, in each the rows one after the other, of 32 columns or, at
/// the end, 16.
#[derive(Clone, Copy)]
struct Panels {
    rows: usize,
    columns: usize,
}

impl Panels {
    fn len(self) -> usize {
        self.rows * self.columns.next_multiple_of(LANES)
    }

    /// (first element, columns) of every panel.
    fn each(self) -> impl Iterator<Item = (usize, usize)> {
        (0..self.columns).step_by(PANEL).map(move |column| {
            let width = if self.columns - column > LANES { PANEL } else { LANES };
            (column * self.rows, width)
        })
    }
}

/// Packs the rows of a (rows × columns) matrix as [`Panels`], with zeros where there is no row or column.
///
/// # Safety
/// `to` has room for `panels.len()` numbers.
unsafe fn pack_columns(from: &[f32], columns: usize, panels: Panels, to: *mut f32) {
    for (index, (start, width)) in panels.each().enumerate() {
        let first = index * PANEL;
        let used = width.min(columns - first);
        for row in 0..panels.rows {
            // SAFETY: row `row` of a panel of `panels`.
            let target = unsafe { std::slice::from_raw_parts_mut(to.add(start + row * width), width) };
            match from.get(row * columns + first..row * columns + first + used) {
                Some(source) => {
                    target[..used].copy_from_slice(source);
                    target[used..].fill(0.0);
                }
                None => target.fill(0.0),
            }
        }
    }
}

/// Packs the transpose of a (rows × columns) matrix: for every 32 rows (columns, 32), with zeros where there is no row.
///
/// # Safety
/// `to` has room for `rows` up to a multiple of 32, times `columns`.
unsafe fn pack_turned(from: &[f32], columns: usize, to: *mut f32) {
    for (index, rows) in from.chunks(PANEL * columns).enumerate() {
        // SAFETY: panel `index`.
        let panel =
            unsafe { std::slice::from_raw_parts_mut(to.add(index * PANEL * columns), PANEL * columns) };
        for (column, lanes) in panel.chunks_exact_mut(PANEL).enumerate() {
            lanes.fill(0.0);
            for (lane, row) in lanes.iter_mut().zip(rows.chunks_exact(columns)) {
                *lane = row[column];
            }
        }
    }
}

/// Packs rows as the left operand of a tile, (columns, rows), times `factor`.
///
/// # Safety
/// `to` has room for them.
unsafe fn pack_left(from: &[f32], columns: usize, factor: f32, to: *mut f32) {
    let rows = from.len() / columns;
    for (row, numbers) in from.chunks_exact(columns).enumerate() {
        for (column, number) in numbers.iter().enumerate() {
            // SAFETY: within rows × columns.
            unsafe { *to.add(column * rows + row) = number * factor };
        }
    }
}

/// 2^x for x ≤ 0 (or above it by no more than rounding), relative error below 10⁻⁷; 0 for −∞.
///
/// x = n + f with f in −½ ..= ½; 2^f by the polynomial of degree 6 through the Chebyshev points, error 3·10⁻⁹.
#[inline(always)]
fn exp2<V: Sixteen>(x: V) -> V {
    const COEFFICIENTS: [f32; 6] =
        [0.001_340_042_8, 0.009_618_057, 0.055_503_27, 0.240_226_5, std::f32::consts::LN_2, 1.0];
    // Below −126 − 24 the result is 0 all the same, and −∞ minus itself is avoided. In this order a NaN stays one.
    let x = x.larger(V::splat(-200.0));
    let whole = x.rounded();
    let rest = x - whole;
    let mut power = V::splat(0.000_154_614_44);
    for coefficient in COEFFICIENTS {
        power = power.multiply_add(rest, V::splat(coefficient));
    }
    power.scale(whole)
}

/// How many of the 16 keys beginning at `first` are below `visible`.
fn lanes(first: usize, visible: usize) -> usize {
    visible.saturating_sub(first).min(LANES)
}

/// `C[r] (+)= Σ_k A[k, r] · B[k]` over all panels of B; C lies in panels of `c.rows` rows.
///
/// # Safety
/// As for [`tile::product`], for every panel.
unsafe fn by_panels(
    rows: usize,
    order: Rows,
    depth: usize,
    a: *const f32,
    (b, b_row): ((*const f32, Panels), usize),
    (c, c_row): ((*mut f32, Panels), usize),
) {
    for ((b_start, width), (c_start, _)) in b.1.each().zip(c.1.each()) {
        // SAFETY: the caller's promise.
        unsafe {
            let b = b.0.add(b_start + b_row * width);
            let c = (c.0.add(c_start + c_row * width), width);
            match width {
                PANEL => tile::product::<2>(rows, order, Depth::flat(depth), a, b, c, true),
                _ => tile::product::<1>(rows, order, Depth::flat(depth), a, b, c, true),
            }
        }
    }
}

/// What a block of queries sees of the keys.
#[derive(Clone, Copy)]
struct View {
    keys: usize,
    causal: bool,
}

impl View {
    /// Keys that query `query` sees.
    fn of(self, query: usize) -> usize {
        if self.causal { self.keys.min(query + 1) } else { self.keys }
    }
}

/// y (B·H, Tq, D) and, for the backward, the base-2 logarithm of Σ e^logit of every query.
pub(super) fn forward(dims: &Dims, q: &[f32], k: &[f32], v: &[f32], y: &mut [f32], lse: &mut [f32]) {
    let (per_q, per_k) = (dims.queries * dims.head, dims.keys * dims.head);
    let heads = y.par_chunks_mut(per_q).zip(lse.par_chunks_mut(dims.queries)).enumerate();
    heads.for_each(|(head, (y, lse))| {
        let (q, k) = (&q[head * per_q..][..per_q], &k[head * per_k..][..per_k]);
        let keys = Keys::new(dims, k, &v[head * per_k..][..per_k]);
        let blocks = y.par_chunks_mut(QUERIES * dims.head).zip(lse.par_chunks_mut(QUERIES));
        blocks.zip(q.par_chunks(QUERIES * dims.head)).enumerate().for_each(|(block, ((y, lse), q))| {
            // SAFETY: `available` was asked before.
            unsafe { forward_block(dims, block * QUERIES, q, &keys, y, lse) };
        });
    });
}

/// One head's keys, transposed, and values, as panels.
struct Keys {
    turned: Scratch,
    values: Scratch,
    panels: Panels,
}

impl Keys {
    fn new(dims: &Dims, k: &[f32], v: &[f32]) -> Self {
        let panels = Panels { rows: dims.keys, columns: dims.head };
        let turned = Scratch::new(dims.keys.next_multiple_of(PANEL) * dims.head);
        let values = Scratch::new(panels.len());
        // SAFETY: room was just made.
        unsafe {
            pack_turned(k, dims.head, turned.start());
            pack_columns(v, dims.head, panels, values.start());
        }
        Self { turned, values, panels }
    }
}

on_sixteen! {
    /// One block of queries of one head, those from `first` on.
    ///
    /// # Safety
    /// The machine has AVX2.
    unsafe fn forward_block<V>(dims: &Dims, first: usize, q: &[f32], keys: &Keys, y: &mut [f32], lse: &mut [f32]) {
        let (head, queries) = (dims.head, lse.len());
        let view = View { keys: dims.keys, causal: dims.causal };
        let out = Panels { rows: queries, columns: head };
        let (left, sums) = (Scratch::new(QUERIES * head), Scratch::new(out.len()));
        let logits = Scratch::new(MAX_ROWS * KEYS);
        let mut running = vec![Running::<V>::new(); queries];
        let tiles: Vec<_> = even_pieces(queries, MAX_ROWS).collect();
        // SAFETY: each pointer moves inside the buffers made above or the keys of this head; rows and keys are bounded by `queries` and
        // `dims.keys`.
        unsafe {
            std::ptr::write_bytes(sums.start(), 0, out.len());
            for tile in &tiles {
                let numbers = &q[tile.start * head..tile.end * head];
                pack_left(numbers, head, dims.factor(), left.start().add(tile.start * head));
            }
            for start in (0..view.of(first + queries - 1)).step_by(KEYS) {
                for tile in &tiles {
                    let visible = view.of(first + tile.end - 1).saturating_sub(start).min(KEYS);
                    if visible == 0 {
                        continue;
                    }
                    let rows = tile.len();
                    let left = left.start().add(tile.start * head);
                    products(rows, head, left, keys.turned.start().add(start * head), logits.start(), visible);
                    for (row, query) in tile.clone().enumerate() {
                        let seen = view.of(first + query).saturating_sub(start).min(KEYS);
                        let shrink = running[query].take(logits.start().add(row * KEYS), seen, visible);
                        scale_row::<V>(sums.start(), out, query, shrink);
                    }
                    let values = ((keys.values.start().cast_const(), keys.panels), start);
                    by_panels(
                        rows,
                        Rows::Of128,
                        visible,
                        logits.start(),
                        values,
                        ((sums.start(), out), tile.start),
                    );
                }
            }
            for (query, running) in running.iter().enumerate() {
                let total = running.sum.total();
                lse[query] = running.maximum + total.log2();
                let y = &mut y[query * head..(query + 1) * head];
                read_row(sums.start(), out, query, 1.0 / total, false, y);
            }
        }
    }
}

/// Logits (rows × 128) of the first `visible` keys, up to whole panels.
///
/// # Safety
/// As for [`tile::product`].
unsafe fn products(
    rows: usize,
    head: usize,
    left: *const f32,
    keys: *const f32,
    logits: *mut f32,
    visible: usize,
) {
    for key in (0..visible).step_by(PANEL) {
        // SAFETY: the caller's promise; panel key/32 of the keys.
        unsafe {
            let c = (logits.add(key), KEYS);
            tile::product::<2>(rows, Rows::Adjacent, Depth::flat(head), left, keys.add(key * head), c, false);
        }
    }
}

/// Maximum and sum of what a query has seen so far.
#[derive(Clone, Copy)]
struct Running<V> {
    maximum: f32,
    sum: V,
}

impl<V: Sixteen> Running<V> {
    #[inline(always)]
    fn new() -> Self {
        Self { maximum: f32::NEG_INFINITY, sum: V::splat(0.0) }
    }

    /// Turns a row of logits into 2^(logit − maximum), those from `seen` up to `width` into 0, and returns by what everything from
    /// earlier blocks is to be multiplied.
    ///
    /// # Safety
    /// 128 numbers may be read and written at `row`; the machine has the registers of `V`.
    #[inline(always)]
    unsafe fn take(&mut self, row: *mut f32, seen: usize, width: usize) -> f32 {
        let low = V::splat(f32::NEG_INFINITY);
        let mut highest = low;
        for key in (0..seen).step_by(LANES) {
            // SAFETY: the caller's promise.
            let logits = unsafe { V::read(row.add(key)) };
            highest = logits.first(lanes(key, seen), low).larger(highest);
        }
        let maximum = self.maximum.max(highest.largest());
        // A query that has seen nothing, or only −∞, keeps everything at 0.
        let shift = V::splat(if maximum == f32::NEG_INFINITY { 0.0 } else { maximum });
        let shrink = if self.maximum == maximum { 1.0 } else { (self.maximum - maximum).exp2() };
        self.sum = self.sum * V::splat(shrink);
        for key in (0..width).step_by(LANES) {
            // SAFETY: as above.
            unsafe {
                let logits = V::read(row.add(key)) - shift;
                let powers = exp2(logits).keep(lanes(key, seen));
                self.sum += powers;
                powers.write(row.add(key));
            }
        }
        self.maximum = maximum;
        shrink
    }
}

/// Multiplies one row of panels.
///
/// # Safety
/// The panels may be written; the machine has the registers of `V`.
#[inline(always)]
unsafe fn scale_row<V: Sixteen>(start: *mut f32, panels: Panels, row: usize, factor: f32) {
    if factor == 1.0 {
        return;
    }
    for (first, width) in panels.each() {
        for lane in (0..width).step_by(LANES) {
            // SAFETY: the caller's promise.
            unsafe {
                let at = start.add(first + row * width + lane);
                (V::read(at) * V::splat(factor)).write(at);
            }
        }
    }
}

/// One row of panels times `factor`, as adjacent numbers: in the place of `to`, or `add`ed to it.
///
/// # Safety
/// The panels may be read.
unsafe fn read_row(start: *const f32, panels: Panels, row: usize, factor: f32, add: bool, to: &mut [f32]) {
    for ((first, width), to) in panels.each().zip(to.chunks_mut(PANEL)) {
        for (lane, to) in to.iter_mut().enumerate() {
            // SAFETY: the caller's promise.
            let value = unsafe { *start.add(first + row * width + lane) } * factor;
            *to = if add { *to + value } else { value };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    on_sixteen! {
        /// # Safety
        /// The machine has AVX2.
        unsafe fn power<V>(x: f32) -> f32 {
            let mut lanes = [0.0f32; LANES];
            // SAFETY: sixteen numbers into an array of sixteen.
            unsafe { exp2(V::splat(x)).write(lanes.as_mut_ptr()) };
            lanes[3]
        }
    }

    #[test]
    fn powers_of_two_are_near_the_exact_ones() {
        if !tile::available() {
            return;
        }
        for step in 0..20_000 {
            let x = -(step as f32) * 0.0075;
            let exact = f64::from(x).exp2();
            // SAFETY: the machine has AVX2.
            let error = (f64::from(unsafe { power(x) }) - exact).abs();
            assert!(error <= 1.2e-7 * exact + 1.5e-45, "2^{x}: {error:e}");
        }
        // SAFETY: as above.
        let ends = unsafe { [power(f32::NEG_INFINITY), power(-150.0), power(0.0)] };
        assert_eq!(ends, [0.0, 0.0, 1.0]);
        // SAFETY: as above.
        assert!(unsafe { power(f32::NAN) }.is_nan());
    }

    #[test]
    fn lanes_are_those_below_the_end() {
        assert_eq!((lanes(0, 16), lanes(16, 16), lanes(16, 19), lanes(0, 100)), (16, 0, 3, 16));
    }
}
