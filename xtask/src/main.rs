//! Thin: reads the command line, builds the runner and starts it. What needs no runner, the CUDA toolkit and the build with
//! it, is done here.
//!
//! Help and usage errors come from the same types as the runner's ([`cli`]), so they appear without building it. See
//! <https://github.com/matklad/cargo-xtask> for the pattern.

mod build;
mod cuda;
mod start;

use std::process::ExitCode;

use clap::Parser;
use cli::{Command, GpuAction};

fn main() -> ExitCode {
    // Ends the process itself for `--help` and for a line that cannot be read.
    let done = match cli::Arguments::parse().command {
        Command::Cuda(typed) => cuda::run(&typed).map(|()| ExitCode::SUCCESS),
        Command::Gpu(typed) if typed.action != GpuAction::Status => cuda::start(std::env::args_os().skip(1)),
        _ => build::runner().and_then(|runner| start::run(&runner, std::env::args_os().skip(1))),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(cli::exit::USAGE)
        }
    }
}

/// Writes a line to standard error. Nobody reading it is no reason to stop.
pub(crate) fn say(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stderr(), "{line}");
}
