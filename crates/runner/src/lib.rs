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
use sd_core::pipeline::PipelineError;
use sd_core::train::TrainError;
use sd_mini::Interrupted;

pub use commands::bench::cases as benchmarks;
pub use papers::{Entry, PAPERS};

/// Reads this process's command line, obeys it, and says how that went as an exit code (see [`cli::exit`]).
#[must_use]
pub fn main(papers: &[Entry]) -> ExitCode {
    let command = cli::Arguments::parse().command;
    calm_candle(&command);
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

/// Tells candle's own pool of threads to be as many as were asked for, and to go to sleep when there is nothing to do: by default its
/// threads spin for a while after every sum, on the cores that our operations want next.
fn calm_candle(command: &Command) {
    let threads = match command {
        Command::Bench(typed) => typed.threads,
        Command::Generate(typed) => typed.threads,
        Command::Forward(typed) => typed.threads,
        // Trainings have threads of their own side by side, and candle's pool serves one at a time.
        Command::Train(_) => Some(1),
        Command::Trace(typed) => typed.threads,
        Command::Edit(typed) => typed.threads,
        Command::Trial(typed) => Some(typed.threads),
        _ => None,
    };
    let wanted = [("CANDLE_BARRIER_POOL_SPIN_LIMIT", Some(64)), ("CANDLE_NUM_THREADS", threads)];
    for (name, value) in wanted {
        let Some(value) = value.filter(|_| std::env::var_os(name).is_none()) else { continue };
        // SAFETY: the process has just started and has this one thread.
        unsafe { std::env::set_var(name, value.to_string()) };
    }
}

/// What could not start is bad usage; what started and could not be finished has failed.
fn code_of(error: &anyhow::Error) -> u8 {
    if let Some(error) = error.downcast_ref::<RunError>() {
        return error.exit_code();
    }
    let computed = error.downcast_ref::<PipelineError>().is_some_and(PipelineError::is_failure)
        || error.downcast_ref::<TrainError>().is_some_and(TrainError::is_failure);
    let failed = computed || error.is::<candle_core::Error>() || error.is::<Interrupted>();
    if failed { cli::exit::FAILED } else { cli::exit::USAGE }
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
        Command::Generate(typed) => commands::generate::run(&typed),
        Command::Forward(typed) => commands::forward::run(&typed),
        Command::Train(typed) => commands::train::run(&typed),
        Command::Trace(typed) => commands::trace::run(&typed),
        Command::Edit(typed) => commands::edit::run(&typed),
        Command::Worlds(typed) => commands::worlds::run(&typed),
        Command::Gpu(typed) => commands::gpu::run(&typed),
        Command::Cuda(_) => {
            anyhow::bail!("`cuda` is done by xtask: type `cargo xtask cuda …` inside the repository")
        }
        Command::Trial(typed) => commands::trial::run(papers, typed),
    }
}
