//! The one heavy binary: every paper behind one command line.

use std::process::ExitCode;

use runner::PAPERS;

/// Training frees and takes the same tensors at every step. The system's allocator hands large blocks back to the kernel each time, and
/// mapping them again costs up to a third of a step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    runner::main(PAPERS)
}
