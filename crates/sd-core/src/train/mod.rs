//! What every training run shares: the loop, the learning rate by step, clipping, averaged weights, checkpoints.
//!
//! A step is
//!
//! ```text
//! L = task(k)    g = ∇L    g ← g·min(1, clip/(‖g‖ + 10⁻⁶))    θ ← optimiser(θ, g, lr(k))    θ̄ ← θ̄ − (1 − d)·(θ̄ − θ)
//! ```
//!
//! [`run`] does the steps k = 0, 1, … that its checkpoint has not done yet. The loss of step k must be a function of k and the
//! parameters alone; then a run that was stopped and resumed equals one that was not, bit for bit, log included. The clock is
//! read for what is displayed and for when to write a checkpoint, and decides nothing else.

mod checkpoint;
mod clip;
mod ema;
mod error;
mod parts;
mod schedule;
#[cfg(test)]
mod tests;
mod trainer;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use candle_core::backprop::GradStore;
use candle_core::{DType, Result, Tensor};

use crate::nn::Parameters;

pub use clip::{clip_gradient_norm, gradient_norm};
pub use ema::Ema;
pub use error::TrainError;
pub use parts::Task;
pub use schedule::{Decay, Schedule};

/// What steps the parameters. It holds those that it steps.
pub trait Optimiser {
    /// One step on every parameter that has a gradient.
    ///
    /// # Errors
    /// Where a gradient does not fit its parameter.
    fn step(&mut self, gradients: &GradStore) -> Result<()>;

    /// Sets the learning rate of the steps to come.
    fn set_learning_rate(&mut self, lr: f64);

    /// All that later steps depend on, parameters and gradients left out.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    fn state(&self) -> Result<BTreeMap<String, Tensor>>;

    /// Takes over what [`Optimiser::state`] gave. The tensors may lie on the CPU wherever the parameters are.
    ///
    /// # Errors
    /// Where the state is that of another optimiser or model.
    fn restore(&mut self, state: BTreeMap<String, Tensor>) -> Result<()>;
}

/// A training run.
pub struct Run<'a> {
    /// What is trained. A checkpoint holds its buffers too.
    pub parameters: &'a Parameters,
    /// What steps them.
    pub optimiser: &'a mut dyn Optimiser,
    /// The learning rate, and how many steps there are.
    pub schedule: Schedule,
    /// Largest decay of the averaged weights; none: no average is kept.
    pub ema: Option<f64>,
    /// Largest norm of the gradient; none: it is not clipped.
    pub clip: Option<f64>,
    /// The checkpoint's file. Its folder is made where it is not there.
    pub checkpoint: PathBuf,
    /// Time between two checkpoints. One is also written at a stop and after the last step.
    pub checkpoint_every: Duration,
    /// Steps between two rows of the log; the last step has a row in any case.
    pub log_every: u64,
    /// All that the result depends on, as text of any form: a checkpoint with another text is refused.
    pub configuration: String,
}

/// One row of the log: the steps since the row before. There is no clock in it, so that a resumed run has the same rows.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogRow {
    /// Steps done.
    pub step: u64,
    /// Mean loss.
    pub loss: f64,
    /// Mean norm of the gradient before it was clipped.
    pub gradient_norm: f64,
    /// Learning rate of the last of these steps.
    pub learning_rate: f64,
}

/// Where a run stands; to be displayed, not to be computed with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Steps in all.
    pub steps: u64,
    /// Mean over the steps done since the run was started or resumed.
    pub seconds_per_step: f64,
    /// What the steps to come will take at that pace.
    pub seconds_left: f64,
}

/// Who looks on. Every method may be left out.
pub trait Watch {
    /// A row was added to the log. Rows from before a resume do not come again.
    fn logged(&mut self, row: &LogRow, progress: &Progress) {
        let _ = (row, progress);
    }

    /// Asked before every step: whether to write a checkpoint and return.
    fn stop(&mut self) -> bool {
        false
    }

    /// After every step, with the number of steps done: the place to draw samples. After a crash, steps since the last checkpoint
    /// are done, and come by here, again.
    ///
    /// # Errors
    /// Whatever ends the run.
    fn after_step(&mut self, step: u64, ema: Option<&Ema>) -> Result<()> {
        let _ = (step, ema);
        Ok(())
    }
}

/// Nobody looks on.
impl Watch for () {}

/// Why a run returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every step is done.
    Finished,
    /// [`Watch::stop`] said so; the next run goes on from here.
    Stopped {
        /// Steps done.
        step: u64,
    },
}

/// What a run leaves beside the parameters themselves.
#[derive(Debug)]
pub struct Trained {
    /// Why it returned.
    pub outcome: Outcome,
    /// Steps done.
    pub step: u64,
    /// Every row since step 0.
    pub log: Vec<LogRow>,
    /// The averaged weights as [`Ema::state`], where they were asked for.
    pub ema: Option<BTreeMap<String, Tensor>>,
}

/// Trains, from the checkpoint on where there is one. `task` gives the loss of step k, counted from 0, as a scalar tensor.
///
/// A run whose last step is done returns at once, with the parameters, log and average it had then.
///
/// # Errors
/// Where the checkpoint is damaged, of another configuration or cannot be written; where a loss or gradient is not finite (nothing
/// is stepped or written then); and where the task, the optimiser or the watch fail. The parameters are of no use then.
pub fn run(
    run: Run<'_>,
    task: &mut dyn FnMut(u64) -> Result<Tensor>,
    watch: &mut dyn Watch,
) -> std::result::Result<Trained, TrainError> {
    let mut trainer = trainer::Trainer::start(run)?;
    let mut gradients = |_: &Parameters, step| {
        let loss = task(step)?;
        let value = loss.detach().to_dtype(DType::F64)?.to_scalar::<f64>()?;
        Ok((value, loss.backward()?))
    };
    let outcome = trainer.go_on(&mut gradients, watch)?;
    trainer.finish(outcome)
}

/// As [`run`], for a task whose steps have parts that are computed side by side.
///
/// # Errors
/// As [`run`].
pub fn run_in_parts(
    run: Run<'_>,
    task: &mut dyn Task,
    watch: &mut dyn Watch,
) -> std::result::Result<Trained, TrainError> {
    let mut trainer = trainer::Trainer::start(run)?;
    let step = trainer.step_done();
    if !trainer.is_done() {
        task.prepare().map_err(|source| TrainError::Step { step, source })?;
    }
    let task = &*task;
    let pools = parts::Pools::new(task.parts()).map_err(|source| TrainError::Step { step, source })?;
    let mut gradients = |parameters: &Parameters, step| parts::step(task, &pools, parameters, step);
    let outcome = trainer.go_on(&mut gradients, watch)?;
    trainer.finish(outcome)
}
