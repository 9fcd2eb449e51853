//! `trial`: one trial in this process, as the executors start it.

use anyhow::Result;
use lab::trial::{ChildOptions, run_child};

use crate::papers::{self, Entry};

/// Runs one trial.
pub(crate) fn run(all: &[Entry], typed: cli::Trial) -> Result<u8> {
    let options = ChildOptions {
        experiment: typed.experiment,
        key: typed.key,
        out: typed.out,
        data: typed.data,
        device: super::reproduce::resolve(typed.device)?,
        threads: typed.threads,
    };
    run_child(&papers::bare(all), &options)?;
    Ok(cli::exit::DONE)
}
