//! The CUDA kernels of difflab without a GPU: executed on the CPU under sanitizers, and compiled with NVRTC.
//!
//! A kernel is tested as the file it is. [`Host`] builds a `.cu` with the machine's C++ compiler against `host/kernel_host.h`,
//! which supplies threads (a fiber each), blocks, shared memory, barriers, shuffles and the tensor cores' product, and runs a
//! [`sd_core::cuda::Program`] as the device would: every buffer poisoned and guarded, every argument checked against the
//! kernel's signature, threads taken up in an order of the caller's choice. [`cases`] are the programs to run with the values
//! to expect; they know no executor, so that a GPU runs the same list. [`mutants`] are faults that the cases must find.
//! [`nvrtc`] compiles for real devices and reads registers, stack and spills.
//!
//! `README.md` says how to add a case and a mutant.

pub mod cases;
mod compare;
mod compile;
mod data;
mod host;
pub mod mutants;
pub mod nvrtc;
mod translate;
mod wire;

pub use compare::{Expected, Mismatch, Tolerance};
pub use data::Data;
pub use host::{COMMON_NAME, Error, Host, Order};

use sd_core::cuda::Source;

/// Every `.cu` file of the workspace.
#[must_use]
pub fn sources() -> Vec<&'static Source> {
    let mut sources = sd_core::cuda::sources();
    sources.push(&diffgrad::optim::cuda::SOURCE);
    sources
}
