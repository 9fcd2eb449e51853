//! Nearest up-sampling on the CPU: rows are independent; a written row is copied while it is in the first-level cache.

use crate::ops::Real;
use crate::ops::buffer::written;
use crate::ops::pieces::{each, rows_for};
use crate::ops::simd::vectorised;

/// Elements in a piece of work.
const PIECE: usize = 1 << 14;
/// Pixels widened at a time.
const LANES: usize = 16;

/// `width` is that of x.
pub(super) fn forward<T: Real>(x: &[T], width: usize) -> Vec<T> {
    let rows = rows_for(4 * width, PIECE);
    let write =
        |y: &mut [T]| each(y, rows * 4 * width, |piece, y| widen(y, &x[piece * rows * width..], width));
    // SAFETY: the pieces cover y, and `widen` stores every element of its piece.
    unsafe { written(4 * x.len(), write) }
}

vectorised! {
    fn widen<T, V>(y: &mut [T], x: &[T], width: usize) {
        for (y, x) in y.chunks_exact_mut(4 * width).zip(x.chunks_exact(width)) {
            let (first, second) = y.split_at_mut(2 * width);
            let whole = width - width % LANES;
            for start in (0..whole).step_by(LANES) {
                let x = &x[start..start + LANES];
                let y = &mut first[2 * start..2 * (start + LANES)];
                for lane in 0..LANES {
                    y[2 * lane] = x[lane];
                    y[2 * lane + 1] = x[lane];
                }
            }
            for (y, &x) in first[2 * whole..].chunks_exact_mut(2).zip(&x[whole..]) {
                y.fill(x);
            }
            second.copy_from_slice(first);
        }
    }
}

/// `width` is that of dx.
pub(super) fn backward<T: Real>(dy: &[T], width: usize) -> Vec<T> {
    let rows = rows_for(4 * width, PIECE);
    let write =
        |dx: &mut [T]| each(dx, rows * width, |piece, dx| narrow(dx, &dy[piece * rows * 4 * width..], width));
    // SAFETY: the pieces cover dx, and `narrow` stores every element of its piece.
    unsafe { written(dy.len() / 4, write) }
}

vectorised! {
    fn narrow<T, V>(dx: &mut [T], dy: &[T], width: usize) {
        for (dx, dy) in dx.chunks_exact_mut(width).zip(dy.chunks_exact(4 * width)) {
            let (first, second) = dy.split_at(2 * width);
            let whole = width - width % LANES;
            for start in (0..whole).step_by(LANES) {
                let (a, b) = (&first[2 * start..2 * (start + LANES)], &second[2 * start..2 * (start + LANES)]);
                let dx = &mut dx[start..start + LANES];
                for lane in 0..LANES {
                    dx[lane] = (a[2 * lane] + a[2 * lane + 1]) + (b[2 * lane] + b[2 * lane + 1]);
                }
            }
            for index in whole..width {
                let pair = |row: &[T]| row[2 * index] + row[2 * index + 1];
                dx[index] = pair(first) + pair(second);
            }
        }
    }
}
