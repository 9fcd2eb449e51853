//! Sums, means and variances of rows: in lanes of the element type over short blocks, in `f64` across blocks.
//!
//! Blocks and lanes are cut by the source alone, so the bits depend neither on threads nor on the instruction set.

use super::Real;

/// Independent partial sums, so that the compiler can use vector registers without reordering a sum.
const LANES: usize = 16;
/// Vectors of lanes in flight: an addition takes several cycles, and one can start in each.
const CHAINS: usize = 4;
const STRIDE: usize = LANES * CHAINS;
/// Elements after which lanes are joined in `f64`. A lane then has summed at most 32 values.
pub(crate) const BLOCK: usize = 2048;

/// Count, mean and Σ(x − mean)² of a set of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Moments {
    pub(crate) count: f64,
    pub(crate) mean: f64,
    pub(crate) squares: f64,
}

impl Moments {
    pub(crate) const NONE: Self = Self { count: 0.0, mean: 0.0, squares: 0.0 };

    /// The moments of the union (Chan, Golub and LeVeque 1979): no cancellation, whatever the means.
    #[inline(always)]
    pub(crate) fn join(self, other: Self) -> Self {
        let count = self.count + other.count;
        let delta = other.mean - self.mean;
        let share = other.count / count;
        Self {
            count,
            mean: self.mean + delta * share,
            squares: self.squares + other.squares + delta * delta * self.count * share,
        }
    }

    /// Σ(x − mean)²/n.
    #[inline(always)]
    pub(crate) fn variance(self) -> f64 {
        self.squares / self.count
    }
}

/// The moments of a row. Each block is read twice, the second time from the first-level cache.
#[inline(always)]
pub(crate) fn moments<T: Real>(row: &[T]) -> Moments {
    let mut all = Moments::NONE;
    for block in row.chunks(BLOCK) {
        let part = block_moments(block);
        all = if all.count == 0.0 { part } else { all.join(part) };
    }
    all
}

#[inline(always)]
fn block_moments<T: Real>(block: &[T]) -> Moments {
    let count = block.len() as f64;
    let [sum] = block_sums([block], |[x]| [x]);
    let centre = T::from_f64(sum.to_f64() / count);
    // The rounded centre differs from the mean by a little; what is left of the sum says by how much.
    let [rest, squares] = block_sums([block], |[x]| [x - centre, (x - centre) * (x - centre)]);
    let shift = rest.to_f64() / count;
    Moments {
        count,
        mean: centre.to_f64() + shift,
        squares: (squares.to_f64() - count * shift * shift).max(0.0),
    }
}

/// `M` sums over a row of `f` of the elements of `N` slices, in `f64` across blocks.
#[inline(always)]
pub(crate) fn sums<T: Real, const N: usize, const M: usize>(
    slices: [&[T]; N],
    f: impl Fn([T; N]) -> [T; M] + Copy,
) -> [f64; M] {
    let len = slices[0].len();
    let mut all = [0.0; M];
    let mut start = 0;
    while start < len {
        let end = (start + BLOCK).min(len);
        let part = block_sums(slices.map(|slice| &slice[start..end]), f);
        for (all, part) in all.iter_mut().zip(part) {
            *all += part.to_f64();
        }
        start = end;
    }
    all
}

/// [`sums`] within one block, in lanes of `T`.
#[inline(always)]
pub(crate) fn block_sums<T: Real, const N: usize, const M: usize>(
    slices: [&[T]; N],
    f: impl Fn([T; N]) -> [T; M],
) -> [T; M] {
    let len = slices[0].len();
    let slices = slices.map(|slice| &slice[..len]);
    let mut lanes = [[T::zero(); LANES]; M];
    let mut start = 0;
    if len >= STRIDE {
        let mut chains = [[[T::zero(); LANES]; CHAINS]; M];
        while start + STRIDE <= len {
            let block = slices.map(|slice| &slice[start..start + STRIDE]);
            for chain in 0..CHAINS {
                for lane in 0..LANES {
                    let values = f(block.map(|slice| slice[chain * LANES + lane]));
                    for sum in 0..M {
                        chains[sum][chain][lane] += values[sum];
                    }
                }
            }
            start += STRIDE;
        }
        for sum in 0..M {
            for lane in 0..LANES {
                let chain = chains[sum];
                lanes[sum][lane] = (chain[0][lane] + chain[1][lane]) + (chain[2][lane] + chain[3][lane]);
            }
        }
    }
    while start + LANES <= len {
        let block = slices.map(|slice| &slice[start..start + LANES]);
        for lane in 0..LANES {
            let values = f(block.map(|slice| slice[lane]));
            for sum in 0..M {
                lanes[sum][lane] += values[sum];
            }
        }
        start += LANES;
    }
    for index in start..len {
        let values = f(slices.map(|slice| slice[index]));
        for sum in 0..M {
            lanes[sum][index - start] += values[sum];
        }
    }
    lanes.map(join_lanes)
}

/// Σ of the lanes as a tree: four dependent additions instead of sixteen.
#[inline(always)]
fn join_lanes<T: Real>(mut lanes: [T; LANES]) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            let other = lanes[lane + half];
            lanes[lane] += other;
        }
        half /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn normals(n: usize, offset: f64) -> Vec<f64> {
        let mut rng = Rng::new(5, "moments", 0);
        (0..n).map(|_| rng.normal() + offset).collect()
    }

    #[test]
    fn moments_are_those_of_the_definition_far_from_zero_too() {
        for (n, offset) in [(1, 0.0), (15, 3.0), (64, 0.0), (333, -2.0), (2048, 1e3), (70_001, 1e4)] {
            let values: Vec<f32> = normals(n, offset).iter().map(|x| *x as f32).collect();
            let mean = values.iter().map(|x| f64::from(*x)).sum::<f64>() / n as f64;
            let variance = values.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / n as f64;
            let ours = moments(&values);
            assert!((ours.mean - mean).abs() <= 1e-7 * (1.0 + mean.abs()), "{n}: {} {mean}", ours.mean);
            let error = (ours.variance() - variance).abs();
            assert!(error <= 2e-6 * variance + 1e-30, "{n}: {} {variance}", ours.variance());
        }
    }

    #[test]
    fn sums_take_every_element_once() {
        for n in [1, 15, 16, 17, 63, 64, 65, 2047, 2048, 2049, 5000] {
            let values: Vec<f64> = (1..=n).map(f64::from).collect();
            let [sum, twice] = sums([&values, &values], |[a, b]| [a, a + b]);
            let expected = f64::from(n) * f64::from(n + 1) / 2.0;
            assert_eq!((sum, twice), (expected, 2.0 * expected));
        }
    }
}
