//! Kernels as functions of the driver: compiled when they are first launched, loaded once for each device.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::cuda_backend::cudarc::driver::sys::CUresult;
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaFunction, CudaModule, DriverError};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;

use super::error::DeviceError;
use crate::cuda::cache::{self, Cache};
use crate::cuda::nvrtc::{Nvrtc, NvrtcError, Target};
use crate::cuda::program::{Launch, Source};

/// The earliest GPU whose tensor cores the kernels use.
const EARLIEST: u32 = 80;

/// Device, address of the source's text, name of the function.
type Key = (usize, usize, &'static str);

/// The function that `launch` names.
pub(super) fn function(context: &Arc<CudaContext>, launch: &Launch) -> Result<CudaFunction, DeviceError> {
    static LOADED: OnceLock<Mutex<HashMap<Key, CudaFunction>>> = OnceLock::new();
    let key = (context.ordinal(), launch.source.text.as_ptr().addr(), launch.kernel);
    let mut loaded = LOADED.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(function) = loaded.get(&key) {
        return Ok(function.clone());
    }
    let module = module(context, launch.source)?;
    let text = launch.source.text.as_ptr().addr();
    for kernel in launch.source.kernels {
        let what = || format!("looking for {kernel} in {}", launch.source.path);
        let function = module.load_function(kernel).map_err(|error| DeviceError::driver(what())(error))?;
        loaded.insert((context.ordinal(), text, kernel), function);
    }
    // `Program::launch` takes only names that the source lists.
    let absent = || {
        let what = format!("{} does not list {}", launch.source.path, launch.kernel);
        DeviceError::driver(what)(DriverError(CUresult::CUDA_ERROR_NOT_FOUND))
    };
    loaded.get(&key).cloned().ok_or_else(absent)
}

fn module(context: &Arc<CudaContext>, source: &'static Source) -> Result<Arc<CudaModule>, DeviceError> {
    let nvrtc = nvrtc()?;
    let target = target(context, nvrtc)?;
    let key = cache::key(source, target, &[], nvrtc.version());
    let compile = || nvrtc.compile(source, target, &[]).map(|compiled| compiled.image);
    let image = Cache::from_env().get_or_make(&key, compile)?;
    let what = || format!("loading {} for {} made by {nvrtc:?}", source.path, target.architecture());
    // Both kinds of image go to `cuModuleLoadData`; PTX ends in NUL as NVRTC gave it.
    context.load_module(Ptx::from_binary(image)).map_err(|error| DeviceError::driver(what())(error))
}

fn nvrtc() -> Result<&'static Nvrtc, NvrtcError> {
    static NVRTC: OnceLock<Nvrtc> = OnceLock::new();
    match NVRTC.get() {
        Some(nvrtc) => Ok(nvrtc),
        None => Nvrtc::find().map(|found| NVRTC.get_or_init(|| found)),
    }
}

fn target(context: &Arc<CudaContext>, nvrtc: &Nvrtc) -> Result<Target, DeviceError> {
    let asking = || DeviceError::driver("asking the GPU what it is");
    let (major, minor) = context.compute_capability().map_err(asking())?;
    let capability = 10 * major.unsigned_abs() + minor.unsigned_abs();
    let best = Target::best(capability, nvrtc.known()).filter(|_| capability >= EARLIEST);
    match best {
        Some(target) => Ok(target),
        None => Err(DeviceError::TooOld { name: context.name().map_err(asking())?, capability }),
    }
}
