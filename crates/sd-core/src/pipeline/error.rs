//! What keeps a pipeline from making a picture.

use std::path::PathBuf;

use crate::models::clip::tokenizer::TokenizerError;
use crate::models::config::ConfigError;
use crate::sampling::SamplingError;
use crate::weights::WeightsError;

/// A pipeline that cannot be opened, cannot do what is asked, or failed at it.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// Files of weights.
    #[error(transparent)]
    Weights(Box<WeightsError>),
    /// The folder of one component where a whole pipeline is needed.
    #[error("{}: this is the folder of one component: give the folder around it", .0.display())]
    NoPipeline(PathBuf),
    /// The operating system refused.
    #[error("{}: cannot read it: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A component's configuration.
    #[error("{}: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: ConfigError,
    },
    /// The tokenizer's files.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// A sampler that cannot be made.
    #[error(transparent)]
    Sampling(#[from] SamplingError),
    /// The scheduler's configuration does not allow the sampler.
    #[error("scheduler: {0}")]
    Scheduler(ConfigError),
    /// Components that do not belong together.
    #[error("{}: {what}: expected {expected}, found {found}; are the components of one model?", path.display())]
    Mismatch {
        /// The pipeline's folder.
        path: PathBuf,
        /// What should agree.
        what: &'static str,
        /// What one component says.
        expected: String,
        /// What the other says.
        found: usize,
    },
    /// A setting that no model could follow.
    #[error("{setting}: expected {expected}, found {found}")]
    Setting {
        /// Its name.
        setting: &'static str,
        /// What may be asked.
        expected: String,
        /// What was.
        found: String,
    },
    /// A side that the model cannot make.
    #[error("{side} {found}: expected a multiple of {multiple}; the nearest are {nearest}")]
    Size {
        /// `height` or `width`.
        side: &'static str,
        /// Pixels asked for.
        found: usize,
        /// What divides every side.
        multiple: usize,
        /// The nearest sides that can be made.
        nearest: String,
    },
    /// A model for inpainting without a picture, or another with one.
    #[error("{0}")]
    Inpaint(&'static str),
    /// Infinite or no numbers at all.
    #[error(
        "step {step} of {count} (timestep {timestep}) gave numbers that are infinite or none; {advice}", step = step + 1
    )]
    NotFinite {
        /// Which step, from 0.
        step: usize,
        /// How many there are.
        count: usize,
        /// The timestep.
        timestep: f64,
        /// What to do.
        advice: &'static str,
    },
    /// Infinite or no numbers at all in a picture whose latents were in order.
    #[error("decoding gave numbers that are infinite or none; {advice}")]
    NotFinitePicture {
        /// What to do.
        advice: &'static str,
    },
    /// The watcher asked for it.
    #[error("stopped after step {} of {count}", step + 1)]
    Stopped {
        /// The last step that was taken, from 0.
        step: usize,
        /// How many there would have been.
        count: usize,
    },
    /// A computation failed.
    #[error("{doing}: {source}")]
    Compute {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: candle_core::Error,
    },
}

impl From<WeightsError> for PipelineError {
    fn from(error: WeightsError) -> Self {
        Self::Weights(Box::new(error))
    }
}

impl PipelineError {
    /// Whether it arose in the midst of computing: neither the model's files nor what was asked are at fault.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        let not_finite = matches!(self, Self::NotFinite { .. } | Self::NotFinitePicture { .. });
        not_finite || matches!(self, Self::Stopped { .. } | Self::Compute { .. })
    }
}

/// Gives an error of a computation its place.
pub(super) fn doing<T>(doing: &'static str, result: candle_core::Result<T>) -> Result<T, PipelineError> {
    result.map_err(|source| PipelineError::Compute { doing, source })
}
