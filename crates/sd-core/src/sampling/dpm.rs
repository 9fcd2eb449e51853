//! DPM-Solver++ of first and second order, multistep (Lu et al. 2022b, algorithm 2, "2M").
//!
//! The sample is `α·x₀ + σ̂·ε` with `α = 1/√(σ² + 1)`, `σ̂ = σ·α`; `λ = ln α − ln σ̂`. A step from s to t of length `h = λ_t − λ_s` is
//! `x_t = σ̂_t/σ̂_s·x − α_t·(e^{−h} − 1)·D₀ − ½·α_t·(e^{−h} − 1)·D₁` with `D₀` the prediction of x₀, and
//! `D₁ = (D₀ − the one before)·h/h_before`. Heun's variant has `+ α_t·((e^{−h} − 1)/h + 1)·D₁` for the last term. Without it the step is
//! of first order, and DDIM's.

use candle_core::{Result, Tensor};

use super::error::SamplingError;
use super::rule::{Given, Rule};
use super::scalar::{Precision, Scalar};
use super::schedule::{Beta, Schedule};
use super::settings::{Dpm, LastSigma, Prediction, Settings, Solver};
use super::sigmas::{Table, all_different, karras};
use super::spacing::{Spacing, leading, linspace, trailing};
use super::state::State;
use super::tensor::{add, div, mul, sub};
use super::within;

/// With fewer steps the last one may be of first order.
const FEW_STEPS: usize = 15;

/// DPM-Solver++(2M).
#[derive(Clone, Debug)]
pub(super) struct DpmSolver {
    prediction: Prediction,
    options: Dpm,
    timesteps: Vec<f64>,
    /// One more than timesteps.
    sigmas: Vec<Scalar>,
}

/// α, σ̂ and λ of a level.
#[derive(Clone, Copy)]
struct Level {
    alpha: Scalar,
    sigma: Scalar,
    lambda: Scalar,
}

impl Level {
    fn of(sigma: Scalar) -> Self {
        let (alpha, sigma) = mixture(sigma);
        Self { alpha, sigma, lambda: alpha.ln() - sigma.ln() }
    }
}

/// (α, σ̂) of σ.
fn mixture(sigma: Scalar) -> (Scalar, Scalar) {
    let root = (sigma.square() + 1.0).sqrt();
    let alpha = (root * 0.0 + 1.0) / root;
    (alpha, sigma * alpha)
}

impl DpmSolver {
    pub(super) fn new(
        settings: &Settings,
        schedule: Schedule,
        steps: usize,
        options: Dpm,
    ) -> std::result::Result<Self, SamplingError> {
        check(&options)?;
        let schedule = schedule.with_finite_sigma();
        let (table, train) = (Table::new(&schedule), schedule.train_steps());
        let last = train - clipped(&schedule, options.lambda_min);
        let mut timesteps = within(spaced(settings, train, last, steps)?, settings, steps)?;
        let mut visited: Vec<f64> = timesteps.iter().map(|&t| table.at(t)).collect();
        if options.karras {
            visited = karras(table.largest(), table.smallest(), steps);
            // The fractions are cut off where they are not rounded.
            let round =
                if settings.schedule.beta == Beta::Cosine { f64::trunc } else { f64::round_ties_even };
            timesteps = visited.iter().map(|&sigma| round(table.timestep(sigma))).collect();
        }
        let sigmas = table.levels(visited, options.last);
        all_different(&sigmas[..timesteps.len()], steps, train)?;
        Ok(Self { prediction: settings.prediction, options, timesteps, sigmas })
    }

    /// Whether step `i` of a run that has taken `calls` is of first order.
    fn is_first_order(&self, i: usize, calls: usize) -> bool {
        let few = self.options.lower_order_final && self.timesteps.len() < FEW_STEPS;
        let is_last = i + 1 == self.timesteps.len();
        let closing = self.options.euler_at_final || few || self.options.last == LastSigma::Zero;
        self.options.order == 1 || calls == 0 || (is_last && closing)
    }

    /// Weight of D₁ over α_t.
    fn second_weight(&self, h: Scalar) -> Scalar {
        let decay = (-h).exp() - 1.0;
        match self.options.solver {
            Solver::Midpoint => -(decay * 0.5),
            Solver::Heun => decay / h + 1.0,
        }
    }
}

fn check(options: &Dpm) -> std::result::Result<(), SamplingError> {
    if (1..=2).contains(&options.order) {
        return Ok(());
    }
    Err(SamplingError::Combination {
        what: "dpm++".into(),
        with: format!("`solver_order` {}", options.order),
        instead: "orders 1 and 2 are supported".into(),
    })
}

/// How many of the noisiest timesteps have a λ below `lambda_min`.
fn clipped(schedule: &Schedule, lambda_min: f64) -> usize {
    let lambda = |t: usize| schedule.alpha(t).sqrt().ln() - schedule.alpha(t).rest().sqrt().ln();
    (0..schedule.train_steps()).rev().take_while(|&t| lambda(t).value() < lambda_min).count()
}

/// N of the timesteps below `last`, one more than N being laid out and the cleanest left out.
fn spaced(
    settings: &Settings,
    train: usize,
    last: usize,
    steps: usize,
) -> std::result::Result<Vec<f64>, SamplingError> {
    let most = last.saturating_sub(1);
    if steps > most {
        let why = ", of which this sampler leaves one out";
        return Err(SamplingError::TooManySteps { steps, most, train, why });
    }
    Ok(match settings.spacing {
        Spacing::Leading => leading(1, steps + 1, last / (steps + 1), settings.steps_offset),
        Spacing::Trailing => trailing(last, train as f64 / steps as f64),
        Spacing::Linspace => {
            let all = linspace((last - 1) as f64, steps + 1);
            all[1..].iter().rev().map(|t| t.round_ties_even()).collect()
        }
    })
}

impl Rule for DpmSolver {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn is_multistep(&self) -> bool {
        self.options.order > 1
    }

    fn levels(&self, i: usize, precision: Precision) -> (Scalar, Scalar) {
        mixture(self.sigmas[i].within(precision))
    }

    fn denoised(&self, output: &Tensor, i: usize, x: &Tensor) -> Result<Tensor> {
        let (alpha, sigma) = mixture(self.sigmas[i]);
        match self.prediction {
            Prediction::Epsilon => div(&sub(x, &mul(output, sigma)?)?, alpha),
            Prediction::V => sub(&mul(x, alpha)?, &mul(output, sigma)?),
            Prediction::Sample => Ok(output.clone()),
        }
    }

    fn step(&self, state: &mut State, i: usize, given: Given<'_>) -> Result<Tensor> {
        state.remember(self.denoised(given.output, i, given.x)?, self.options.order);
        let (from, to) = (Level::of(self.sigmas[i]), Level::of(self.sigmas[i + 1]));
        let h = to.lambda - from.lambda;
        let x0 = state.answer(0)?;
        let kept = mul(given.x, to.sigma / from.sigma)?;
        let first = sub(&kept, &mul(x0, to.alpha * ((-h).exp() - 1.0))?)?;
        if self.is_first_order(i, state.calls) {
            return Ok(first);
        }
        let before = Level::of(self.sigmas[i - 1]);
        let ratio = (from.lambda - before.lambda) / h;
        let difference = mul(&sub(x0, state.answer(1)?)?, (ratio * 0.0 + 1.0) / ratio)?;
        add(&first, &mul(&difference, to.alpha * self.second_weight(h))?)
    }
}
