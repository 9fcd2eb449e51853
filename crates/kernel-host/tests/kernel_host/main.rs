//! The kernels on the CPU: the executor itself, every kernel on its cases, the mutants, NVRTC.
#![allow(clippy::unwrap_used)]

mod executor;
mod misuse;
mod nvrtc;
mod proof;
