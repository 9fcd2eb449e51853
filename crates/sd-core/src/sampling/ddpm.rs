//! Ancestral sampling (Ho, Jain and Abbeel 2020).
//!
//! The posterior's mean `√ᾱ'·β/(1 − ᾱ)·x₀ + √α·(1 − ᾱ')/(1 − ᾱ)·x` with `α = ᾱ/ᾱ'`, `β = 1 − α` (equation 7), and noise of the
//! variance `(1 − ᾱ')/(1 − ᾱ)·β` or β, but none at timestep 0. ᾱ' is that of the timestep visited next, 1 after the last.

use candle_core::{Result, Tensor};

use super::ddim::{clean, mixture};
use super::error::SamplingError;
use super::rule::{Given, Rule};
use super::scalar::{Precision, Scalar};
use super::schedule::Schedule;
use super::settings::{Prediction, Settings, Variance};
use super::spacing::whole;
use super::state::State;
use super::tensor::{add, clip, mul};
use super::{needs_signal, within};

/// The least variance: diffusers takes its logarithm elsewhere.
const LEAST_VARIANCE: f64 = 1e-20;

#[derive(Clone, Debug)]
struct Level {
    alpha: Scalar,
    /// Weights of x₀ and of x in the mean.
    weights: [Scalar; 2],
    deviation: Scalar,
}

impl Level {
    fn new(alpha: Scalar, next: Scalar, variance: Variance) -> Self {
        let ratio = alpha / next;
        let beta = ratio.rest();
        let clean = next.sqrt() * beta / alpha.rest();
        let noisy = ratio.sqrt() * next.rest() / alpha.rest();
        let variance = match variance {
            Variance::FixedSmall => (next.rest() / alpha.rest() * beta).at_least(LEAST_VARIANCE),
            Variance::FixedLarge => beta,
        };
        Self { alpha, weights: [clean, noisy], deviation: variance.sqrt() }
    }
}

/// Ancestral sampling.
#[derive(Clone, Debug)]
pub(super) struct Ddpm {
    prediction: Prediction,
    clip: Option<f64>,
    timesteps: Vec<f64>,
    levels: Vec<Level>,
}

impl Ddpm {
    pub(super) fn new(
        settings: &Settings,
        schedule: &Schedule,
        steps: usize,
        clip: Option<f64>,
        variance: Variance,
    ) -> std::result::Result<Self, SamplingError> {
        let spaced = whole(settings.spacing, schedule.train_steps(), steps, settings.steps_offset);
        let timesteps = within(spaced, settings, steps)?;
        let alphas: Vec<Scalar> = timesteps.iter().map(|&t| schedule.alpha(t as usize)).collect();
        needs_signal(settings.prediction, alphas.iter().copied())?;
        let nexts = alphas.iter().skip(1).copied().chain([schedule.precision().scalar(1.0)]);
        let levels =
            alphas.iter().zip(nexts).map(|(&alpha, next)| Level::new(alpha, next, variance)).collect();
        Ok(Self { prediction: settings.prediction, clip, timesteps, levels })
    }
}

impl Rule for Ddpm {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn takes_noise(&self, i: usize) -> bool {
        self.timesteps[i] > 0.0
    }

    fn levels(&self, i: usize, precision: Precision) -> (Scalar, Scalar) {
        mixture(self.levels[i].alpha.within(precision))
    }

    fn denoised(&self, output: &Tensor, i: usize, x: &Tensor) -> Result<Tensor> {
        clean(self.prediction, output, x, self.levels[i].alpha)
    }

    fn step(&self, _state: &mut State, i: usize, given: Given<'_>) -> Result<Tensor> {
        let Level { weights: [clean, noisy], deviation, .. } = self.levels[i];
        let x0 = clip(self.denoised(given.output, i, given.x)?, self.clip)?;
        given.with_noise(add(&mul(&x0, clean)?, &mul(given.x, noisy)?)?, deviation)
    }
}
