//! Programs on a GPU: buffers made, kernels compiled and launched, products given to cuBLAS.
//!
//! All work of a device goes to the one stream of its candle `CudaDevice`, in order; nothing here waits for it unless
//! `DIFFLAB_CUDA_SYNC=1`. candle's stream is one of the calling thread's, so a tensor must not go from thread to thread without a
//! `synchronize` between.

mod error;
mod execute;
mod kernels;
mod storage;
mod timing;
mod who;

use std::sync::OnceLock;

use candle_core::{CudaDevice, CudaStorage};

use super::program::{Program, Role};

pub use error::{DeviceError, Doing};
pub use storage::{Given, address, download, poison, upload};
pub use timing::{Stopwatch, copy_between};
pub use who::{Present, all, present};

/// Carries `program` out and returns its outputs in their order. `given` are its inputs and updated buffers in their order.
/// The device does the work later; whoever reads an output waits for it.
///
/// # Errors
/// Where the given buffers are not what the program says, the program asks for what no device can do, memory is short, a
/// kernel does not compile, or the driver refuses.
pub fn run(
    device: &CudaDevice,
    program: &Program,
    given: &mut [Given<'_>],
) -> Result<Vec<CudaStorage>, DeviceError> {
    let mut made = make(device, program)?;
    carry_out(device, program, given, &mut made)?;
    let outputs = made.into_iter().filter(|(index, _)| program.buffers[*index].role == Role::Output);
    Ok(outputs.map(|(_, storage)| storage).collect())
}

/// The buffers that a program wants made, with their positions: filled with NaN where `DIFFLAB_CUDA_POISON=1`.
///
/// # Errors
/// Where memory is short.
pub fn make(device: &CudaDevice, program: &Program) -> Result<Vec<(usize, CudaStorage)>, DeviceError> {
    let wanted = program.buffers.iter().enumerate();
    let wanted = wanted.filter(|(_, spec)| matches!(spec.role, Role::Output | Role::Scratch));
    wanted
        .map(|(index, spec)| {
            let mut storage =
                storage::allocate(device, spec.element, spec.len).map_err(|error| error.of(program))?;
            if is_set("DIFFLAB_CUDA_POISON") {
                storage::poison(&mut storage).map_err(|error| error.of(program))?;
            }
            Ok((index, storage))
        })
        .collect()
}

/// Carries `program` out on buffers that are there already; several times if need be.
///
/// # Errors
/// As [`run`].
pub fn carry_out(
    device: &CudaDevice,
    program: &Program,
    given: &mut [Given<'_>],
    made: &mut [(usize, CudaStorage)],
) -> Result<(), DeviceError> {
    execute::carry_out(device, program, given, made).map_err(|error| error.of(program))
}

/// Whether a variable of the environment is set to something other than nothing or 0; looked up once.
fn is_set(name: &'static str) -> bool {
    static SET: [OnceLock<bool>; 2] = [OnceLock::new(), OnceLock::new()];
    let slot = &SET[usize::from(name == "DIFFLAB_CUDA_POISON")];
    *slot.get_or_init(|| std::env::var(name).is_ok_and(|value| !value.is_empty() && value != "0"))
}
