//! Mean `μ` and population standard deviation `ν` of `|g|` over one tensor, which the variants 3 to 5 need before the step.

use rayon::prelude::*;

use super::config::RuleName;
use super::fused::{PIECE, Slices};
use super::laws::Scalars;
use super::real::Real;

/// Count, mean and sum of squared deviations of a part.
#[derive(Clone, Copy, Default)]
struct Part {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Part {
    fn of(values: impl Iterator<Item = f64> + Clone) -> Self {
        let count = values.clone().count() as f64;
        let mean = values.clone().sum::<f64>() / count;
        Self { count, mean, squares: values.map(|x| (x - mean) * (x - mean)).sum() }
    }

    /// The parts together: means weigh by count, deviations gain what the means differ by.
    fn with(self, other: Self) -> Self {
        let count = self.count + other.count;
        let gap = other.mean - self.mean;
        Self {
            count,
            mean: self.mean + gap * other.count / count,
            squares: self.squares + other.squares + gap * gap * self.count * other.count / count,
        }
    }
}

/// Writes `μ` and `ν` of `|g + weight_decay·θ|` into `scalars` if its rule uses them. Summed in `f64`, in pieces of fixed size
/// and in their order.
pub(super) fn fill<T: Real>(scalars: &mut Scalars, parameter: &Slices<'_, T>) {
    use RuleName::{DiffGrad3, DiffGrad4, DiffGrad5};
    if !matches!(scalars.hyper.rule, DiffGrad3 | DiffGrad4 | DiffGrad5) || parameter.theta.is_empty() {
        return;
    }
    let decay = T::of(scalars.hyper.weight_decay);
    let parts: Vec<Part> = parameter
        .gradient
        .par_chunks(PIECE)
        .zip(parameter.theta.par_chunks(PIECE))
        .map(|(g, theta)| {
            Part::of(g.iter().zip(theta).map(|(g, theta)| g.plus(decay, *theta).magnitude().wide()))
        })
        .collect();
    let whole = parts.into_iter().reduce(Part::with).unwrap_or_default();
    scalars.mean = whole.mean;
    scalars.deviation = (whole.squares / whole.count).sqrt();
}
