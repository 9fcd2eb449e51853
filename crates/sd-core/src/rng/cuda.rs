//! What drawing normals does on a CUDA device: one launch of `rng.cu`, the numbers of `torch.randn` on CUDA.
//!
//! The normals of PyTorch's CPU generator stay on the CPU and are copied: a Mersenne Twister is one sequence of words that
//! cannot be entered in the middle, so nothing is gained on a device.

#[cfg(feature = "cuda")]
pub mod device;

use candle_core::Result;

use crate::cuda::packs::{THREADS, kernels, long, threads};
use crate::cuda::{Arg, Element, Program, Source, blocks};

/// `rng.cu`.
pub static SOURCE: Source = Source {
    name: "rng",
    path: "crates/sd-core/src/rng/rng.cu",
    text: include_str!("rng.cu"),
    kernels: kernels!["philox_normal"],
    stack_limit: 0,
};

/// Threads that PyTorch starts for `count` numbers on a device with so many multiprocessors of 2048 threads each.
#[must_use]
pub fn torch_threads(count: usize, multiprocessors: usize) -> usize {
    256 * count.div_ceil(256).clamp(1, 8 * multiprocessors.max(1))
}

/// How far PyTorch's offset moves with `count` numbers drawn; the next call begins there.
#[must_use]
pub fn torch_advance(count: usize, threads: usize) -> u64 {
    4 * count.div_ceil(4 * threads) as u64
}

/// () → `count` standard normals. `offset` is the generator's, a multiple of 4; `torch` the threads of PyTorch's launch
/// ([`torch_threads`]).
///
/// # Errors
/// Never; the type is that of every op's programs.
pub fn normal(seed: u64, offset: u64, torch: usize, count: usize, element: Element) -> Result<Program> {
    let mut program = Program::new("philox normal");
    let out = program.output(element, count);
    let args = vec![long(count), Arg::U64(seed), Arg::U64(offset / 4), long(torch), Arg::Buffer(out)];
    let counters = count.div_ceil(4 * torch) * torch;
    let kernel = format!("philox_normal_{}", element.suffix());
    program.launch(&SOURCE, &kernel, blocks(counters, THREADS), threads(THREADS), 0, args);
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_stop_growing_where_the_device_is_full() {
        // 132 multiprocessors: at most 1056 blocks of 256.
        assert_eq!([1, 256, 257, 1 << 20].map(|count| torch_threads(count, 132)), [256, 256, 512, 270_336]);
        // One counter a thread is four numbers.
        assert_eq!([1, 4 * 256, 4 * 256 + 1].map(|count| torch_advance(count, 256)), [4, 4, 8]);
    }
}
