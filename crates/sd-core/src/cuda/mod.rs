//! The CUDA side of the engine: what ops do on a device as data, and (with the feature `cuda`) the device that does it.
//!
//! An op's `cuda.rs` says what it does as a [`Program`]: buffers, launches of kernels, matrix products. [`lower`] turns a program
//! and addresses into commands that a driver takes, and checks every argument on the way; it needs no GPU and is tested
//! without one. [`nvrtc`] compiles the `.cu` files while the program runs, [`cache`] keeps what it made.
//!
//! With the feature `cuda`, `device` carries commands out on a GPU, and `glue` joins programs to candle's tensors. Variables of the
//! environment for the search of faults: `DIFFLAB_CUDA_SYNC=1` waits after each command, so that a fault is reported with the kernel
//! that made it; `DIFFLAB_CUDA_POISON=1` fills outputs and scratch with NaN before a program runs, so that what is never
//! written is seen.
//!
//! What was verified on a GPU stands in `results/gpu/ledger.csv`; `cargo xtask gpu status` reads it.

pub mod cache;
mod digest;
mod library;
pub mod lower;
pub mod nvrtc;
mod program;

pub use digest::digest;

pub use program::{
    Arg, Buffer, BufferSpec, Element, Launch, Matrix, Product, Program, Role, Source, Step, blocks,
};

/// What every kernel includes: element types, reductions, tensor-core products; packs, planes, teams, moments.
pub const COMMON: &str = concat!(include_str!("common.cuh"), include_str!("packs.cuh"));

/// Every `.cu` file of the engine.
#[must_use]
pub fn sources() -> Vec<&'static Source> {
    vec![]
}
