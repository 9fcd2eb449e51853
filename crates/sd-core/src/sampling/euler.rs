//! Euler's method in the notation of Karras et al. (2022): the sample is `x₀ + σ·ε`, the model sees it divided by √(σ² + 1).
//!
//! A step goes along `d = (x − x₀)/σ` from σ to σ': `x' = x + (σ' − σ)·d`. The ancestral one goes on to a lower σ and adds fresh
//! noise: `σ_up² = σ'²·(σ² − σ'²)/σ²`, `σ_down² = σ'² − σ_up²`, `x' = x + (σ_down − σ)·d + σ_up·z`.
//!
//! The linspace spacing keeps the fractions of its timesteps. The first sample has the deviation σ₀ where the spacing reaches the
//! noisiest timestep, √(σ₀² + 1) with the leading one.

use candle_core::{Result, Tensor};

use super::error::SamplingError;
use super::rule::{Given, Rule};
use super::scalar::{Precision, Scalar};
use super::schedule::Schedule;
use super::settings::{LastSigma, Prediction, Settings};
use super::sigmas::{Table, karras};
use super::spacing::{Spacing, linspace, whole};
use super::state::State;
use super::tensor::{add, div, mul, sub};
use super::within;

/// Euler's method, with or without fresh noise.
#[derive(Clone, Debug)]
pub(super) struct Euler {
    prediction: Prediction,
    ancestral: bool,
    timesteps: Vec<f64>,
    /// One more than timesteps.
    sigmas: Vec<Scalar>,
    init_noise_sigma: f64,
}

impl Euler {
    pub(super) fn new(
        settings: &Settings,
        schedule: Schedule,
        steps: usize,
        karras_sigmas: bool,
        last: LastSigma,
    ) -> std::result::Result<Self, SamplingError> {
        let schedule = schedule.with_finite_sigma();
        let (table, precision) = (Table::new(&schedule), schedule.precision());
        let mut timesteps = within(spaced(settings, schedule.train_steps(), steps), settings, steps)?;
        timesteps.iter_mut().for_each(|t| *t = precision.round(*t));
        let mut visited: Vec<f64> = timesteps.iter().map(|&t| table.at(t)).collect();
        if karras_sigmas {
            visited = karras(visited[0], visited[visited.len() - 1], steps);
            timesteps = visited.iter().map(|&sigma| precision.round(table.timestep(sigma))).collect();
        }
        let sigmas = table.levels(visited, last);
        let init_noise_sigma = deviation(sigmas[0], settings.spacing);
        let prediction = settings.prediction;
        Ok(Self { prediction, ancestral: false, timesteps, sigmas, init_noise_sigma })
    }

    pub(super) fn ancestral(
        settings: &Settings,
        schedule: Schedule,
        steps: usize,
    ) -> std::result::Result<Self, SamplingError> {
        super::refuse_sample("euler-a", settings.prediction)?;
        let euler = Self::new(settings, schedule, steps, false, LastSigma::Zero)?;
        Ok(Self { ancestral: true, ..euler })
    }

    /// (σ that the step goes to, deviation of the fresh noise).
    fn target(&self, i: usize) -> (Scalar, Scalar) {
        let (from, to) = (self.sigmas[i], self.sigmas[i + 1]);
        if !self.ancestral {
            return (to, to * 0.0);
        }
        let (from2, to2) = (from.square(), to.square());
        let up = (to2 * (from2 - to2) / from2).sqrt();
        ((to2 - up.square()).sqrt(), up)
    }
}

fn spaced(settings: &Settings, train: usize, steps: usize) -> Vec<f64> {
    match settings.spacing {
        Spacing::Linspace => linspace((train - 1) as f64, steps).into_iter().rev().collect(),
        spacing => whole(spacing, train, steps, settings.steps_offset),
    }
}

/// Of the first sample.
fn deviation(sigma: Scalar, spacing: Spacing) -> f64 {
    match spacing {
        Spacing::Leading => (sigma.square() + 1.0).sqrt().value(),
        Spacing::Trailing | Spacing::Linspace => sigma.value(),
    }
}

impl Rule for Euler {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn init_noise_sigma(&self) -> f64 {
        self.init_noise_sigma
    }

    fn input_scale(&self, i: usize) -> Option<Scalar> {
        Some((self.sigmas[i].square() + 1.0).sqrt())
    }

    fn takes_noise(&self, _i: usize) -> bool {
        self.ancestral
    }

    fn levels(&self, i: usize, precision: Precision) -> (Scalar, Scalar) {
        (precision.scalar(1.0), self.sigmas[i].within(precision))
    }

    fn denoised(&self, output: &Tensor, i: usize, x: &Tensor) -> Result<Tensor> {
        let sigma = self.sigmas[i];
        match self.prediction {
            Prediction::Epsilon => sub(x, &mul(output, sigma)?),
            Prediction::V => {
                let scale = sigma.square() + 1.0;
                add(&mul(output, -sigma / scale.sqrt())?, &div(x, scale)?)
            }
            Prediction::Sample => Ok(output.clone()),
        }
    }

    fn step(&self, _state: &mut State, i: usize, given: Given<'_>) -> Result<Tensor> {
        let (x, x0) = (given.x, self.denoised(given.output, i, given.x)?);
        let (to, up) = self.target(i);
        let derivative = div(&sub(x, &x0)?, self.sigmas[i])?;
        given.with_noise(add(x, &mul(&derivative, to - self.sigmas[i])?)?, up)
    }
}
