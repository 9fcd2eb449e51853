//! The paper's one-dimensional study (section V): three functions with traps, descended by scalar Adam and diffGrad in `f64`.

pub mod functions;
pub mod replay;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use functions::Function;

/// The study: every function, descended by every arm's *rule* with the settings below (not the arm's own, which are those of
/// the image experiments).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SyntheticStudy {
    /// Functions.
    pub functions: Vec<Function>,
    /// Arms (keys of `arms:`), of the rules `adam`, `diffgrad` and `half_step`.
    pub arms: Vec<String>,
    /// Start x₀.
    pub start: f64,
    /// Learning rate.
    pub lr: f64,
    /// β₁ (the paper's study uses 0.95, not the usual 0.9).
    pub beta1: f64,
    /// β₂.
    pub beta2: f64,
    /// ε.
    pub eps: f64,
    /// Updates.
    pub iterations: usize,
    /// Learning rates swept with everything else fixed.
    pub lr_grid: Grid,
    /// Starts swept with everything else fixed.
    pub start_grid: Grid,
    /// The β₁ of the fragility check.
    pub other_beta1: f64,
    /// |x − global minimum| below which a run counts as having found the global minimum.
    pub reached: f64,
}

/// Evenly spaced values, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grid {
    /// First value.
    pub from: f64,
    /// Last value.
    pub to: f64,
    /// Number of values, at least 2.
    pub points: usize,
}

impl Grid {
    /// The values.
    pub fn values(self) -> impl Iterator<Item = f64> {
        let gaps = (self.points - 1) as f64;
        // from·(1 − w) + to·w gives the decimal grid points more exactly than adding a rounded step would.
        (0..self.points).map(move |i| (self.from * (gaps - i as f64) + self.to * i as f64) / gaps)
    }
}

impl SyntheticStudy {
    /// The first key that cannot be used: (key, expected, found).
    #[must_use]
    pub fn fault(&self) -> Option<(&'static str, String, String)> {
        if !(1..=1_000_000).contains(&self.iterations) {
            return Some(("iterations", "1 to 1,000,000".into(), self.iterations.to_string()));
        }
        for (key, grid) in [("lr_grid", self.lr_grid), ("start_grid", self.start_grid)] {
            if !(2..=100_000).contains(&grid.points) {
                return Some((key, "2 to 100,000 points".into(), grid.points.to_string()));
            }
        }
        for (key, beta) in [("beta1", self.beta1), ("beta2", self.beta2), ("other_beta1", self.other_beta1)] {
            if !(0.0..1.0).contains(&beta) {
                return Some((key, "at least 0 and below 1".into(), beta.to_string()));
            }
        }
        for (key, value) in [("lr", self.lr), ("eps", self.eps), ("reached", self.reached)] {
            if !(value > 0.0 && value.is_finite()) {
                return Some((key, "a positive number".into(), value.to_string()));
            }
        }
        None
    }
}
