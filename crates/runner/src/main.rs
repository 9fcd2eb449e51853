//! The one heavy binary: every paper behind one command line.

use std::process::ExitCode;

use runner::PAPERS;

fn main() -> ExitCode {
    runner::main(PAPERS)
}
