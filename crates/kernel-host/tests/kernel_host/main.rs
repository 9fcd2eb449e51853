//! The kernels on the CPU: the executor itself, every kernel on its cases, the mutants, NVRTC.
// What is skipped, and how near to its tolerance a case comes, is said on standard error.
#![allow(clippy::print_stderr, clippy::unwrap_used)]

mod executor;
mod kernels;
mod lowered;
mod misuse;
mod mutants;
mod nvrtc;
mod proof;
