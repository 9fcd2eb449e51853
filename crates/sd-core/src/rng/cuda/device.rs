//! Normals drawn on a CUDA device.

use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute;
use candle_core::{CudaDevice, DType, Result, Shape, Tensor, bail};

use crate::cuda::device;
use crate::cuda::glue::{element, tensor};

/// Threads of a multiprocessor that PyTorch reckons with: all that it can hold.
const THREADS: i32 = 2048;

/// Standard normals of `shape`, as `torch.randn` on this device gives them with the generator at `seed` and `offset`; and the
/// offset at which the generator then is.
///
/// # Errors
/// Where the type is not one the kernels compute in, the shape is empty, `offset` is no multiple of 4, or the device's
/// multiprocessors do not hold 2048 threads, for which PyTorch's order is not written down here.
pub fn normal(
    device: &CudaDevice,
    (seed, offset): (u64, u64),
    shape: impl Into<Shape>,
    dtype: DType,
) -> Result<(Tensor, u64)> {
    let shape = shape.into();
    let count = shape.elem_count();
    if count == 0 || offset % 4 != 0 {
        bail!("philox normal: shape {shape:?}, offset {offset}; expected elements, and a multiple of 4");
    }
    let stream = device.cuda_stream();
    let ask = |attribute| stream.context().attribute(attribute).map_err(candle_core::Error::wrap);
    let threads = ask(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MAX_THREADS_PER_MULTIPROCESSOR)?;
    if threads != THREADS {
        bail!("philox normal: this GPU holds {threads} threads a multiprocessor; expected {THREADS}");
    }
    let multiprocessors = ask(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?;
    let torch = super::torch_threads(count, multiprocessors.unsigned_abs() as usize);
    let program = super::normal(seed, offset, torch, count, element("philox normal", dtype)?)?;
    match device::run(device, &program, &mut [])?.pop() {
        Some(output) => Ok((tensor(output, shape), offset + super::torch_advance(count, torch))),
        None => bail!("philox normal: one output"),
    }
}
