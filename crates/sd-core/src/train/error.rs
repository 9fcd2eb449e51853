//! What ends a training run.

use std::path::PathBuf;

use crate::weights::WeightsError;

/// A run that could not start, go on or be kept.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A loss or a gradient is infinite or not a number.
    #[error(
        "training step {step} (from 0): the {what} is {value}; expected a finite number: try a lower learning rate or a clipped gradient; {} is as it was", checkpoint.display()
    )]
    NotFinite {
        /// The step, counted from 0.
        step: u64,
        /// Of what: the loss, or the gradient's norm.
        what: &'static str,
        /// What was found.
        value: f64,
        /// The checkpoint, in which there is none of this step.
        checkpoint: PathBuf,
    },
    /// The task, the optimiser or the watch failed.
    #[error("training step {step} (from 0): {source}")]
    Step {
        /// The step, counted from 0.
        step: u64,
        /// Why.
        source: candle_core::Error,
    },
    /// The checkpoint is that of a run with another configuration.
    #[error(
        "{}: a checkpoint of another configuration: expected `{expected}`, found `{found}`; delete it to start anew, or put the configuration back to go on", path.display()
    )]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What this run has where the two differ first.
        expected: String,
        /// What the checkpoint has there.
        found: String,
    },
    /// The checkpoint cannot be read, or does not fit the model.
    #[error("{}: damaged, or no checkpoint of this run: {why}; delete it to start the run anew", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The state of the run cannot be put together.
    #[error("{}: cannot gather the checkpoint: {source}", path.display())]
    Gather {
        /// The file.
        path: PathBuf,
        /// Why.
        source: candle_core::Error,
    },
    /// The checkpoint cannot be opened or written.
    #[error(transparent)]
    File(Box<WeightsError>),
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl From<WeightsError> for TrainError {
    fn from(error: WeightsError) -> Self {
        Self::File(Box::new(error))
    }
}

impl TrainError {
    /// Whether the training itself went wrong, and not what it was started with.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Configuration { .. } | Self::Checkpoint { .. })
    }
}
