//! The normals of `torch.randn` on CUDA after `torch.manual_seed`, computed on the CPU: Philox4x32-10 under the seed, laid out over
//! the threads of PyTorch's launch (`aten/src/ATen/native/cuda/DistributionTemplates.h`), turned into normals as cuRAND's
//! `curand_normal4` does.
//!
//! A launch has T threads: 256 for every 256 numbers begun, but no more than the card holds at a time. Element e belongs to thread
//! e mod T, which reads subsequence e mod T; of it, element e is number (e/T) mod 4 of the counter block after e/(4T) others. As
//! long as a card holds all the threads (2048 a multiprocessor: 221 184 on one with 108) no number depends on the card.
//!
//! Checked against values that others published from a GPU, to their printed digits, not against a GPU of ours. cuRAND takes
//! logarithm, sine and cosine with the device's fast instructions; these are the library's, so values agree to about 1e-6, not
//! to the bit.

use super::{cuda, philox4x32, split};

/// PyTorch's CUDA generator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TorchCuda {
    seed: u64,
    /// Numbers drawn by each thread so far: PyTorch's `philox_offset_per_thread`, a multiple of 4.
    offset: u64,
    multiprocessors: usize,
}

impl TorchCuda {
    /// Multiprocessors of an NVIDIA A100, the card that is assumed where none is named.
    pub const A100: usize = 108;

    /// The generator after `torch.manual_seed(seed)` on a card with so many multiprocessors of 2048 threads each.
    #[must_use]
    pub fn new(seed: u64, multiprocessors: usize) -> Self {
        Self { seed, offset: 0, multiprocessors }
    }

    /// How far each thread's sequence has been read.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// `torch.randn(n, device="cuda")`.
    pub fn normals_f32(&mut self, n: usize) -> Vec<f32> {
        if n == 0 {
            return Vec::new();
        }
        let threads = cuda::torch_threads(n, self.multiprocessors);
        let mut values = vec![0.0; n];
        let (block, key) = (self.offset / 4, split(self.seed));
        for (round, values) in values.chunks_mut(4 * threads).enumerate() {
            let low = split(block + round as u64);
            for thread in 0..threads.min(values.len()) {
                let high = split(thread as u64);
                let words = philox4x32([low[0], low[1], high[0], high[1]], key);
                let normals = [box_muller(words[0], words[1]), box_muller(words[2], words[3])];
                let mine = values.iter_mut().skip(thread).step_by(threads);
                mine.zip(normals.as_flattened()).for_each(|(value, normal)| *value = *normal);
            }
        }
        self.offset += cuda::torch_advance(n, threads);
        values
    }
}

/// cuRAND's pair of normals from two words.
fn box_muller(x: u32, y: u32) -> [f32; 2] {
    const UNIT: f32 = 1.0 / 4_294_967_296.0;
    const TURN: f32 = UNIT * std::f32::consts::TAU;
    let u = (x as f32).mul_add(UNIT, UNIT / 2.0);
    let angle = (y as f32).mul_add(TURN, TURN / 2.0);
    let radius = (-2.0 * u.ln()).sqrt();
    let (sin, cos) = angle.sin_cos();
    [radius * sin, radius * cos]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What AUTOMATIC1111's `modules/rng_philox.py` prints in its documentation for seed 0, the numbers of
    /// `torch.randn((3, 4), device="cuda")`:
    /// <https://github.com/AUTOMATIC1111/stable-diffusion-webui/blob/master/modules/rng_philox.py>.
    const PUBLISHED: [f32; 12] = [
        -0.924_662_6,
        -0.425_344_15,
        -2.643_845_7,
        0.145_183_88,
        -0.120_866_47,
        -0.579_725_6,
        -0.622_851_2,
        -0.328_387_1,
        -1.074_542_3,
        -0.363_144_07,
        -1.671_050_7,
        2.265_505,
    ];

    #[test]
    fn the_published_numbers_of_a_gpu() {
        let mut generator = TorchCuda::new(0, TorchCuda::A100);
        let ours = generator.normals_f32(12);
        for (ours, published) in ours.iter().zip(PUBLISHED) {
            assert!((ours - published).abs() <= 2e-6, "{ours} {published}");
        }
        assert_eq!(generator.offset(), 4);
        assert_ne!(generator.normals_f32(12), ours);
    }

    /// The definition, element by element.
    #[test]
    fn a_large_draw_is_laid_out_over_the_threads_of_the_launch() {
        let (n, threads) = (10_007, 2048);
        let mut generator = TorchCuda::new(9, 1);
        generator.normals_f32(5);
        let ours = generator.normals_f32(n);
        for (e, ours) in ours.iter().enumerate() {
            let words = philox4x32([1 + (e / (4 * threads)) as u32, 0, (e % threads) as u32, 0], [9, 0]);
            let number = e / threads % 4;
            let pair = box_muller(words[number / 2 * 2], words[number / 2 * 2 + 1]);
            assert_eq!(*ours, pair[number % 2], "element {e}");
        }
        assert_eq!(generator.offset(), 4 + 8);
        assert!(TorchCuda::new(9, 1).normals_f32(0).is_empty());
    }

    #[test]
    fn moments_are_those_of_the_distribution() {
        let n = 300_000;
        let values = TorchCuda::new(3, 4).normals_f32(n);
        let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / n as f64;
        let variance = values.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n as f64;
        assert!(mean.abs() < 0.01 && (variance - 1.0).abs() < 0.015, "{mean} {variance}");
    }
}
