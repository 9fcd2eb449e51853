//! The levels of noise that samplers in σ visit.

use super::error::SamplingError;
use super::scalar::{Precision, Scalar};
use super::schedule::Schedule;
use super::settings::LastSigma;

/// ρ of Karras et al. 2022.
const RHO: f64 = 7.0;

/// The table of σ, and the levels made of it.
#[derive(Clone, Debug)]
pub(super) struct Table {
    sigmas: Vec<f64>,
    logarithms: Vec<f64>,
    precision: Precision,
}

impl Table {
    pub(super) fn new(schedule: &Schedule) -> Self {
        let (sigmas, precision) = (schedule.sigmas(), schedule.precision());
        let logarithms = sigmas.iter().map(|sigma| precision.round(sigma.ln())).collect();
        Self { sigmas, logarithms, precision }
    }

    pub(super) fn smallest(&self) -> f64 {
        self.sigmas[0]
    }

    pub(super) fn largest(&self) -> f64 {
        self.sigmas[self.sigmas.len() - 1]
    }

    /// σ at any timestep, between two of the table on the line that joins them.
    pub(super) fn at(&self, t: f64) -> f64 {
        let below = t.floor().max(0.0) as usize;
        match self.sigmas.get(below..below + 2) {
            Some(&[low, high]) => (high - low) * (t - below as f64) + low,
            _ => self.largest(),
        }
    }

    /// The timestep of a σ, interpolated in ln σ, between the first and the last.
    pub(super) fn timestep(&self, sigma: f64) -> f64 {
        let wanted = sigma.max(1e-10).ln();
        let reached = self.logarithms.partition_point(|&logarithm| logarithm <= wanted);
        let below = reached.saturating_sub(1).min(self.logarithms.len() - 2);
        let (low, high) = (self.logarithms[below], self.logarithms[below + 1]);
        let share = ((low - wanted) / self.precision.round(low - high)).clamp(0.0, 1.0);
        (1.0 - share) * below as f64 + share * (below + 1) as f64
    }

    /// The levels of a run: `visited`, rounded, and the one after the last step.
    pub(super) fn levels(&self, visited: Vec<f64>, last: LastSigma) -> Vec<Scalar> {
        let last = match last {
            LastSigma::Zero => 0.0,
            LastSigma::SigmaMin => self.smallest(),
        };
        visited.into_iter().chain([last]).map(|sigma| self.precision.scalar(sigma)).collect()
    }
}

/// `(a + k/(n − 1)·(b − a))^ρ` with a, b the ρ-th roots of `largest` and `smallest` (Karras et al. 2022, equation 5).
pub(super) fn karras(largest: f64, smallest: f64, count: usize) -> Vec<f64> {
    let [from, to] = [largest, smallest].map(|sigma| sigma.powf(1.0 / RHO));
    let ramp = super::spacing::linspace(1.0, count);
    ramp.iter().map(|share| (from + share * (to - from)).powf(RHO)).collect()
}

/// Two levels alike make a step of no length.
pub(super) fn all_different(levels: &[Scalar], steps: usize, train: usize) -> Result<(), SamplingError> {
    if levels.windows(2).all(|pair| pair[0].value() > pair[1].value()) {
        return Ok(());
    }
    Err(SamplingError::TooManySteps {
        steps,
        most: train - 1,
        train,
        why: " and two of these steps would share one",
    })
}
