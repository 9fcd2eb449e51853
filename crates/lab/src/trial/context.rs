//! What a running trial may touch: its rows, its artifacts, its checkpoint folder, its seed.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::json;

use crate::atomic::{self, AtomicError};
use crate::paper::{TrialContext, TrialSpec};
use crate::row::Row;

/// A trial did something that a trial must not do, or its folder cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// A measurement is no number.
    #[error(
        "metric `{metric}` of trial {trial} is {value}: only finite values are written\n  help: leave the row out, \
         or write a metric that says that it diverged"
    )]
    NotFinite {
        /// The metric.
        metric: String,
        /// Label of the trial.
        trial: String,
        /// NaN or an infinity.
        value: f64,
    },
    /// An artifact's name leaves the trial's folder or is taken by the bench.
    #[error(
        "artifact `{0}`: expected a plain file name that the bench does not use itself\n  help: use letters, digits, `-`, `_` and `.`"
    )]
    Name(String),
    /// The folder cannot be written.
    #[error(transparent)]
    Write(#[from] AtomicError),
}

/// A measurement before the trial's coordinates are added.
#[derive(Clone, Debug)]
pub struct Measure {
    metric: String,
    value: f64,
    at: Option<f64>,
    arm: Option<String>,
    case: Option<String>,
    tags: BTreeMap<String, String>,
}

impl Measure {
    /// `value` of `metric`.
    #[must_use]
    pub fn new(metric: impl Into<String>, value: f64) -> Self {
        Measure { metric: metric.into(), value, at: None, arm: None, case: None, tags: BTreeMap::new() }
    }
    /// Coordinate along a curve.
    #[must_use]
    pub fn at(mut self, at: f64) -> Self {
        self.at = Some(at);
        self
    }
    /// Another arm than the trial's, where one trial measures several.
    #[must_use]
    pub fn arm(mut self, arm: impl Into<String>) -> Self {
        self.arm = Some(arm.into());
        self
    }
    /// Another case than the trial's.
    #[must_use]
    pub fn case(mut self, case: impl Into<String>) -> Self {
        self.case = Some(case.into());
        self
    }
    /// A further named coordinate.
    #[must_use]
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.insert(name.into(), value.into());
        self
    }
}

/// The writing side of a trial.
pub(crate) struct Sink {
    pub(crate) folder: PathBuf,
    pub(crate) spec: TrialSpec,
    pub(crate) key: String,
    pub(crate) rows: Vec<Row>,
    pub(crate) artifacts: Vec<String>,
    /// Progress as JSON lines.
    pub(crate) progress: Box<dyn Write + Send>,
}

/// Files that the bench itself writes into a trial's folder.
const TAKEN: [&str; 5] = ["rows.jsonl", "log.txt", "DONE", "trial.json", "checkpoint"];

impl TrialContext {
    /// A context that writes into `folder`, for a paper's own tests; the bench makes its own.
    #[must_use]
    pub fn new(folder: &Path, spec: &TrialSpec, data: &Path, device: &str, threads: usize) -> Self {
        let sink = Sink {
            folder: folder.to_owned(),
            spec: spec.clone(),
            key: spec.key(),
            rows: Vec::new(),
            artifacts: Vec::new(),
            progress: Box::new(std::io::sink()),
        };
        TrialContext { data: data.to_owned(), device: device.to_owned(), threads, sink }
    }

    /// Writes one measurement under the trial's study, arm, case and seed.
    ///
    /// # Errors
    /// Where `value` is not finite; names metric and trial.
    pub fn row(&mut self, metric: &str, value: f64) -> Result<(), TrialError> {
        self.row_full(Measure::new(metric, value))
    }

    /// As [`TrialContext::row`], at `at` along a curve.
    ///
    /// # Errors
    /// Where `value` or `at` is not finite.
    pub fn row_at(&mut self, metric: &str, at: f64, value: f64) -> Result<(), TrialError> {
        self.row_full(Measure::new(metric, value).at(at))
    }

    /// Writes one measurement with coordinates of its own.
    ///
    /// # Errors
    /// Where the value or its coordinate is not finite.
    pub fn row_full(&mut self, measure: Measure) -> Result<(), TrialError> {
        let numbers = [Some(measure.value), measure.at];
        if let Some(value) = numbers.into_iter().flatten().find(|value| !value.is_finite()) {
            return Err(TrialError::NotFinite {
                metric: measure.metric,
                trial: self.sink.spec.label(),
                value,
            });
        }
        let spec = &self.sink.spec;
        self.sink.rows.push(Row {
            trial: self.sink.key.clone(),
            study: spec.study.clone(),
            arm: measure.arm.unwrap_or_else(|| spec.arm.clone()),
            case: measure.case.unwrap_or_else(|| spec.case.clone()),
            seed: spec.seed,
            metric: measure.metric,
            at: measure.at,
            value: measure.value,
            tags: measure.tags,
        });
        Ok(())
    }

    /// The rows so far, to be kept in a checkpoint: a trial that goes on from one hands them back with
    /// [`TrialContext::restore_rows`], for only the process that finishes writes rows to disk.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.sink.rows
    }

    /// Replaces the rows so far by those of a checkpoint.
    pub fn restore_rows(&mut self, rows: Vec<Row>) {
        self.sink.rows = rows;
    }

    /// Tells how far the trial is (`fraction` in `[0, 1]`) and what it does. May be called as often as one likes.
    pub fn progress(&mut self, fraction: f64, message: &str) {
        let line = json!({"fraction": fraction.clamp(0.0, 1.0), "message": message});
        // Whoever listened may be gone; the trial goes on all the same until it is told to stop.
        let _ = writeln!(self.sink.progress, "{line}").and_then(|()| self.sink.progress.flush());
    }

    /// Writes the file `name` into the trial's folder, whole or not at all, and gives its path.
    ///
    /// # Errors
    /// Where the name is no plain file name or is used by the bench, or the folder cannot be written.
    pub fn artifact(&mut self, name: &str, bytes: &[u8]) -> Result<PathBuf, TrialError> {
        let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        if name.is_empty() || name.starts_with('.') || !name.chars().all(plain) || TAKEN.contains(&name) {
            return Err(TrialError::Name(name.to_owned()));
        }
        let path = self.sink.folder.join(name);
        atomic::write_bytes(&path, bytes)?;
        if !self.sink.artifacts.iter().any(|known| known == name) {
            self.sink.artifacts.push(name.to_owned());
        }
        Ok(path)
    }

    /// Folder for checkpoints in the middle of the trial. What a killed process left there is there when the trial is
    /// started again; the folder is removed once the trial is done. Write into it with [`crate::atomic`].
    ///
    /// # Errors
    /// Where the folder cannot be made.
    pub fn checkpoint(&self) -> Result<PathBuf, TrialError> {
        let folder = self.sink.folder.join("checkpoint");
        atomic::create_dir_all_synced(&folder)?;
        Ok(folder)
    }

    /// Seed of the trial.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.sink.spec.seed
    }

    /// Folder of the trial.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.sink.folder
    }
}
