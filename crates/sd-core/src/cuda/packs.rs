//! How the memory-bound kernels are launched: packs of 16 bytes, teams that share a row, slices of long sums (`packs.cuh`).

use candle_core::{Result, bail};

use super::{Arg, Element};

/// The names of kernels that exist for `f32`, `f16` and `bf16`, then of those that exist once.
macro_rules! kernels {
    ($($name:literal),* $(; $($plain:literal),*)?) => {
        &[$(concat!($name, "_f32"), concat!($name, "_f16"), concat!($name, "_bf16"),)* $($($plain,)*)?]
    };
}
pub(crate) use kernels;

/// Threads of a block where nothing asks for another number.
pub(crate) const THREADS: usize = 256;

/// Multiprocessors of the largest device we know. A constant, so that sums have one order on every device.
pub(crate) const MULTIPROCESSORS: usize = 132;

/// Elements of a pack.
pub(crate) fn width(element: Element) -> usize {
    16 / element.bytes()
}

/// The most packs that `positions` consecutive elements of a tensor touch.
pub(crate) fn packs(positions: usize, element: Element) -> usize {
    let width = width(element);
    if positions.is_multiple_of(width) { positions / width } else { (positions + width - 2) / width + 1 }
}

/// `value` as a kernel's `int`.
///
/// # Errors
/// Where it does not fit; names the op and the value.
pub(crate) fn int(op: &str, value: usize) -> Result<Arg> {
    match i32::try_from(value) {
        Ok(value) => Ok(Arg::I32(value)),
        Err(_) => bail!("{op} on CUDA: {value} is too large a size; expected at most 2³¹ − 1"),
    }
}

/// `value` as a kernel's `long long`.
pub(crate) fn long(value: usize) -> Arg {
    Arg::I64(i64::try_from(value).unwrap_or(i64::MAX))
}

/// A grid of `count` blocks along x.
///
/// # Errors
/// Where a grid cannot have as many; names the op.
pub(crate) fn line(op: &str, count: usize) -> Result<[u32; 3]> {
    match u32::try_from(count) {
        Ok(count @ 1..=0x7fff_ffff) => Ok([count, 1, 1]),
        _ => bail!("{op} on CUDA: {count} blocks; expected 1 to 2³¹ − 1"),
    }
}

/// `count` threads along x.
pub(crate) fn threads(count: usize) -> [u32; 3] {
    [u32::try_from(count).unwrap_or(u32::MAX), 1, 1]
}

/// The grid for `map_elements` over `count` elements and `inputs` inputs: one turn for every thread.
pub(crate) fn elementwise(count: usize, element: Element, inputs: usize) -> [u32; 3] {
    let deep = if inputs > 2 { 2 } else { 4 };
    super::blocks(count, THREADS * deep * width(element))
}

/// How many threads share a row, and how many a block has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Team {
    pub(crate) size: usize,
    pub(crate) threads: usize,
}

impl Team {
    /// For rows of `packs` of which a thread keeps at most `kept`, in blocks of at most 512 threads. `None` where a row is longer
    /// than that.
    pub(crate) fn of(packs: usize, kept: usize) -> Option<Self> {
        if packs <= 32 * kept {
            return Some(Self { size: packs.next_power_of_two().clamp(4, 32), threads: 128 });
        }
        // Four packs a thread keep enough loads under way; fewer where so many cannot be kept.
        let threads = packs.div_ceil(kept.min(4)).next_multiple_of(32).min(512);
        (packs <= threads * kept).then_some(Self { size: threads, threads })
    }

    /// Rows of a block.
    pub(crate) fn rows(self) -> usize {
        self.threads / self.size
    }
}

/// Where sets of planes (the group of a group norm, the channel of a batch norm) are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cuts {
    /// Packs of the largest set that one block takes, where it could; larger ones are cut into slices.
    pub whole: usize,
    /// Packs of a slice.
    pub slice: usize,
    /// Bytes of input that two passes may lie apart, so that the second still finds them in the L2 cache. Not measured: a third
    /// of the 50 MB of a Hopper GPU.
    pub cached: usize,
}

impl Default for Cuts {
    fn default() -> Self {
        Self { whole: usize::MAX, slice: 2048, cached: 16 << 20 }
    }
}

/// Sets of `packs` packs, cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slices {
    /// Slices of a set.
    pub(crate) count: usize,
    /// Packs of a slice; the last has what is left.
    pub(crate) packs: usize,
}

impl Cuts {
    /// Threads of the whole-set kernel of which each keeps at most `kept` packs; `None` where the set must be cut.
    pub(crate) fn threads(&self, packs: usize, kept: usize) -> Option<usize> {
        let threads = packs.div_ceil(kept.min(4)).next_multiple_of(32).min(1024);
        (packs <= (threads * kept).min(self.whole)).then_some(threads)
    }

    /// Slices for a set of `packs`: at most 512, since every block joins them all.
    pub(crate) fn slices(&self, packs: usize) -> Slices {
        let size = self.slice.max(packs.div_ceil(512).next_multiple_of(self.slice));
        Slices { count: packs.div_ceil(size), packs: size }
    }

    /// Ranges of sets (first, how many) that are taken through both passes together; a set is `packs` packs of each of `inputs`
    /// tensors.
    pub(crate) fn together(&self, sets: usize, packs: usize, inputs: usize) -> Vec<(usize, usize)> {
        let at_once = (self.cached / (16 * packs * inputs).max(1)).clamp(1, sets.max(1));
        (0..sets).step_by(at_once).map(|first| (first, at_once.min(sets - first))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_cover_any_run_of_elements_at_any_place() {
        for (element, width) in [(Element::F32, 4), (Element::Bf16, 8)] {
            for positions in 1..70 {
                let touched = |start: usize| (start + positions - 1) / width - start / width + 1;
                // Planes of equal length begin at multiples of it.
                let most = (0..width).map(|plane| touched(plane * positions)).max().unwrap_or(0);
                assert!(packs(positions, element) >= most, "{positions}");
                assert!(packs(positions, element) <= positions.div_ceil(width) + 1);
            }
        }
    }

    #[test]
    fn teams_hold_their_rows() {
        for kept in [1, 4, 8] {
            for packs in 1..6000 {
                let Some(team) = Team::of(packs, kept) else {
                    assert!(packs > 512 * kept);
                    continue;
                };
                assert!(team.size * kept >= packs && team.threads <= 512 && team.threads.is_multiple_of(32));
                let lanes = team.size.is_power_of_two() && team.size <= 32;
                assert!(lanes || team.size == team.threads, "{team:?}");
            }
        }
    }

    #[test]
    fn slices_and_ranges_cover_every_set_once() {
        let cuts = Cuts { whole: 0, slice: 32, cached: 1 << 12 };
        for packs in [1, 31, 32, 33, 512 * 32, 512 * 32 + 1, 100_000] {
            let slices = cuts.slices(packs);
            assert!(slices.count <= 512 && slices.count * slices.packs >= packs);
            assert!((slices.count - 1) * slices.packs < packs, "no slice is empty");
            let ranges = cuts.together(13, packs, 2);
            assert_eq!(ranges.iter().map(|(_, count)| count).sum::<usize>(), 13);
            assert!(ranges.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0));
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_names_the_op() {
        let expected = "softmax on CUDA: 2147483648 is too large a size; expected at most 2³¹ − 1";
        // The text may go on with a backtrace.
        assert!(int("softmax", 1 << 31).is_err_and(|error| error.to_string().starts_with(expected)));
        assert!(line("softmax", 1 << 31).is_err() && line("softmax", 0).is_err());
    }
}
