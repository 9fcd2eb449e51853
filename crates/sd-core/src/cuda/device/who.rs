//! Which GPUs there are.

use candle_core::cuda_backend::cudarc::driver::{CudaContext, result, sys};

use super::error::DeviceError;

/// A GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Present {
    /// Its index.
    pub ordinal: usize,
    /// Its name, as `NVIDIA H200`.
    pub name: String,
    /// Compute capability, as 90 for 9.0.
    pub capability: u32,
    /// Bytes of memory.
    pub memory: usize,
    /// The driver's release where the system says it, else the CUDA version it supports.
    pub driver: String,
}

/// How many GPUs the driver shows.
///
/// # Errors
/// Where there is no driver, or it shows no GPU.
pub fn all() -> Result<usize, DeviceError> {
    let count = CudaContext::device_count().map_err(DeviceError::driver("looking for GPUs"))?;
    match usize::try_from(count) {
        Ok(count) if count > 0 => Ok(count),
        _ => Err(DeviceError::driver("looking for GPUs")(driver_error(sys::CUresult::CUDA_ERROR_NO_DEVICE))),
    }
}

/// What the GPU of this index is.
///
/// # Errors
/// Where there is none.
pub fn present(ordinal: usize) -> Result<Present, DeviceError> {
    let asking = || DeviceError::driver(format!("looking at GPU {ordinal}"));
    let count = all()?;
    if ordinal >= count {
        return Err(DeviceError::driver(format!("looking for GPU {ordinal} of {count}"))(driver_error(
            sys::CUresult::CUDA_ERROR_INVALID_DEVICE,
        )));
    }
    let context = CudaContext::new(ordinal).map_err(asking())?;
    let (major, minor) = context.compute_capability().map_err(asking())?;
    Ok(Present {
        ordinal,
        name: context.name().map_err(asking())?,
        capability: 10 * major.unsigned_abs() + minor.unsigned_abs(),
        memory: context.total_mem().map_err(asking())?,
        driver: release().unwrap_or_else(supported),
    })
}

fn driver_error(code: sys::CUresult) -> result::DriverError {
    result::DriverError(code)
}

/// The release, as 580.95.05, from the kernel module's own line.
fn release() -> Option<String> {
    release_in(&std::fs::read_to_string("/proc/driver/nvidia/version").ok()?)
}

fn release_in(text: &str) -> Option<String> {
    let is_release = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    text.lines().next()?.split_whitespace().find(is_release).map(str::to_owned)
}

/// The CUDA version that the driver supports.
fn supported() -> String {
    let mut version = 0;
    // SAFETY: the function writes one number.
    match unsafe { sys::cuDriverGetVersion(&mut version) } {
        sys::CUresult::CUDA_SUCCESS => format!("CUDA {}.{}", version / 1000, version % 1000 / 10),
        _ => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_release_is_read_from_the_modules_line() {
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs)\nGCC version: 12.2.0\n";
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.12  Wed Sep 20\n";
        assert_eq!(release_in(open).as_deref(), Some("580.95.05"));
        assert_eq!(release_in(closed).as_deref(), Some("535.104.12"));
        assert_eq!(release_in("nothing of the kind"), None);
    }
}
