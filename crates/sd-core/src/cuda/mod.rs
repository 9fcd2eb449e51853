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
#[cfg(feature = "cuda")]
pub mod device;
mod digest;
#[cfg(feature = "cuda")]
pub(crate) mod glue;
mod library;
pub mod lower;
#[cfg(any(test, feature = "cuda"))]
mod memory;
pub mod nvrtc;
pub mod packs;
mod program;

pub use digest::digest;

pub use program::{
    Arg, Buffer, BufferSpec, Element, Launch, Matrix, Product, Program, Role, Source, Step, blocks, divider,
};

/// The CUDA half of a `CustomOp` of so many operands: hands them as a slice to a function `(op, operands)` of the op's `cuda::device`.
macro_rules! cuda_fwd {
    (@ $device:path, $($storage:ident $layout:ident),+) => {
        #[cfg(feature = "cuda")]
        fn cuda_fwd(
            &self,
            $($storage: &candle_core::CudaStorage, $layout: &candle_core::Layout,)+
        ) -> candle_core::Result<(candle_core::CudaStorage, candle_core::Shape)> {
            $device(self, &[$(($storage, $layout)),+])
        }
    };
    (1, $device:path) => { crate::cuda::cuda_fwd!(@ $device, a la); };
    (2, $device:path) => { crate::cuda::cuda_fwd!(@ $device, a la, b lb); };
    (3, $device:path) => { crate::cuda::cuda_fwd!(@ $device, a la, b lb, c lc); };
}
pub(crate) use cuda_fwd;

/// What every kernel includes: element types, reductions, tensor-core products; packs, planes, teams, moments.
pub const COMMON: &str = concat!(include_str!("common.cuh"), include_str!("packs.cuh"));

/// Every `.cu` file of the engine.
#[must_use]
pub fn sources() -> Vec<&'static Source> {
    use crate::ops::{
        activation, attention, batch_norm, conv2d, copy, group_norm, guidance, layer_norm, linear, resize,
        softmax, upsample,
    };
    vec![
        &activation::cuda::SOURCE,
        &softmax::cuda::SOURCE,
        &layer_norm::cuda::SOURCE,
        &group_norm::cuda::SOURCE,
        &batch_norm::cuda::SOURCE,
        &upsample::cuda::SOURCE,
        &resize::cuda::SOURCE,
        &guidance::cuda::SOURCE,
        &copy::cuda::SOURCE,
        &crate::rng::cuda::SOURCE,
        &conv2d::cuda::SOURCE,
        &attention::cuda::SOURCE,
        &attention::cuda::FMA,
        &attention::cuda::MAP,
        &linear::cuda::SOURCE,
    ]
}
