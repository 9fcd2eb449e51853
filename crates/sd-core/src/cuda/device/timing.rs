//! Times on the device's own clock.

use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
use candle_core::cuda_backend::cudarc::driver::{CudaEvent, result};
use candle_core::{CudaDevice, CudaStorage};

use super::error::DeviceError;
use super::storage::{enter, read, write};

/// Measures what the device's stream does between two calls.
#[derive(Debug)]
pub struct Stopwatch {
    device: CudaDevice,
    start: CudaEvent,
}

impl Stopwatch {
    /// Starts when the stream has done what was issued before.
    ///
    /// # Errors
    /// Where the driver refuses.
    pub fn start(device: &CudaDevice) -> Result<Self, DeviceError> {
        Ok(Self { start: mark(device)?, device: device.clone() })
    }

    /// Milliseconds until the stream has done what was issued since.
    ///
    /// # Errors
    /// Where the driver refuses, or what was issued failed.
    pub fn stop(self) -> Result<f64, DeviceError> {
        let end = mark(&self.device)?;
        let took = end.synchronize().and_then(|()| self.start.elapsed_ms(&end));
        took.map(f64::from).map_err(DeviceError::driver("timing"))
    }
}

fn mark(device: &CudaDevice) -> Result<CudaEvent, DeviceError> {
    let event = device.cuda_stream().record_event(Some(CUevent_flags::CU_EVENT_DEFAULT));
    event.map_err(DeviceError::driver("timing"))
}

/// Copies the first `bytes` of one buffer into another: the roof of whatever memory bounds.
///
/// # Errors
/// Where a buffer is shorter, or the driver refuses.
pub fn copy_between(from: &CudaStorage, to: &mut CudaStorage, bytes: usize) -> Result<(), DeviceError> {
    let stream = to.device.cuda_stream();
    enter(&stream)?;
    let short = |found| DeviceError::Buffer {
        program: "copy".to_owned(),
        index: 0,
        expected: format!("{bytes} bytes"),
        found,
    };
    let source = read(from, 0, &stream).ok_or_else(|| short("another type".to_owned()))?;
    let target = write(to, 0, &stream).ok_or_else(|| short("another type".to_owned()))?;
    for place in [&source, &target] {
        let has = place.len * place.element.bytes();
        if has < bytes {
            return Err(short(format!("{has} bytes")));
        }
    }
    // SAFETY: both buffers are alive and have `bytes` bytes; they are two buffers, one of them borrowed mutably.
    unsafe { result::memcpy_dtod_async(target.address, source.address, bytes, stream.cu_stream()) }
        .map_err(DeviceError::driver("copying"))
}
