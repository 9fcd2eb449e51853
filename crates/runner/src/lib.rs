//! The runner as a library: the command line over any list of papers. The binary hands it [`PAPERS`]; the example
//! `own_paper` hands it one of its own.

mod commands;
mod output;
mod papers;
mod places;

use std::process::ExitCode;

use clap::Parser as _;
use cli::Command;
use lab::error::RunError;

pub use papers::{Entry, PAPERS};

/// Reads this process's command line, obeys it, and says how that went as an exit code (see [`cli::exit`]).
#[must_use]
pub fn main(papers: &[Entry]) -> ExitCode {
    let command = cli::Arguments::parse().command;
    let is_trial = matches!(command, Command::Trial(_));
    match obey(papers, command) {
        Ok(code) => ExitCode::from(code),
        Err(error) if output::nobody_listens(&error) => ExitCode::from(cli::exit::DONE),
        Err(error) => {
            output::say(&format!("error: {}", output::told(&error)));
            ExitCode::from(if is_trial { cli::exit::FAILED } else { code_of(&error) })
        }
    }
}

/// What could not start is bad usage; what started and could not be finished has failed.
fn code_of(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<RunError>().map_or(cli::exit::USAGE, RunError::exit_code)
}

fn obey(papers: &[Entry], command: Command) -> anyhow::Result<u8> {
    match command {
        Command::Reproduce(typed) => commands::reproduce::run(papers, &typed),
        Command::List => commands::list::run(papers),
        Command::Claims(typed) => commands::claims::run(papers, &typed),
        Command::Report(typed) => commands::report::run(papers, &typed),
        Command::Schema(typed) => commands::schema::run(papers, typed),
        Command::Datasets(typed) => commands::datasets::run(&typed),
        Command::Bench(typed) => commands::bench::run(&typed),
        Command::Gpu(typed) => commands::gpu::run(&typed),
        Command::Cuda(_) => anyhow::bail!("`cuda` is done by xtask: type `cargo xtask cuda …` inside the repository"),
        Command::Trial(typed) => commands::trial::run(papers, typed),
    }
}
