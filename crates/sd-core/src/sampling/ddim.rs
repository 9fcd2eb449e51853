//! Denoising diffusion implicit models (Song, Meng and Ermon 2021), forwards, backwards and undone.
//!
//! With ᾱ and ᾱ' before and after a step, and x₀ and ε as the model's answer has them,
//! `x' = √ᾱ'·x₀ + √(1 − ᾱ' − σ²)·ε + σ·z`, `σ = η·√((1 − ᾱ')/(1 − ᾱ))·√(1 − ᾱ/ᾱ')` (equations 12 and 16).
//!
//! *Inversion* ([`Inverse`], diffusers' `DDIMInverseScheduler`) takes the same step with ᾱ' < ᾱ, on the model's answer at the
//! *arrival* timestep's number but the *departure* sample: an approximation, since a step back would need the answer at the arrival
//! sample. *Undoing* ([`Ddim::undo`]) is exact: for a given answer a step is linear, `x' = A·x + B·m + σ·z`, so that
//! `x = (x' − B·m − σ·z)/A`.

use candle_core::{Result, Tensor, bail};

use super::error::SamplingError;
use super::rule::{Given, Rule};
use super::scalar::{Precision, Scalar};
use super::schedule::Schedule;
use super::settings::{Prediction, Settings};
use super::spacing::whole;
use super::state::State;
use super::tensor::{add, clip, div, mul, sub};
use super::within;
use crate::ops::guidance::DdimStep;

/// What may be missing of a variance that is 0.
const ROUNDING: f64 = 1e-6;

/// x₀ as `output` has it at level `alpha`.
pub(super) fn clean(prediction: Prediction, output: &Tensor, x: &Tensor, alpha: Scalar) -> Result<Tensor> {
    let (signal, noise) = mixture(alpha);
    match prediction {
        Prediction::Epsilon => div(&sub(x, &mul(output, noise)?)?, signal),
        Prediction::V => sub(&mul(x, signal)?, &mul(output, noise)?),
        Prediction::Sample => Ok(output.clone()),
    }
}

/// (√ᾱ, √(1 − ᾱ)).
pub(super) fn mixture(alpha: Scalar) -> (Scalar, Scalar) {
    (alpha.sqrt(), alpha.rest().sqrt())
}

/// ε as `output` has it at level `alpha`.
fn noise_of(prediction: Prediction, output: &Tensor, x: &Tensor, alpha: Scalar) -> Result<Tensor> {
    let (signal, noise) = mixture(alpha);
    match prediction {
        Prediction::Epsilon => Ok(output.clone()),
        Prediction::V => add(&mul(output, signal)?, &mul(x, noise)?),
        Prediction::Sample => div(&sub(x, &mul(output, signal)?)?, noise),
    }
}

/// ᾱ at `t`, or `beyond` where t is below 0.
pub(super) fn alpha_or(schedule: &Schedule, t: i64, beyond: Scalar) -> Scalar {
    usize::try_from(t).map_or(beyond, |t| schedule.alpha(t))
}

/// ᾱ where there is no timestep: 1, or that of timestep 0.
pub(super) fn alpha_beyond(schedule: &Schedule, is_one: bool) -> Scalar {
    if is_one { schedule.precision().scalar(1.0) } else { schedule.alpha(0) }
}

/// ᾱ before and after a step.
#[derive(Clone, Copy, Debug)]
struct Levels {
    alpha: Scalar,
    next: Scalar,
}

impl Levels {
    fn variance(self) -> Scalar {
        (self.next.rest() / self.alpha.rest()) * (self.alpha / self.next).rest()
    }

    /// What σ leaves of the noise's variance, 1 − ᾱ' − σ². With η = 1 and ᾱ = 0 that is 0, and a rounding less.
    fn left(self, sigma: Scalar) -> Scalar {
        self.next.rest() - sigma.square()
    }

    /// √(1 − ᾱ' − σ²), the weight of ε.
    fn direction(self, sigma: Scalar) -> Scalar {
        self.left(sigma).at_least(0.0).sqrt()
    }
}

/// What DDIM and its inverse share.
#[derive(Clone, Debug)]
struct Walk {
    prediction: Prediction,
    clip: Option<f64>,
    timesteps: Vec<f64>,
    levels: Vec<Levels>,
}

impl Walk {
    fn new(
        settings: &Settings,
        schedule: &Schedule,
        timesteps: Vec<f64>,
        clip: Option<f64>,
        levels: impl Fn(i64) -> Levels,
    ) -> std::result::Result<Self, SamplingError> {
        let levels: Vec<Levels> = timesteps.iter().map(|&t| levels(t as i64)).collect();
        super::needs_signal(settings.prediction, levels.iter().map(|level| level.alpha))?;
        debug_assert!(timesteps.iter().all(|&t| (t as usize) < schedule.train_steps()));
        Ok(Self { prediction: settings.prediction, clip, timesteps, levels })
    }

    fn denoised(&self, output: &Tensor, i: usize, x: &Tensor) -> Result<Tensor> {
        clean(self.prediction, output, x, self.levels[i].alpha)
    }

    /// √ᾱ'·x₀ + √(1 − ᾱ' − σ²)·ε.
    fn mean(&self, i: usize, given: Given<'_>, sigma: Scalar) -> Result<Tensor> {
        let Levels { alpha, next } = self.levels[i];
        let x0 = clip(clean(self.prediction, given.output, given.x, alpha)?, self.clip)?;
        let noise = noise_of(self.prediction, given.output, given.x, alpha)?;
        let direction = self.levels[i].direction(sigma);
        add(&mul(&x0, next.sqrt())?, &mul(&noise, direction)?)
    }

    /// A and B of `x' = A·x + B·m + σ·z`.
    fn linear(&self, i: usize, sigma: Scalar) -> (Scalar, Scalar) {
        let Levels { alpha, next } = self.levels[i];
        let (signal, noise) = mixture(alpha);
        let (kept, direction) = (next.sqrt(), self.levels[i].direction(sigma));
        match self.prediction {
            Prediction::Epsilon => (kept / signal, direction - kept / signal * noise),
            Prediction::V => (kept * signal + direction * noise, direction * signal - kept * noise),
            Prediction::Sample => (direction / noise, kept - direction / noise * signal),
        }
    }
}

/// DDIM from noise to a sample.
#[derive(Clone, Debug)]
pub(super) struct Ddim {
    walk: Walk,
    eta: f64,
}

impl Ddim {
    pub(super) fn new(
        settings: &Settings,
        schedule: &Schedule,
        steps: usize,
        eta: f64,
        clip: Option<f64>,
        last_alpha_is_one: bool,
    ) -> std::result::Result<Self, SamplingError> {
        let train = schedule.train_steps();
        let timesteps =
            within(whole(settings.spacing, train, steps, settings.steps_offset), settings, steps)?;
        let last = alpha_beyond(schedule, last_alpha_is_one);
        let levels = |t: i64| {
            let next = alpha_or(schedule, t - (train / steps) as i64, last);
            Levels { alpha: schedule.alpha(t as usize), next }
        };
        let ddim = Self { walk: Walk::new(settings, schedule, timesteps, clip, levels)?, eta };
        ddim.leaves_room().then_some(ddim).ok_or(SamplingError::Eta {
            eta,
            sampler: "ddim",
            expected: "at most 1: more adds more noise than a step has",
        })
    }

    /// Whether no step adds more noise than the next level has.
    fn leaves_room(&self) -> bool {
        let room = |(i, level): (usize, &Levels)| level.left(self.sigma(i)).value() >= -ROUNDING;
        self.walk.levels.iter().enumerate().all(room)
    }

    fn sigma(&self, i: usize) -> Scalar {
        self.walk.levels[i].variance().sqrt() * self.eta
    }
}

impl Rule for Ddim {
    fn timesteps(&self) -> &[f64] {
        &self.walk.timesteps
    }

    fn takes_noise(&self, _i: usize) -> bool {
        self.eta > 0.0
    }

    fn levels(&self, i: usize, precision: Precision) -> (Scalar, Scalar) {
        mixture(self.walk.levels[i].alpha.within(precision))
    }

    fn denoised(&self, output: &Tensor, i: usize, x: &Tensor) -> Result<Tensor> {
        self.walk.denoised(output, i, x)
    }

    fn step(&self, _state: &mut State, i: usize, given: Given<'_>) -> Result<Tensor> {
        let sigma = self.sigma(i);
        given.with_noise(self.walk.mean(i, given, sigma)?, sigma)
    }

    fn fused(&self, i: usize, guidance: f64) -> Option<DdimStep> {
        let Levels { alpha, next } = self.walk.levels[i];
        let plain = self.walk.prediction == Prediction::Epsilon && self.walk.clip.is_none();
        (plain && self.eta <= 1.0).then(|| DdimStep {
            guidance,
            alpha: alpha.value(),
            alpha_next: next.value(),
            eta: self.eta,
        })
    }

    fn undo(&self, i: usize, given: Given<'_>) -> Option<Result<Tensor>> {
        self.walk.clip.is_none().then(|| {
            let sigma = self.sigma(i);
            let (kept, turned) = self.walk.linear(i, sigma);
            if kept.value() == 0.0 {
                bail!("step {i} leaves nothing of the sample before it: it cannot be undone");
            }
            let without_noise = given.with_noise(given.x.clone(), -sigma)?;
            div(&sub(&without_noise, &mul(given.output, turned)?)?, kept)
        })
    }
}

/// DDIM from a sample to its noise.
#[derive(Clone, Debug)]
pub(super) struct Inverse(Walk);

impl Inverse {
    pub(super) fn new(
        settings: &Settings,
        schedule: &Schedule,
        steps: usize,
        clip: Option<f64>,
        first_alpha_is_one: bool,
    ) -> std::result::Result<Self, SamplingError> {
        let train = schedule.train_steps();
        let mut timesteps =
            within(whole(settings.spacing, train, steps, settings.steps_offset), settings, steps)?;
        timesteps.reverse();
        let first = alpha_beyond(schedule, first_alpha_is_one);
        let levels = |t: i64| {
            let alpha = alpha_or(schedule, t - (train / steps) as i64, first);
            Levels { alpha, next: schedule.alpha(t as usize) }
        };
        Ok(Self(Walk::new(settings, schedule, timesteps, clip, levels)?))
    }
}

impl Rule for Inverse {
    fn timesteps(&self) -> &[f64] {
        &self.0.timesteps
    }

    fn levels(&self, i: usize, precision: Precision) -> (Scalar, Scalar) {
        mixture(self.0.levels[i].alpha.within(precision))
    }

    fn denoised(&self, output: &Tensor, i: usize, x: &Tensor) -> Result<Tensor> {
        self.0.denoised(output, i, x)
    }

    fn step(&self, _state: &mut State, i: usize, given: Given<'_>) -> Result<Tensor> {
        let no_noise = self.0.levels[i].next * 0.0;
        self.0.mean(i, given, no_noise)
    }
}
