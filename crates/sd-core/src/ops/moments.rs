//! Means and variances of rows: in lanes of the element type over short blocks, in `f64` across blocks.

use super::Real;
use super::lanes::block_sums;
use super::simd::Vector;

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
pub(crate) fn moments<T: Real, V: Vector<T>>(row: &[T]) -> Moments {
    let mut all = Moments::NONE;
    for block in row.chunks(BLOCK) {
        let part = block_moments::<T, V>(block);
        all = if all.count == 0.0 { part } else { all.join(part) };
    }
    all
}

#[inline(always)]
fn block_moments<T: Real, V: Vector<T>>(block: &[T]) -> Moments {
    let (count, nothing) = (block.len() as f64, V::splat(T::zero()));
    let (sum, _) = block_sums!(T, V, [x: block], (x, nothing));
    let centre = T::from_f64(sum.to_f64() / count);
    // The rounded centre differs from the mean by a little; what is left of the sum says by how much.
    let around = V::splat(centre);
    let (rest, squares) = block_sums!(T, V, [x: block], (x - around, (x - around) * (x - around)));
    let shift = rest.to_f64() / count;
    Moments {
        count,
        mean: centre.to_f64() + shift,
        squares: (squares.to_f64() - count * shift * shift).max(0.0),
    }
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
            let ours = moments::<f32, f32>(&values);
            assert!((ours.mean - mean).abs() <= 1e-7 * (1.0 + mean.abs()), "{n}: {} {mean}", ours.mean);
            let error = (ours.variance() - variance).abs();
            assert!(error <= 2e-6 * variance + 1e-30, "{n}: {} {variance}", ours.variance());
        }
    }

    #[test]
    fn sums_take_every_element_once() {
        for n in [1, 15, 16, 17, 63, 64, 65, 2047, 2048] {
            let values: Vec<f64> = (1..=n).map(f64::from).collect();
            let sums = block_sums!(f64, f64, [a: &values, b: values], (a, a + b));
            let expected = f64::from(n) * f64::from(n + 1) / 2.0;
            assert_eq!(sums, (expected, 2.0 * expected));
        }
    }
}
