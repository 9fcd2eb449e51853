//! Softmax on the CPU: three passes over a row, the first from memory and the others from the cache.

use crate::ops::Real;
use crate::ops::buffer::written;
use crate::ops::lanes::{map, update};
use crate::ops::moments::sums;
use crate::ops::pieces::{each, rows_for};
use crate::ops::simd::vectorised;

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
    fn forward_rows<T>(y: &mut [T], x: &[T], size: usize) {
        for (y, x) in y.chunks_exact_mut(size).zip(x.chunks_exact(size)) {
            let top = maximum(x);
            map(y, [x], |[x]| (x - top).exp_of_negative());
            let [sum] = sums([&*y], |[e]| [e]);
            let share = T::from_f64(1.0 / sum);
            update(y, [], |e, []| e * share);
        }
    }
}

/// The largest element that is a number; a NaN reaches the result through its own exponential.
#[inline(always)]
fn maximum<T: Real>(row: &[T]) -> T {
    const LANES: usize = 64;
    let larger = |a: T, b: T| if b > a { b } else { a };
    let mut lanes = [row[0]; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane = larger(*lane, x);
    }
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] = larger(lanes[lane], lanes[lane + half]);
        }
        half /= 2;
    }
    lanes[0]
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
    fn backward_rows<T>(dx: &mut [T], y: &[T], dy: &[T], size: usize) {
        for ((dx, y), dy) in dx.chunks_exact_mut(size).zip(y.chunks_exact(size)).zip(dy.chunks_exact(size)) {
            let [dot] = sums([y, dy], |[y, dy]| [y * dy]);
            let dot = T::from_f64(dot);
            map(dx, [y, dy], |[y, dy]| y * (dy - dot));
        }
    }
}
