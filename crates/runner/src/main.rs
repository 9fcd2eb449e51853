//! The one heavy binary: every paper behind one command line.

use std::process::ExitCode;

use runner::PAPERS;

/// Training frees and takes the same tensors at every step. The system's allocator hands large blocks back to the kernel each time, and
/// mapping them again costs up to a third of a step.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Milliseconds before freed memory goes back to the system: longer than a training step.
const KEEP_MS: std::ffi::c_long = 10_000;
/// mimalloc's option `purge_delay`, which its bindings do not name.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

fn main() -> ExitCode {
    // SAFETY: sets a number inside the allocator; may be called at any time.
    unsafe { libmimalloc_sys::mi_option_set_default(PURGE_DELAY, KEEP_MS) };
    runner::main(PAPERS)
}
