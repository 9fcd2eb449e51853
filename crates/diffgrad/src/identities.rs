//! What must hold exactly, on any machine, before a training run means anything (specification sections 2.6 to 2.8, part A0).
//!
//! The tests of this crate check the same things to their tolerances; here they are measured as rows, so that the report can
//! show them and claim C13 can be judged on them.

use candle_core::{Device, Tensor, Var};
use lab::paper::TrialContext;
use schemars::JsonSchema;
use sd_core::rng::Rng;
use serde::{Deserialize, Serialize};

use crate::optim::reference::{self, State};
use crate::optim::{Optimiser, OptimiserConfig, RuleName};

/// The study has one setting: how many random cases are tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityStudy {
    /// Random gradient pairs of the range check and random tensors of the bound.
    pub cases: usize,
}

/// Golden vectors of specification section 2.8: θ after five steps, without weight decay. Computed in `f64` from the formulas.
const GRADIENTS: [[f64; 3]; 5] =
    [[0.1, -2.0, 0.0], [0.2, -2.0, 1e-4], [-0.3, 3.0, -1e-4], [0.05, 0.5, 0.0], [0.05, 0.5, 5.0]];
const AS_WRITTEN: [f64; 3] = [0.998950840870, -0.998610142205, 0.499128256294];
const AS_RUN: [f64; 3] = [0.998968782841, -0.998635008120, 0.499397364955];

/// Measures every identity and writes a row each.
///
/// # Errors
/// Where a tensor cannot be made or a row cannot be written.
pub fn run(study: &IdentityStudy, context: &mut TrialContext) -> anyhow::Result<()> {
    context.row("golden_error", golden_error(RuleName::DiffGrad, &AS_WRITTEN)?)?;
    context.row("golden_error_as_run", golden_error(RuleName::DiffGradAsRun, &AS_RUN)?)?;
    context.row("half_step_is_adam_at_half_lr_error", half_step_error(study.cases))?;
    let (low, high, at_rest) = friction_range(study.cases);
    context.row("xi_lowest_minus_half", low - 0.5)?;
    context.row("one_minus_xi_highest", 1.0 - high)?;
    context.row("xi_without_change_minus_half", at_rest)?;
    context.row("large_change_minus_adam", large_change_error())?;
    context.row("bound_excess", bound_excess(study.cases))?;
    Ok(())
}

/// Largest error of the fused pass against the golden vectors.
fn golden_error(rule: RuleName, expected: &[f64; 3]) -> anyhow::Result<f64> {
    let theta = Var::new(&[1.0f64, -1.0, 0.5], &Device::Cpu)?;
    let mut optimiser = Optimiser::new(vec![theta.clone()], &OptimiserConfig::new(rule, 1e-3))?;
    for gradient in &GRADIENTS {
        optimiser.step_tensors(&[Some(Tensor::new(gradient, &Device::Cpu)?)])?;
    }
    let errors =
        theta.to_vec1::<f64>()?.into_iter().zip(expected).map(|(ours, expected)| (ours - expected).abs());
    Ok(errors.fold(0.0, f64::max))
}

/// ξ of every element when the gradient goes from `previous` to `current`.
fn friction(previous: &[f64], current: &[f64]) -> Vec<f64> {
    let config = OptimiserConfig::new(RuleName::DiffGrad, 1e-3);
    let (mut theta, mut state) = (vec![0.0; previous.len()], State::default());
    reference::step(&config, &mut theta, previous, &mut state);
    reference::step(&config, &mut theta, current, &mut state)
}

/// Lowest and highest ξ over random gradient changes, and the distance of ξ from ½ where nothing changed.
fn friction_range(cases: usize) -> (f64, f64, f64) {
    let mut rng = Rng::new(0, "diffgrad/identities/range", 0);
    let previous: Vec<f64> =
        (0..cases).map(|_| rng.normal() * 10f64.powf(6.0 * rng.uniform() - 5.0)).collect();
    let current: Vec<f64> = (0..cases).map(|_| rng.normal()).collect();
    let changed = friction(&previous, &current);
    let low = changed.iter().copied().fold(f64::INFINITY, f64::min);
    let high = changed.iter().copied().fold(0.0, f64::max);
    let at_rest = friction(&previous, &previous).into_iter().map(|xi| (xi - 0.5).abs()).fold(0.0, f64::max);
    (low, high, at_rest)
}

/// |1 − ξ| where the gradient changed by 40: the step is Adam's.
fn large_change_error() -> f64 {
    friction(&[-20.0], &[20.0]).into_iter().map(|xi| (1.0 - xi).abs()).fold(0.0, f64::max)
}

/// Largest difference of the control ξ = ½ to Adam at half the learning rate, over random trajectories.
fn half_step_error(cases: usize) -> f64 {
    let mut rng = Rng::new(0, "diffgrad/identities/half", 0);
    let half = OptimiserConfig::new(RuleName::HalfStep, 1e-3);
    let adam = OptimiserConfig::new(RuleName::Adam, 5e-4);
    let (mut a, mut b) = (vec![1.0; cases], vec![1.0; cases]);
    let (mut state_a, mut state_b) = (State::default(), State::default());
    for _ in 0..50 {
        let gradient: Vec<f64> = (0..cases).map(|_| rng.normal()).collect();
        reference::step(&half, &mut a, &gradient, &mut state_a);
        reference::step(&adam, &mut b, &gradient, &mut state_b);
    }
    a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// By how much mean(ξ) − ½ exceeds ‖g_t − g_{t−1}‖₂/(4·√d) at most (section 2.6); at or below 0 where the bound holds.
fn bound_excess(cases: usize) -> f64 {
    let mut rng = Rng::new(0, "diffgrad/identities/bound", 0);
    let mut excess = f64::NEG_INFINITY;
    for _ in 0..cases.div_ceil(16).min(256) {
        let d = 1 + rng.below(500) as usize;
        let scale = 10f64.powf(4.0 * rng.uniform() - 3.0);
        let mut draw = || (0..d).map(|_| scale * rng.normal()).collect::<Vec<f64>>();
        let (previous, current) = (draw(), draw());
        let change: f64 = previous.iter().zip(&current).map(|(a, b)| (a - b).powi(2)).sum();
        let bound = change.sqrt() / (4.0 * (d as f64).sqrt());
        let mean = friction(&previous, &current).iter().sum::<f64>() / d as f64 - 0.5;
        excess = excess.max(mean - bound);
    }
    excess
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn every_identity_holds() {
        assert!(golden_error(RuleName::DiffGrad, &AS_WRITTEN).unwrap() <= 1e-11);
        assert!(golden_error(RuleName::DiffGradAsRun, &AS_RUN).unwrap() <= 1e-11);
        assert!(golden_error(RuleName::DiffGrad, &AS_RUN).unwrap() > 1e-6, "the two are told apart");
        assert!(half_step_error(64) <= 1e-12);
        let (low, high, at_rest) = friction_range(4096);
        assert!(low > 0.5 && high < 1.0 && at_rest == 0.0, "{low} {high} {at_rest}");
        assert!(bound_excess(4096) <= 1e-15);
    }
}
