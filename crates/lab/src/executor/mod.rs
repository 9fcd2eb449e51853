//! Who runs the trials: a pool of processes on this machine, or a job array on a Slurm cluster.
//!
//! Both start the same command, one trial a process: `runner trial <out>/experiment.yaml <key> --out … --data …
//! --device … --threads …`. A trial that is killed, crashes or panics costs only itself; a trial that has a valid `DONE`
//! is not started again.

mod plan;
mod pool;
mod process;
mod slurm;

use std::path::PathBuf;

pub use plan::{Plan, Planned, readable_bytes, readable_seconds};
pub(crate) use pool::{PoolOutcome, run_pool};
pub(crate) use process::Event;
pub(crate) use slurm::submit;

use crate::progress::ProgressMode;

/// How an experiment is run, as far as it does not change what comes out.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Output folder.
    pub out: PathBuf,
    /// Where the data sets lie.
    pub data: PathBuf,
    /// `cpu` or `cuda:n`, already resolved.
    pub device: String,
    /// Trials at a time, at least 1.
    pub jobs: usize,
    /// Threads of each trial, at least 1.
    pub threads: usize,
    /// Who runs the trials.
    pub executor: Executor,
    /// Only this part of the trials.
    pub shard: Option<Shard>,
    /// Stop at the first trial that fails; else the others go on.
    pub fail_fast: bool,
    /// Forget finished trials and run them again.
    pub rerun: bool,
    /// How progress is shown.
    pub progress: ProgressMode,
    /// The program that understands `trial …`; usually [`std::env::current_exe`].
    pub runner: PathBuf,
    /// The command as the user typed it, for messages and `run.json`.
    pub again: String,
    /// Folder of the repository, for the commit in `run.json`.
    pub repository: Option<PathBuf>,
    /// Further versions for `run.json`, such as that of the tensor library.
    pub versions: Vec<(String, String)>,
}

/// Who runs the trials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Executor {
    /// A pool of processes on this machine.
    Local,
    /// A job array, submitted with the program named here (usually `sbatch`).
    Slurm {
        /// The program that submits.
        sbatch: PathBuf,
    },
}

/// Part `index` (from 1) of `count`: the trials whose number in the plan, counted from 0, leaves `index - 1` when divided by
/// `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which part, from 1.
    pub index: usize,
    /// How many parts.
    pub count: usize,
}

impl Shard {
    /// Whether the trial at `position` of the plan belongs to this part.
    #[must_use]
    pub fn holds(self, position: usize) -> bool {
        position % self.count == self.index - 1
    }
}

impl std::fmt::Display for Shard {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}/{}", self.index, self.count)
    }
}

/// A trial that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// Its key.
    pub key: String,
    /// Study, arm, case and seed.
    pub label: String,
    /// How it ended, with the last lines of its log.
    pub why: String,
    /// Its whole log.
    pub log: PathBuf,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "trial {} ({}) failed: {}\n  log: {}",
            self.key,
            self.label,
            self.why,
            self.log.display()
        )
    }
}
