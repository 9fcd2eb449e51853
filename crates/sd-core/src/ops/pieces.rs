//! Work cut into pieces by shape, never by the number of threads, so that sums come out the same for any number of them.

use rayon::prelude::*;

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

/// How many whole rows of `row` elements make a piece of about `elements`; at least one.
pub(crate) fn rows_for(row: usize, elements: usize) -> usize {
    (elements / row.max(1)).max(1)
}
