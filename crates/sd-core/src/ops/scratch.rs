//! Working memory of the CPU paths: aligned to cache lines, kept between calls.
//!
//! A fresh buffer of some megabytes costs a page fault for every four kilobytes, as much time as a small convolution takes. What was
//! used once is therefore kept, up to [`KEPT_BYTES`] in all, and lent again.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

/// The most that is kept for later.
const KEPT_BYTES: usize = 48 << 20;
/// A cache line, and a vector register of AVX-512.
const ALIGNMENT: usize = 64;

static KEPT: Mutex<Vec<Block>> = Mutex::new(Vec::new());

/// An allocation of `f32`s.
struct Block {
    start: NonNull<f32>,
    length: usize,
}

// SAFETY: a block owns its memory and has no interior state; whoever holds it may use it from any thread.
unsafe impl Send for Block {}

impl Block {
    fn new(length: usize) -> Self {
        let layout = Self::layout(length);
        // Zeros, since panels are read whole where only some of their rows were written: what is lent always holds numbers.
        // SAFETY: the layout's size is not zero.
        let start = unsafe { alloc_zeroed(layout) };
        let Some(start) = NonNull::new(start.cast()) else { handle_alloc_error(layout) };
        Self { start, length }
    }

    fn layout(length: usize) -> Layout {
        let bytes = length.max(1) * size_of::<f32>();
        // Sizes come from tensors that were allocated before: they are below isize::MAX.
        Layout::from_size_align(bytes, ALIGNMENT)
            .unwrap_or_else(|_| panic!("{bytes} bytes of working memory"))
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with the layout of the same length.
        unsafe { dealloc(self.start.as_ptr().cast(), Self::layout(self.length)) };
    }
}

/// Working memory of at least the length asked for, of any numbers: zeros or those of an earlier use. Given back when dropped.
pub(crate) struct Scratch(Option<Block>);

// SAFETY: its memory is only reached through raw pointers, whose users argue for each access.
unsafe impl Sync for Scratch {}

impl Scratch {
    /// Takes what is kept and fits best, or allocates.
    pub(crate) fn new(length: usize) -> Self {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |(_, block): &(usize, &Block)| block.length >= length;
        let best = kept.iter().enumerate().filter(fits).min_by_key(|(_, block)| block.length);
        match best.map(|(index, _)| index) {
            Some(index) => Self(Some(kept.swap_remove(index))),
            None => Self(Some(Block::new(length.next_multiple_of(1024)))),
        }
    }

    /// The first number.
    pub(crate) fn start(&self) -> *mut f32 {
        self.0.as_ref().map_or(std::ptr::null_mut(), |block| block.start.as_ptr())
    }

    /// The numbers that were asked for or more.
    pub(crate) fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |block| block.length)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let Some(block) = self.0.take() else { return };
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push(block);
        // The oldest go first.
        while kept.iter().map(|block| block.length).sum::<usize>() * size_of::<f32>() > KEPT_BYTES {
            kept.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_and_long_enough() {
        for length in [0, 1, 1000, 1 << 16] {
            let scratch = Scratch::new(length);
            assert_eq!(scratch.start() as usize % ALIGNMENT, 0);
            assert!(scratch.len() >= length);
        }
    }

    #[test]
    fn two_at_once_do_not_overlap() {
        let (a, b) = (Scratch::new(5000), Scratch::new(5000));
        assert!((a.start() as usize).abs_diff(b.start() as usize) >= 5000 * size_of::<f32>());
    }
}
