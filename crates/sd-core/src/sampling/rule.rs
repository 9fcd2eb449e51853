//! What a sampler answers to the common part.

use std::fmt::Debug;

use candle_core::{Result, Tensor};

use super::scalar::{Precision, Scalar};
use super::state::State;
use super::tensor::{add, mul};
use crate::ops::guidance::DdimStep;

/// What a step is given, all in one dtype.
#[derive(Clone, Copy)]
pub(super) struct Given<'a> {
    /// The model's answer.
    pub(super) output: &'a Tensor,
    /// The sample before the step.
    pub(super) x: &'a Tensor,
    /// Fresh standard-normal noise where [`Rule::takes_noise`].
    pub(super) noise: Option<&'a Tensor>,
}

impl Given<'_> {
    /// `mean + deviation·noise`, or the mean where no noise was given.
    pub(super) fn with_noise(&self, mean: Tensor, deviation: Scalar) -> Result<Tensor> {
        match self.noise {
            Some(noise) => add(&mean, &mul(noise, deviation)?),
            None => Ok(mean),
        }
    }
}

/// A sampler of one number of steps. Index `i` counts model evaluations.
pub(super) trait Rule: Debug + Send + Sync {
    /// The timestep of every evaluation.
    fn timesteps(&self) -> &[f64];

    /// The deviation of the first sample.
    fn init_noise_sigma(&self) -> f64 {
        1.0
    }

    /// What the model's input is divided by.
    fn input_scale(&self, _i: usize) -> Option<Scalar> {
        None
    }

    /// Whether step `i` takes fresh noise.
    fn takes_noise(&self, _i: usize) -> bool {
        false
    }

    /// Whether a step depends on those before it, so that they must come in order.
    fn is_multistep(&self) -> bool {
        false
    }

    /// (a, b) of the sample before step `i` that is `a·x₀ + b·ε`, computed in `precision` from the tables.
    fn levels(&self, i: usize, precision: Precision) -> (Scalar, Scalar);

    /// x₀ as the model's answer at step `i` has it, not clipped.
    fn denoised(&self, output: &Tensor, i: usize, x: &Tensor) -> Result<Tensor>;

    /// The sample after step `i`.
    fn step(&self, state: &mut State, i: usize, given: Given<'_>) -> Result<Tensor>;

    /// The numbers of the fused guided step, where step `i` is one of DDIM on a prediction of the noise.
    fn fused(&self, _i: usize, _guidance: f64) -> Option<DdimStep> {
        None
    }

    /// The sample before step `i` of DDIM, from that after it.
    fn undo(&self, _i: usize, _given: Given<'_>) -> Option<Result<Tensor>> {
        None
    }
}
