//! The kernels on the CPU: the executor itself, every kernel on its cases, the mutants, NVRTC.
#![allow(clippy::unwrap_used)]

mod executor;
mod kernels;
mod lowered;
mod misuse;
mod mutants;
mod nvrtc;
mod proof;
