//! Work cut into pieces by shape, never by the number of threads, so that sums come out the same for any number of them.

use std::slice;

use rayon::prelude::*;

use super::Real;

/// Elements up to which waking another thread costs more than it saves: it takes as long as some 10⁵ elements of a norm. Tests have
/// a lower one, so that what they hold for several threads is done by several.
const ALONE: usize = if cfg!(test) { 1 << 12 } else { 1 << 17 };

/// Whether `elements` of work are done on the calling thread. With one thread there is nobody to hand work to, and the hand-over
/// itself would cost a switch.
pub(crate) fn alone(elements: usize) -> bool {
    elements <= ALONE || rayon::current_num_threads() == 1
}

/// Runs `body(index, piece)` on every piece of `out`.
pub(crate) fn each<T: Send>(out: &mut [T], piece: usize, body: impl Fn(usize, &mut [T]) + Sync + Send) {
    if alone(out.len()) {
        out.chunks_mut(piece).enumerate().for_each(|(index, out)| body(index, out));
    } else {
        out.par_chunks_mut(piece).enumerate().for_each(|(index, out)| body(index, out));
    }
}

/// Runs `body(index, piece of a, piece of b)` on pieces of two buffers of equally many pieces.
pub(crate) fn each_pair<A: Send, B: Send>(
    (a, piece_a): (&mut [A], usize),
    (b, piece_b): (&mut [B], usize),
    body: impl Fn(usize, &mut [A], &mut [B]) + Sync + Send,
) {
    if alone(a.len()) {
        let pieces = a.chunks_mut(piece_a).zip(b.chunks_mut(piece_b));
        pieces.enumerate().for_each(|(index, (a, b))| body(index, a, b));
    } else {
        let pieces = a.par_chunks_mut(piece_a).zip(b.par_chunks_mut(piece_b));
        pieces.enumerate().for_each(|(index, (a, b))| body(index, a, b));
    }
}

/// Fills N matrices of `width` columns rectangle by rectangle, at most `rows` × `columns` each. `fill(row, column, size, parts)` is given
/// the rectangle's first row and column, its size and a row-major place of that size for each matrix, every element of which it stores
/// before it reads it. A rectangle of whole rows is filled where it lies; a narrower one aside, and then copied.
pub(crate) fn each_rectangle<T: Real, const N: usize>(
    outs: [&mut [T]; N],
    width: usize,
    [rows, columns]: [usize; 2],
    fill: impl Fn(usize, usize, [usize; 2], [&mut [T]; N]) + Sync + Send,
) {
    let (height, len) =
        (outs.first().map_or(0, |out| out.len() / width), outs.first().map_or(0, |out| out.len()));
    assert!(outs.iter().all(|out| out.len() == height * width), "the matrices have one shape");
    let across = width.div_ceil(columns);
    let targets = outs.map(|out| Target(out.as_mut_ptr()));
    let body = |buffers: &mut [Vec<T>; N], index: usize| {
        let (row, column) = (index / across * rows, index % across * columns);
        let size = [rows.min(height - row), columns.min(width - column)];
        let len = size[0] * size[1];
        if size[1] == width {
            // SAFETY: row + size[0] ≤ height, so the rows lie in the matrix; no other index has them, since rectangles of different
            // indices share no element, and the matrices are separate slices.
            let place =
                |target: &Target<T>| unsafe { slice::from_raw_parts_mut(target.at(row * width), len) };
            return fill(row, column, size, targets.each_ref().map(place));
        }
        buffers.iter_mut().for_each(|buffer| buffer.resize(len, T::from_f64(0.0)));
        fill(row, column, size, buffers.each_mut().map(Vec::as_mut_slice));
        for (target, buffer) in targets.iter().zip(buffers.iter()) {
            for (i, line) in buffer.chunks_exact(size[1]).enumerate() {
                // SAFETY: row + i < height and column + line.len() ≤ width, so the line lies in the matrix; no other index writes
                // it, since rectangles of different indices share no element; the buffers are no part of the matrix.
                unsafe {
                    target.at((row + i) * width + column).copy_from_nonoverlapping(line.as_ptr(), line.len())
                };
            }
        }
    };
    let count = height.div_ceil(rows) * across;
    if alone(len) {
        let mut buffers = std::array::from_fn(|_| Vec::new());
        (0..count).for_each(|index| body(&mut buffers, index));
    } else {
        (0..count).into_par_iter().for_each_init(|| std::array::from_fn(|_| Vec::new()), body);
    }
}

/// Where a matrix begins, for threads that each write their own elements.
struct Target<T>(*mut T);
// SAFETY: whoever writes through it argues, in an `unsafe` block, that no two threads touch one element.
unsafe impl<T: Send> Send for Target<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Target<T> {}

impl<T> Target<T> {
    /// # Safety
    /// `offset` stays within the allocation.
    unsafe fn at(&self, offset: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(offset) }
    }
}

/// How many whole rows of `row` elements make a piece of about `elements`; at least one.
pub(crate) fn rows_for(row: usize, elements: usize) -> usize {
    (elements / row.max(1)).max(1)
}
