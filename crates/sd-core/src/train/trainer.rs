//! The loop.

use std::time::Instant;

use candle_core::Result as TensorResult;
use candle_core::backprop::GradStore;

use super::checkpoint::{self, History, Sums};
use super::{
    Ema, LogRow, Outcome, Progress, Run, TrainError, Trained, Watch, clip_gradient_norm, gradient_norm,
};
use crate::nn::Parameters;

/// A run under way.
pub(super) struct Trainer<'a> {
    run: Run<'a>,
    ema: Option<Ema>,
    history: History,
    clock: Clock,
}

/// For display and for when to save.
struct Clock {
    started: Instant,
    /// Steps that were done before.
    first: u64,
    saved: Instant,
}

/// Loss and gradients of a step.
type Gradients<'t> = dyn FnMut(&Parameters, u64) -> TensorResult<(f64, GradStore)> + 't;

impl<'a> Trainer<'a> {
    /// At step 0, or where the checkpoint is.
    pub(super) fn start(mut run: Run<'a>) -> Result<Self, TrainError> {
        // Now, rather than when the first checkpoint is due.
        make_folder_of(&run)?;
        let ema = run.ema.map(|decay| Ema::new(run.parameters, decay)).transpose();
        let mut ema = ema.map_err(|source| TrainError::Step { step: 0, source })?;
        let history = checkpoint::restore(&mut run, ema.as_mut())?.unwrap_or_default();
        let now = Instant::now();
        let clock = Clock { started: now, first: history.step, saved: now };
        Ok(Self { run, ema, history, clock })
    }

    /// Does the steps that are left.
    pub(super) fn go_on(
        &mut self,
        task: &mut Gradients<'_>,
        watch: &mut dyn Watch,
    ) -> Result<Outcome, TrainError> {
        if self.is_done() {
            return Ok(Outcome::Finished);
        }
        while !self.is_done() {
            if watch.stop() {
                self.save()?;
                return Ok(Outcome::Stopped { step: self.history.step });
            }
            self.step(task)?;
            self.log(watch);
            let seen = watch.after_step(self.history.step, self.ema.as_ref());
            seen.map_err(|source| TrainError::Step { step: self.history.step - 1, source })?;
            if !self.is_done() && self.clock.saved.elapsed() >= self.run.checkpoint_every {
                self.save()?;
            }
        }
        self.save()?;
        Ok(Outcome::Finished)
    }

    pub(super) fn finish(self, outcome: Outcome) -> Result<Trained, TrainError> {
        let step = self.history.step;
        let ema = self.ema.as_ref().map(Ema::state).transpose();
        let ema = ema.map_err(|source| TrainError::Gather { path: self.run.checkpoint.clone(), source })?;
        Ok(Trained { outcome, step, log: self.history.log, ema })
    }

    pub(super) fn step_done(&self) -> u64 {
        self.history.step
    }

    pub(super) fn is_done(&self) -> bool {
        self.history.step >= self.run.schedule.steps
    }

    fn save(&mut self) -> Result<(), TrainError> {
        checkpoint::save(&self.run, self.ema.as_ref(), &self.history)?;
        self.clock.saved = Instant::now();
        Ok(())
    }

    fn step(&mut self, task: &mut Gradients<'_>) -> Result<(), TrainError> {
        let step = self.history.step;
        let at_step = |source| TrainError::Step { step, source };
        let (loss, mut gradients) = task(self.run.parameters, step).map_err(at_step)?;
        let loss = self.finite("loss", loss)?;
        let norm = self.clip(&mut gradients).map_err(at_step)?;
        let norm = self.finite("norm of the gradient", norm)?;
        self.apply(&gradients).map_err(at_step)?;
        self.history.add(loss, norm);
        Ok(())
    }

    fn clip(&self, gradients: &mut GradStore) -> TensorResult<f64> {
        match self.run.clip {
            Some(largest) => clip_gradient_norm(gradients, self.run.parameters, largest),
            None => gradient_norm(gradients, self.run.parameters),
        }
    }

    fn apply(&mut self, gradients: &GradStore) -> TensorResult<()> {
        self.run.optimiser.set_learning_rate(self.run.schedule.at(self.history.step));
        self.run.optimiser.step(gradients)?;
        self.ema.as_mut().map_or(Ok(()), |ema| ema.update(self.run.parameters))
    }

    fn finite(&self, what: &'static str, value: f64) -> Result<f64, TrainError> {
        if value.is_finite() {
            return Ok(value);
        }
        let (step, checkpoint) = (self.history.step, self.run.checkpoint.clone());
        Err(TrainError::NotFinite { step, what, value, checkpoint })
    }

    /// A row, where one is due.
    fn log(&mut self, watch: &mut dyn Watch) {
        if self.is_done() || self.history.step.is_multiple_of(self.run.log_every.max(1)) {
            let row = self.history.row(self.run.schedule.at(self.history.step - 1));
            watch.logged(&row, &self.clock.progress(self.history.step, self.run.schedule.steps));
        }
    }
}

fn make_folder_of(run: &Run<'_>) -> Result<(), TrainError> {
    match run.checkpoint.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => std::fs::create_dir_all(folder).map_err(|source| {
            TrainError::Io { path: folder.to_owned(), action: "make the checkpoint's folder", source }
        }),
        _ => Ok(()),
    }
}

impl History {
    fn add(&mut self, loss: f64, gradient_norm: f64) {
        self.step += 1;
        self.since.steps += 1;
        self.since.loss += loss;
        self.since.gradient_norm += gradient_norm;
    }

    /// Makes a row of the steps since the last one.
    fn row(&mut self, learning_rate: f64) -> LogRow {
        let Sums { steps, loss, gradient_norm } = std::mem::take(&mut self.since);
        let mean = |sum: f64| sum / steps as f64;
        let row =
            LogRow { step: self.step, loss: mean(loss), gradient_norm: mean(gradient_norm), learning_rate };
        self.log.push(row);
        row
    }
}

impl Clock {
    fn progress(&self, step: u64, steps: u64) -> Progress {
        let done = step.saturating_sub(self.first).max(1);
        let seconds_per_step = self.started.elapsed().as_secs_f64() / done as f64;
        Progress { step, steps, seconds_per_step, seconds_left: seconds_per_step * (steps - step) as f64 }
    }
}
