//! Buffers: candle's storages as the programs see them.

use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, DriverError, SyncOnDrop, result, sys,
};
use candle_core::{CudaDevice, CudaStorage};
use half::{bf16, f16};

use super::error::DeviceError;
use crate::cuda::memory::{Shortage, retried};
use crate::cuda::program::{BufferSpec, Element, Role};

/// A buffer that the caller gives to a program: contiguous from an element on.
#[derive(Debug)]
pub enum Given<'a> {
    /// It is read.
    Read(&'a CudaStorage, usize),
    /// It is updated in place.
    Update(&'a mut CudaStorage, usize),
}

/// Where a storage lies, with the guard that tells other streams that it is in use until it is dropped.
pub(super) struct Located<'a> {
    pub(super) address: u64,
    pub(super) element: Element,
    /// Elements from `address` on.
    pub(super) len: usize,
    _guard: SyncOnDrop<'a>,
}

impl Located<'_> {
    /// Whether this is the buffer that a program wants.
    pub(super) fn serves(&self, spec: &BufferSpec) -> bool {
        self.element == spec.element && self.len >= spec.len
    }
}

/// The elements of a storage that kernels know, by type; `None` for others.
macro_rules! with_slice {
    ($storage:expr, $slice:ident, $element:ident => $body:expr) => {
        match $storage {
            CudaStorageSlice::F32($slice) => {
                let $element = Element::F32;
                Some($body)
            }
            CudaStorageSlice::F16($slice) => {
                let $element = Element::F16;
                Some($body)
            }
            CudaStorageSlice::BF16($slice) => {
                let $element = Element::Bf16;
                Some($body)
            }
            CudaStorageSlice::U32($slice) => {
                let $element = Element::U32;
                Some($body)
            }
            CudaStorageSlice::I64($slice) => {
                let $element = Element::I64;
                Some($body)
            }
            _ => None,
        }
    };
}

/// Where `storage` lies from element `offset` on; it will be read.
pub(super) fn read<'a>(
    storage: &'a CudaStorage,
    offset: usize,
    stream: &'a CudaStream,
) -> Option<Located<'a>> {
    with_slice!(&storage.slice, slice, element => reading(slice, element, offset, stream))?
}

fn reading<'a, T>(
    slice: &'a CudaSlice<T>,
    element: Element,
    offset: usize,
    stream: &'a CudaStream,
) -> Option<Located<'a>> {
    let len = slice.len().checked_sub(offset)?;
    let (start, guard) = slice.device_ptr(stream);
    Some(Located { address: start + (offset * element.bytes()) as u64, element, len, _guard: guard })
}

/// Where `storage` lies from element `offset` on; it will be written.
pub(super) fn write<'a>(
    storage: &'a mut CudaStorage,
    offset: usize,
    stream: &'a CudaStream,
) -> Option<Located<'a>> {
    with_slice!(&mut storage.slice, slice, element => writing(slice, element, offset, stream))?
}

fn writing<'a, T>(
    slice: &'a mut CudaSlice<T>,
    element: Element,
    offset: usize,
    stream: &'a CudaStream,
) -> Option<Located<'a>> {
    let len = slice.len().checked_sub(offset)?;
    let (start, guard) = slice.device_ptr_mut(stream);
    Some(Located { address: start + (offset * element.bytes()) as u64, element, len, _guard: guard })
}

/// Whether a given buffer may be in this role.
pub(super) fn may_be(given: &Given<'_>, role: Role) -> bool {
    matches!((given, role), (Given::Read(..), Role::Input) | (Given::Update(..), Role::InOut))
}

/// Where a storage begins in the device's memory: equal numbers mean one storage. `None` for types that no kernel knows.
#[must_use]
pub fn address(storage: &CudaStorage) -> Option<usize> {
    let stream = storage.device.cuda_stream();
    let address = read(storage, 0, &stream)?.address;
    usize::try_from(address).ok()
}

/// A new storage with undefined content.
pub(super) fn allocate(
    device: &CudaDevice,
    element: Element,
    len: usize,
) -> Result<CudaStorage, DeviceError> {
    let slice = match element {
        Element::F32 => CudaStorageSlice::F32(reserve::<f32>(device, len)?),
        Element::F16 => CudaStorageSlice::F16(reserve::<f16>(device, len)?),
        Element::Bf16 => CudaStorageSlice::BF16(reserve::<bf16>(device, len)?),
        Element::U32 => CudaStorageSlice::U32(reserve::<u32>(device, len)?),
        Element::I64 => CudaStorageSlice::I64(reserve::<i64>(device, len)?),
    };
    Ok(CudaStorage { slice, device: device.clone() })
}

/// The driver makes no buffer of no size.
pub(super) fn reserve<T: DeviceRepr>(device: &CudaDevice, len: usize) -> Result<CudaSlice<T>, DeviceError> {
    let stream = device.cuda_stream();
    // SAFETY: the content is undefined; a program writes its outputs and scratch before anything reads them, which
    // kernel-host checks for each program with poisoned buffers.
    let attempt = || unsafe { stream.alloc::<T>(len.max(1)) };
    let wants_memory = |error: &DriverError| error.0 == sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY;
    retried(attempt, wants_memory, || relieve(&stream)).map_err(|error| {
        let asked = len * size_of::<T>();
        let what = format!("a buffer of {len} elements");
        match (wants_memory(&error), stream.context().mem_get_info()) {
            (true, Ok((free, total))) => DeviceError::memory(what, Shortage { asked, free, total }),
            _ => DeviceError::driver(what)(error),
        }
    })
}

/// Waits until everything that is freed is free, and gives what the driver's pool holds back to the device. What fails here
/// shows in the second attempt.
fn relieve(stream: &CudaStream) {
    let _ = stream.synchronize();
    // SAFETY: the device is the one of a live context, and the pool the driver's own of that device.
    let _ = unsafe {
        result::device::get_mem_pool(stream.context().cu_device())
            .and_then(|pool| result::mem_pool::trim_to(pool, 0))
    };
}

/// Fills a storage with bytes of ones: NaN in each floating type, −1 or the largest number in the integers. What a program
/// reads before it writes it, or never writes, is then seen in its results.
///
/// # Errors
/// Where the driver refuses.
pub fn poison(storage: &mut CudaStorage) -> Result<(), DeviceError> {
    let stream = storage.device.cuda_stream();
    enter(&stream)?;
    let Some(place) = write(storage, 0, &stream) else { return Ok(()) };
    fill(place.address, 0xff, place.len * place.element.bytes(), &stream)
}

/// Makes the device's context the calling thread's, as every raw call to the driver wants it.
pub(super) fn enter(stream: &CudaStream) -> Result<(), DeviceError> {
    stream.context().bind_to_thread().map_err(DeviceError::driver("entering the device's context"))
}

/// Fills bytes of the device's memory.
pub(super) fn fill(address: u64, value: u8, bytes: usize, stream: &CudaStream) -> Result<(), DeviceError> {
    // SAFETY: the caller took `address` and `bytes` from one live buffer, which this stream may write.
    unsafe { result::memset_d8_async(address, value, bytes, stream.cu_stream()) }
        .map_err(DeviceError::driver("filling a buffer"))
}

/// A new storage with these bytes, elements little end first.
///
/// # Errors
/// Where memory is short or the driver refuses.
pub fn upload(device: &CudaDevice, element: Element, bytes: &[u8]) -> Result<CudaStorage, DeviceError> {
    let mut storage = allocate(device, element, bytes.len() / element.bytes())?;
    let stream = device.cuda_stream();
    if let Some(place) = write(&mut storage, 0, &stream) {
        // SAFETY: the storage was made with as many elements as `bytes` holds; the driver has taken pageable memory's bytes
        // when it returns.
        unsafe {
            result::memcpy_htod_async(
                place.address,
                &bytes[..whole(bytes.len(), element)],
                stream.cu_stream(),
            )
        }
        .map_err(DeviceError::driver("copying to the GPU"))?;
    }
    Ok(storage)
}

/// The bytes of a whole storage, once the device has done what was issued before.
///
/// # Errors
/// Where the driver refuses, or what was issued failed.
pub fn download(storage: &CudaStorage) -> Result<Vec<u8>, DeviceError> {
    let stream = storage.device.cuda_stream();
    let copying = || DeviceError::driver("copying from the GPU");
    enter(&stream)?;
    let Some(place) = read(storage, 0, &stream) else { return Ok(Vec::new()) };
    let mut bytes = vec![0u8; place.len * place.element.bytes()];
    // SAFETY: `bytes` is as long as the storage, and is not touched before the stream is waited for.
    unsafe { result::memcpy_dtoh_async(&mut bytes, place.address, stream.cu_stream()) }.map_err(copying())?;
    stream.synchronize().map_err(copying())?;
    Ok(bytes)
}

/// Bytes of the whole elements among `bytes`.
fn whole(bytes: usize, element: Element) -> usize {
    bytes - bytes % element.bytes()
}
