//! Softmax on the CPU: three passes over a row, the first from memory and the others from the cache.

use crate::ops::Real;
use crate::ops::buffer::written;
use crate::ops::lanes::{block_sums, largest, map, update};
use crate::ops::moments::BLOCK;
use crate::ops::pieces::{each, rows_for};
use crate::ops::simd::{Vector, vectorised};

/// Elements in a piece of work.
const PIECE: usize = 1 << 14;

pub(super) fn forward<T: Real>(x: &[T], size: usize) -> Vec<T> {
    let rows = rows_for(size, PIECE);
    let write =
        |y: &mut [T]| each(y, rows * size, |piece, y| forward_rows(y, &x[piece * rows * size..], size));
    // SAFETY: the pieces cover y, and `forward_rows` stores every element of its piece before it reads it.
    unsafe { written(x.len(), write) }
}

vectorised! {
    fn forward_rows<T, V>(y: &mut [T], x: &[T], size: usize) {
        for (y, x) in y.chunks_exact_mut(size).zip(x.chunks_exact(size)) {
            let top = V::splat(largest::<T, V>(x));
            map!(T, V, y, [x: x], (x - top).exp_of_negative());
            let share = V::splat(T::from_f64(1.0 / dot::<T, V>(y, None)));
            update!(T, V, e, y, [], e * share);
        }
    }
}

pub(super) fn backward<T: Real>(y: &[T], dy: &[T], size: usize) -> Vec<T> {
    let rows = rows_for(size, PIECE);
    let write = |dx: &mut [T]| {
        each(dx, rows * size, |piece, dx| {
            let start = piece * rows * size;
            backward_rows(dx, &y[start..], &dy[start..], size);
        });
    };
    // SAFETY: the pieces cover dx, and `backward_rows` stores every element of its piece.
    unsafe { written(y.len(), write) }
}

vectorised! {
    /// dx = y·(dy − Σ y·dy).
    fn backward_rows<T, V>(dx: &mut [T], y: &[T], dy: &[T], size: usize) {
        for ((dx, y), dy) in dx.chunks_exact_mut(size).zip(y.chunks_exact(size)).zip(dy.chunks_exact(size)) {
            let dot = V::splat(T::from_f64(dot::<T, V>(y, Some(dy))));
            map!(T, V, dx, [y: y, dy: dy], y * (dy - dot));
        }
    }
}

/// Σ a, or Σ a·b where there is a b; in `f64` across blocks.
#[inline(always)]
fn dot<T: Real, V: Vector<T>>(a: &[T], b: Option<&[T]>) -> f64 {
    let nothing = V::splat(T::zero());
    let mut sum = 0.0;
    match b {
        None => {
            for a in a.chunks(BLOCK) {
                sum += block_sums!(T, V, [a: a], (a, nothing)).0.to_f64();
            }
        }
        Some(b) => {
            for (a, b) in a.chunks(BLOCK).zip(b.chunks(BLOCK)) {
                sum += block_sums!(T, V, [a: a, b: b], (a * b, nothing)).0.to_f64();
            }
        }
    }
    sum
}
