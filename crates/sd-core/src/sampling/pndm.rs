//! Pseudo numerical methods (Liu et al. 2022): `x' = φ(x, ε, ᾱ, ᾱ')` (equation 11) with an ε that combines several answers of the model.
//!
//! PLMS takes Adams and Bashforth's combinations of the last four answers (equation 12). It has to start somehow:
//! * skipping Runge and Kutta's steps (as Stable Diffusion does), the first step is taken twice, the second time with the mean of both
//!   answers. That repeats a timestep: N steps are N + 1 evaluations of the model.
//! * otherwise three steps of the pseudo Runge-Kutta method (equation 13), four evaluations each.
//!
//! Which formula applies depends on how many steps were taken, not on where in the schedule. So it does where sampling begins in the
//! middle (image to image); then, as in diffusers, the second evaluation counts as the repeated one.

use candle_core::{Result, Tensor};

use super::ddim::{alpha_beyond, alpha_or, clean, mixture};
use super::error::SamplingError;
use super::rule::{Given, Rule};
use super::scalar::{Precision, Scalar};
use super::schedule::Schedule;
use super::settings::{Prediction, Settings};
use super::spacing::whole;
use super::state::State;
use super::tensor::{add, div, mul, sub};
use super::within;

/// Answers that are combined.
const ORDER: usize = 4;
/// Evaluations of Runge and Kutta's steps, and of one of them.
const RUNGE_KUTTA: usize = 12;
const STAGES: usize = 4;

/// PLMS, with Runge and Kutta's steps before it or a repeated one.
#[derive(Clone, Debug)]
pub(super) struct Pndm {
    prediction: Prediction,
    schedule: Schedule,
    last: Scalar,
    /// ⌊T/N⌋.
    stride: i64,
    /// Evaluations that belong to Runge and Kutta's steps.
    runge_kutta: usize,
    timesteps: Vec<f64>,
}

impl Pndm {
    pub(super) fn new(
        settings: &Settings,
        schedule: &Schedule,
        steps: usize,
        skip_prk_steps: bool,
        last_alpha_is_one: bool,
    ) -> std::result::Result<Self, SamplingError> {
        super::refuse_sample("pndm", settings.prediction)?;
        let train = schedule.train_steps();
        let spaced = within(whole(settings.spacing, train, steps, settings.steps_offset), settings, steps)?;
        let stride = (train / steps) as i64;
        let timesteps = match skip_prk_steps {
            true => with_repeated_step(spaced),
            false if steps < ORDER => return Err(SamplingError::TooFewForRungeKutta(steps)),
            false => with_runge_kutta(&spaced, (stride / 2) as f64),
        };
        Ok(Self {
            prediction: settings.prediction,
            last: alpha_beyond(schedule, last_alpha_is_one),
            schedule: schedule.clone(),
            stride,
            runge_kutta: if skip_prk_steps { 0 } else { RUNGE_KUTTA },
            timesteps,
        })
    }

    /// Equation 11: from `x` at `from` to `to`.
    fn transfer(&self, x: &Tensor, output: &Tensor, from: i64, to: i64) -> Result<Tensor> {
        let (alpha, next) =
            (alpha_or(&self.schedule, from, self.last), alpha_or(&self.schedule, to, self.last));
        let noise = match self.prediction {
            Prediction::V => add(&mul(output, alpha.sqrt())?, &mul(x, alpha.rest().sqrt())?)?,
            _ => output.clone(),
        };
        let denominator = alpha * next.rest().sqrt() + (alpha * alpha.rest() * next).sqrt();
        let turned = div(&mul(&noise, next - alpha)?, denominator)?;
        sub(&mul(x, (next / alpha).sqrt())?, &turned)
    }

    fn number(&self, value: f64) -> Scalar {
        self.schedule.precision().scalar(value)
    }

    /// `Σ weights·answers / divisor`, the newest first.
    fn combine(&self, state: &State, weights: &[f64]) -> Result<Tensor> {
        let mut sum = mul(state.answer(0)?, self.number(weights[0]))?;
        for (back, &weight) in weights.iter().enumerate().skip(1) {
            sum = add(&sum, &mul(state.answer(back)?, self.number(weight))?)?;
        }
        Ok(sum)
    }

    /// Adams and Bashforth's combination of what is remembered (equation 12).
    fn adams_bashforth(&self, state: &State) -> Result<Tensor> {
        match state.history.len() {
            1 => Ok(state.answer(0)?.clone()),
            2 => div(&self.combine(state, &[3.0, -1.0])?, self.number(2.0)),
            3 => div(&self.combine(state, &[23.0, -16.0, 5.0])?, self.number(12.0)),
            _ => mul(&self.combine(state, &[55.0, -59.0, 37.0, -9.0])?, self.number(1.0 / 24.0)),
        }
    }

    fn linear_multistep(&self, state: &mut State, t: i64, given: Given<'_>) -> Result<Tensor> {
        if self.runge_kutta == 0 && state.calls == 1 {
            return self.repeated(state, t, given);
        }
        state.remember(given.output.clone(), ORDER);
        if state.calls == 0 {
            state.base = Some(given.x.clone());
        }
        self.transfer(given.x, &self.adams_bashforth(state)?, t, t - self.stride)
    }

    /// The first step once more, from where it started, with the mean of both answers.
    fn repeated(&self, state: &mut State, t: i64, given: Given<'_>) -> Result<Tensor> {
        let mean = div(&add(given.output, state.answer(0)?)?, self.number(2.0))?;
        let base = state.base.take().unwrap_or_else(|| given.x.clone());
        self.transfer(&base, &mean, t + self.stride, t)
    }

    /// One of the four evaluations of a Runge-Kutta step (equation 13).
    fn runge_kutta(&self, state: &mut State, t: i64, given: Given<'_>) -> Result<Tensor> {
        let half = self.stride / 2;
        let to = if state.calls.is_multiple_of(2) { t - half } else { t };
        let from = self.timesteps[state.calls / STAGES * STAGES] as i64;
        let stage = state.calls % STAGES;
        if stage == 0 {
            state.base = Some(given.x.clone());
            state.remember(given.output.clone(), ORDER);
        }
        let weight = if stage == 0 || stage == 3 { 1.0 / 6.0 } else { 1.0 / 3.0 };
        let weighted = mul(given.output, self.number(weight))?;
        let sum = match state.sum.take() {
            Some(sum) => add(&sum, &weighted)?,
            None => weighted,
        };
        let base = state.base.clone().unwrap_or_else(|| given.x.clone());
        if stage == 3 {
            return self.transfer(&base, &sum, from, to);
        }
        state.sum = Some(sum);
        self.transfer(&base, given.output, from, to)
    }
}

/// The second timestep twice.
fn with_repeated_step(mut timesteps: Vec<f64>) -> Vec<f64> {
    if let Some(&second) = timesteps.get(1) {
        timesteps.insert(1, second);
    }
    timesteps
}

/// Three steps of four evaluations, at their two ends and twice in the middle; then the remaining timesteps.
fn with_runge_kutta(timesteps: &[f64], half: f64) -> Vec<f64> {
    let stages = timesteps.windows(2).take(RUNGE_KUTTA / STAGES).flat_map(|pair| {
        let middle = pair[1] + half;
        [pair[0], middle, middle, pair[1]]
    });
    stages.chain(timesteps[RUNGE_KUTTA / STAGES..].iter().copied()).collect()
}

impl Rule for Pndm {
    fn timesteps(&self) -> &[f64] {
        &self.timesteps
    }

    fn is_multistep(&self) -> bool {
        true
    }

    fn levels(&self, i: usize, precision: Precision) -> (Scalar, Scalar) {
        mixture(self.schedule.alpha(self.timesteps[i] as usize).within(precision))
    }

    fn denoised(&self, output: &Tensor, i: usize, x: &Tensor) -> Result<Tensor> {
        clean(self.prediction, output, x, self.schedule.alpha(self.timesteps[i] as usize))
    }

    fn step(&self, state: &mut State, i: usize, given: Given<'_>) -> Result<Tensor> {
        let t = self.timesteps[i] as i64;
        if state.calls < self.runge_kutta {
            return self.runge_kutta(state, t, given);
        }
        self.linear_multistep(state, t, given)
    }
}
