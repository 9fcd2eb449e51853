//! What can go wrong with a whole run, and the exit code each comes to.

use std::path::PathBuf;

use crate::atomic::AtomicError;
use crate::config::ConfigError;
use crate::report::ReportError;
use crate::rows_file::RowsError;

/// A run that could not start, or whose outcome could not be written.
///
/// A trial that failed and a run that was interrupted are no errors of this type but ends of a run
/// ([`crate::run::End`]), for what was finished is kept and shown.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The experiment file or an override is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data is absent or not what it should be, or the trials cannot be planned.
    #[error("{0:#}")]
    Refused(anyhow::Error),
    /// The output folder cannot be written.
    #[error(transparent)]
    Setup(AtomicError),
    /// Another process writes into the output folder.
    #[error(
        "{out}: {holder} is writing into this output folder\n  help: wait for it, stop it, or give another folder \
         with --out", out = out.display()
    )]
    Busy {
        /// The folder.
        out: PathBuf,
        /// Who holds it.
        holder: String,
    },
    /// The output folder belongs to another configuration.
    #[error(
        "{out}: this output folder belongs to another configuration\n  {differences}\n  help: give another folder with \
         --out, or discard what is there with --rerun", out = out.display()
    )]
    OtherConfiguration {
        /// The folder.
        out: PathBuf,
        /// What differs, one line each.
        differences: String,
    },
    /// The job array could not be submitted.
    #[error(
        "{program}: cannot submit the job array: {why}\n  help: run where Slurm's `sbatch` is, or use --executor local; \
         the script is {script}", program = program.display(), script = script.display()
    )]
    Slurm {
        /// The program that submits.
        program: PathBuf,
        /// The script that was written.
        script: PathBuf,
        /// What happened.
        why: String,
    },
    /// The executor itself failed.
    #[error("{0:#}")]
    Executor(anyhow::Error),
    /// Tables or figures could not be made.
    #[error("cannot present the outcome: {0:#}")]
    Present(anyhow::Error),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] AtomicError),
    /// `rows.parquet` could not be written or read.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// The report could not be written.
    #[error(transparent)]
    Report(#[from] ReportError),
}

/// Exit code of a run that did all it was asked for.
pub const EXIT_DONE: u8 = 0;
/// Exit code of a run in which a trial failed, that was interrupted, or whose outcome could not be written.
pub const EXIT_FAILED: u8 = 1;
/// Exit code of a run that could not start: command line, experiment file, data or output folder.
pub const EXIT_USAGE: u8 = 2;

impl RunError {
    /// [`EXIT_FAILED`] or [`EXIT_USAGE`].
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            RunError::Config(_)
            | RunError::Refused(_)
            | RunError::Setup(_)
            | RunError::Busy { .. }
            | RunError::OtherConfiguration { .. }
            | RunError::Slurm { .. } => EXIT_USAGE,
            RunError::Executor(_)
            | RunError::Present(_)
            | RunError::Write(_)
            | RunError::Rows(_)
            | RunError::Report(_) => EXIT_FAILED,
        }
    }
}
