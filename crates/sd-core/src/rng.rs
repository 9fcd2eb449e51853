//! The one source of randomness: Philox4x32-10, a counter-based generator (Salmon et al., "Parallel random numbers: as
//! easy as 1, 2, 3", SC 2011).
//!
//! A stream is named by `(seed, purpose, index)`, so that no two uses share numbers and adding a use moves no other one.
//! Nothing in difflab reads the clock or the operating system for randomness.
//!
//! [`mt19937`] and [`torch_philox`] give the normals that PyTorch's generators give for a seed, on its CPU and on CUDA: what is
//! needed to start where another program starts.

pub mod cuda;
pub mod mt19937;
pub mod torch_philox;

/// Multipliers of the Philox4x32 round.
const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// Key increments per round: the golden ratio and √3 − 1 as 32-bit fractions.
const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

/// One block of Philox4x32-10: a bijection of the 128-bit counter for every 64-bit key.
#[must_use]
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
        }
        let (high0, low0) = wide_product(MULTIPLIERS[0], counter[0]);
        let (high1, low1) = wide_product(MULTIPLIERS[1], counter[2]);
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0];
    }
    counter
}

/// High and low halves of a 32 × 32 bit product.
fn wide_product(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    ((product >> 32) as u32, product as u32)
}

/// A stream of random numbers, reproducible on any machine.
#[derive(Clone, Debug)]
pub struct Rng {
    key: [u32; 2],
    /// The stream's own half of the counter; the other half counts blocks.
    stream: [u32; 2],
    block: u64,
    words: [u32; 4],
    used: usize,
}

impl Rng {
    /// The stream of `purpose` number `index` under `seed`.
    ///
    /// The key is a hash of `seed` and `purpose`; `index` is the upper half of the counter, so streams that differ in
    /// `index` alone are disjoint by construction.
    #[must_use]
    pub fn new(seed: u64, purpose: &str, index: u64) -> Self {
        let key = split(mix(seed ^ mix(fnv1a(purpose))));
        Self { key, stream: split(index), block: 0, words: [0; 4], used: 4 }
    }

    /// 32 uniform bits.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == self.words.len() {
            let [low, high] = split(self.block);
            self.words = philox4x32([low, high, self.stream[0], self.stream[1]], self.key);
            self.block += 1;
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// 64 uniform bits.
    pub fn next_u64(&mut self) -> u64 {
        let low = u64::from(self.next_u32());
        low | u64::from(self.next_u32()) << 32
    }

    /// Uniform in [0, 1), a multiple of 2⁻⁵³.
    pub fn uniform(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 * 2f64.powi(-53)
    }

    /// Uniform in [0, 1), a multiple of 2⁻²⁴.
    pub fn uniform_f32(&mut self) -> f32 {
        (self.next_u32() >> 8) as f32 * 2f32.powi(-24)
    }

    /// Uniform integer in `0..n`, without bias (Lemire's multiply-and-reject). `0` where `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 {
            return 0;
        }
        let rejected = n.wrapping_neg() % n;
        loop {
            let product = u128::from(self.next_u64()) * u128::from(n);
            if product as u64 >= rejected {
                return (product >> 64) as u64;
            }
        }
    }

    /// Standard normal (Box–Muller, the cosine half).
    pub fn normal(&mut self) -> f64 {
        // 1 − u lies in (0, 1], so the logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Permutes `items` uniformly (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    /// A uniform permutation of `0..n`.
    #[must_use]
    pub fn permutation(&mut self, n: u32) -> Vec<u32> {
        let mut order: Vec<u32> = (0..n).collect();
        self.shuffle(&mut order);
        order
    }
}

fn split(bits: u64) -> [u32; 2] {
    [bits as u32, (bits >> 32) as u32]
}

/// Finaliser of SplitMix64: a bijection that spreads every input bit over the output.
fn mix(bits: u64) -> u64 {
    let bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

fn fnv1a(text: &str) -> u64 {
    text.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with Random123 (`kat_vectors`, philox4x32 10 rounds).
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(
            philox4x32([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32([0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344], [0xa409_3822, 0x299f_31d0]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn streams_differ_in_seed_purpose_and_index() {
        let first = |seed, purpose, index| Rng::new(seed, purpose, index).next_u64();
        let base = first(0, "init", 0);
        assert_eq!(base, first(0, "init", 0));
        for other in [first(1, "init", 0), first(0, "order", 0), first(0, "init", 1)] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn moments_are_those_of_the_distributions() {
        let mut rng = Rng::new(7, "moments", 0);
        let n = 200_000;
        let uniform = (0..n).map(|_| rng.uniform()).sum::<f64>() / f64::from(n);
        assert!((uniform - 0.5).abs() < 0.004, "{uniform}");
        let normals: Vec<f64> = (0..n).map(|_| rng.normal()).collect();
        let mean = normals.iter().sum::<f64>() / f64::from(n);
        let variance = normals.iter().map(|z| (z - mean).powi(2)).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.012 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn below_is_even_and_in_range() {
        let mut rng = Rng::new(3, "below", 0);
        let mut counts = [0u32; 7];
        for _ in 0..70_000 {
            counts[rng.below(7) as usize] += 1;
        }
        // Standard deviation of a count is 92.6; five of them.
        assert!(counts.iter().all(|&count| count.abs_diff(10_000) < 463), "{counts:?}");
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn a_permutation_holds_every_index_once() {
        let mut order = Rng::new(1, "order", 4).permutation(1000);
        assert_ne!(order, (0..1000).collect::<Vec<_>>());
        order.sort_unstable();
        assert_eq!(order, (0..1000).collect::<Vec<_>>());
    }
}
