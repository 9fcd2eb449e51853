//! Bilinear resize on the CPU: rows are blended vertically as vectors, and the blended row horizontally.

use super::Resize;
use crate::ops::Real;
use crate::ops::buffer::written;
use crate::ops::lanes::{map, update};
use crate::ops::pieces::{each, rows_for};
use crate::ops::simd::vectorised;

/// Elements in a piece of work.
const PIECE: usize = 1 << 14;

/// Where an output lies among the inputs: `(1 − weight)·x[low] + weight·x[high]`.
#[derive(Clone, Copy)]
struct Tap<T> {
    low: usize,
    high: usize,
    weight: T,
}

/// The taps of every output of an axis, in the precision of the elements as PyTorch has them.
fn taps<T: Real>(input: usize, output: usize, align_corners: bool) -> Vec<Tap<T>> {
    let of = |count: usize| T::from_f64(count as f64);
    let half = T::from_f64(0.5);
    let scale = match (align_corners, output) {
        (false, _) => of(input) / of(output),
        (true, 1) => T::zero(),
        (true, _) => of(input - 1) / of(output - 1),
    };
    let tap = |index: usize| {
        let at = if align_corners { of(index) * scale } else { (of(index) + half) * scale - half };
        let at = if at > T::zero() { at } else { T::zero() };
        let low = (at.to_f64() as usize).min(input - 1);
        Tap { low, high: (low + 1).min(input - 1), weight: at - of(low) }
    };
    (0..output).map(tap).collect()
}

/// Both axes.
struct Grid<T> {
    rows: Vec<Tap<T>>,
    columns: Vec<Tap<T>>,
    /// Elements of a plane of x.
    input: usize,
    /// Elements of a row of x.
    width: usize,
}

impl<T: Real> Grid<T> {
    fn new(op: &Resize) -> Self {
        Self {
            rows: taps(op.input.0, op.output.0, op.align_corners),
            columns: taps(op.input.1, op.output.1, op.align_corners),
            input: op.input.0 * op.input.1,
            width: op.input.1,
        }
    }

    fn output(&self) -> usize {
        self.rows.len() * self.columns.len()
    }
}

pub(super) fn forward<T: Real>(x: &[T], op: &Resize) -> Vec<T> {
    let grid = Grid::new(op);
    let planes = rows_for(grid.output(), PIECE);
    let write = |y: &mut [T]| {
        each(y, planes * grid.output(), |piece, y| resize(y, &x[piece * planes * grid.input..], &grid));
    };
    // SAFETY: the pieces cover y, and `resize` stores every element of its piece.
    unsafe { written(op.planes * grid.output(), write) }
}

vectorised! {
    fn resize<T, V>(y: &mut [T], x: &[T], grid: &Grid<T>) {
        let mut blended = vec![T::zero(); grid.width];
        for (y, x) in y.chunks_exact_mut(grid.output()).zip(x.chunks_exact(grid.input)) {
            for (y, row) in y.chunks_exact_mut(grid.columns.len()).zip(&grid.rows) {
                let (upper, lower) = (V::splat(T::one() - row.weight), V::splat(row.weight));
                let (low, high) = (&x[row.low * grid.width..], &x[row.high * grid.width..]);
                map!(T, V, &mut blended, [a: low, b: high], a.fused(upper, b * lower));
                for (y, column) in y.iter_mut().zip(&grid.columns) {
                    *y = blended[column.low] * (T::one() - column.weight) + blended[column.high] * column.weight;
                }
            }
        }
    }
}

pub(super) fn backward<T: Real>(dy: &[T], op: &Resize) -> Vec<T> {
    let grid = Grid::new(op);
    let planes = rows_for(grid.output().max(grid.input), PIECE);
    let write = |dx: &mut [T]| {
        each(dx, planes * grid.input, |piece, dx| spread(dx, &dy[piece * planes * grid.output()..], &grid));
    };
    // SAFETY: the pieces cover dx, and `spread` fills its piece with zeros before it adds.
    unsafe { written(op.planes * grid.input, write) }
}

vectorised! {
    /// The transpose of [`resize`]: each row of dy is gathered in the columns of x, then added to two rows of dx.
    fn spread<T, V>(dx: &mut [T], dy: &[T], grid: &Grid<T>) {
        dx.fill(T::zero());
        let mut gathered = vec![T::zero(); grid.width];
        for (dx, dy) in dx.chunks_exact_mut(grid.input).zip(dy.chunks_exact(grid.output())) {
            for (dy, row) in dy.chunks_exact(grid.columns.len()).zip(&grid.rows) {
                gathered.fill(T::zero());
                for (&dy, column) in dy.iter().zip(&grid.columns) {
                    gathered[column.low] += dy * (T::one() - column.weight);
                    gathered[column.high] += dy * column.weight;
                }
                for (index, weight) in [(row.low, T::one() - row.weight), (row.high, row.weight)] {
                    let weight = V::splat(weight);
                    let dx = &mut dx[index * grid.width..(index + 1) * grid.width];
                    update!(T, V, sum, dx, [g: gathered], g.fused(weight, sum));
                }
            }
        }
    }
}
