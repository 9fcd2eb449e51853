//! The commands of a program, one after another.

use std::ffi::c_void;

use candle_core::cuda_backend::cudarc::cublas::sys as blas;
use candle_core::cuda_backend::cudarc::cublas::{CudaBlas, result as cublas};
use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute;
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, CudaSlice, CudaStream, DevicePtr, result};
use candle_core::cuda_backend::gemm_reduced_precision_f32;
use candle_core::{CudaDevice, CudaStorage};

use super::error::DeviceError;
use super::storage::{Given, Located, enter, fill, may_be, read, reserve, write};
use super::{is_set, kernels};
use crate::cuda::lower::{Command, Gemm, Place, described, lower, table_len, what};
use crate::cuda::program::{Element, Launch, Program, Role};

/// Dynamic shared memory that every kernel may use; more is asked for.
const SHARED: u32 = 48 << 10;

/// Everything on the device's stream: buffers located, commands made and issued. The guards of `located` are dropped after
/// the last command was issued, which tells other streams when the buffers are free.
pub(super) fn carry_out(
    device: &CudaDevice,
    program: &Program,
    given: &mut [Given<'_>],
    made: &mut [(usize, CudaStorage)],
) -> Result<(), DeviceError> {
    let stream = device.cuda_stream();
    enter(&stream)?;
    let located = locate(program, given, made, &stream)?;
    let specs = program.buffers.iter();
    let places: Vec<Place> = located
        .iter()
        .zip(specs)
        .map(|(found, spec)| Place { address: found.address, spec: *spec })
        .collect();
    let table = Table::new(device, table_len(program))?;
    let lowered = lower(program, &places, table.address(&stream))?;
    table.write(&lowered.table, &stream)?;
    for (command, step) in lowered.commands.iter().zip(&program.steps) {
        issue(device, command, &stream)?;
        if is_set("DIFFLAB_CUDA_SYNC") {
            stream.synchronize().map_err(DeviceError::driver(what(step)))?;
        }
    }
    Ok(())
}

/// Where every buffer of the program lies, in the program's order.
fn locate<'a>(
    program: &Program,
    given: &'a mut [Given<'_>],
    made: &'a mut [(usize, CudaStorage)],
    stream: &'a CudaStream,
) -> Result<Vec<Located<'a>>, DeviceError> {
    let (mut given, mut made) = (given.iter_mut(), made.iter_mut());
    let each = program.buffers.iter().enumerate().map(|(index, spec)| {
        let is_given = matches!(spec.role, Role::Input | Role::InOut);
        let found = if is_given {
            given.next().filter(|given| may_be(given, spec.role)).and_then(|given| match given {
                Given::Read(storage, offset) => read(storage, *offset, stream),
                Given::Update(storage, offset) => write(storage, *offset, stream),
            })
        } else {
            made.next()
                .filter(|(position, _)| *position == index)
                .and_then(|(_, made)| write(made, 0, stream))
        };
        found
            .ok_or("no such buffer".to_owned())
            .and_then(|found| match found.serves(spec) {
                true => Ok(found),
                false => Err(format!("{} elements of {:?}", found.len, found.element)),
            })
            .map_err(|found| DeviceError::Buffer {
                program: program.name.clone(),
                index,
                expected: format!("{} elements of {:?}, {:?}", spec.len, spec.element, spec.role),
                found,
            })
    });
    each.collect()
}

fn issue(device: &CudaDevice, command: &Command<'_>, stream: &CudaStream) -> Result<(), DeviceError> {
    match command {
        Command::Launch { launch, cells } => {
            let function = kernels::function(stream.context(), launch)?;
            allow_shared(&function, launch)?;
            start(&function, launch, cells, stream)
        }
        Command::Product(gemm) => multiply(&device.cublas_handle(), gemm),
        Command::Zero { address, bytes } => fill(*address, 0, *bytes, stream),
    }
}

fn allow_shared(function: &CudaFunction, launch: &Launch) -> Result<(), DeviceError> {
    if launch.shared <= SHARED {
        return Ok(());
    }
    let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    // No device has 2 GiB of it.
    let bytes = i32::try_from(launch.shared).unwrap_or(i32::MAX);
    let refused = || format!("{}: asking for the shared memory", described(launch));
    function.set_attribute(attribute, bytes).map_err(|error| DeviceError::driver(refused())(error))
}

/// The one launch of all kernels.
fn start(
    function: &CudaFunction,
    launch: &Launch,
    cells: &[u64],
    stream: &CudaStream,
) -> Result<(), DeviceError> {
    let mut arguments: Vec<*mut c_void> =
        cells.iter().map(|cell| std::ptr::from_ref(cell).cast_mut().cast()).collect();
    let ([gx, gy, gz], [bx, by, bz]) = (launch.grid, launch.block);
    // SAFETY:
    // * `function` belongs to a module that it keeps loaded, in the context of `stream`.
    // * `arguments` has a pointer for each parameter of the kernel, each to 8 readable bytes that begin with a value of the
    //   parameter's type: kernel-host compares number and types of the arguments of every launch that the engine describes
    //   with the kernel's C++ signature. The driver copies the values before it returns.
    // * Pointers among them are starts of live buffers of the lengths the program states (`locate`), or of a pointer table
    //   of such; they stay allocated until the stream is past this launch, since candle frees in stream order.
    // * The kernel stays inside the buffers and writes only outputs, scratch and updated ones: kernel-host runs every kernel
    //   under sanitizers with canaries around each buffer, for odd shapes. Updated buffers are borrowed mutably.
    // * Grid, block and shared memory are within the device's limits (`lower`), or the driver refuses the launch.
    let launched = unsafe {
        result::launch_kernel(
            function.cu_function(),
            (gx, gy, gz),
            (bx, by, bz),
            launch.shared,
            stream.cu_stream(),
            &mut arguments,
        )
    };
    launched.map_err(|error| DeviceError::driver(described(launch))(error))
}

/// A product with sums in `f32`: without TF32 unless candle's switch asks for it, and without sums in 16 bits.
fn multiply(handle: &CudaBlas, gemm: &Gemm) -> Result<(), DeviceError> {
    let Gemm { m, n, k, batch, first, second, result, accumulate } = gemm;
    let compute = match first.element {
        Element::F32 if gemm_reduced_precision_f32() => {
            blas::cublasComputeType_t::CUBLAS_COMPUTE_32F_FAST_TF32
        }
        _ => blas::cublasComputeType_t::CUBLAS_COMPUTE_32F,
    };
    let (alpha, beta) = (1f32, if *accumulate { 1f32 } else { 0f32 });
    let what = || format!("product of {n}×{m}×{k}, {batch} times");
    let refused = |error| DeviceError::blas(what())(error);
    let exact = blas::cublasMath_t::CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION;
    // SAFETY: the handle is candle's, alive, and set to the device's stream; its mode is the same for all of this program.
    unsafe { blas::cublasSetMathMode(*handle.handle(), exact) }.result().map_err(refused)?;
    // SAFETY: `lower` checked that each operand's matrices lie inside a live buffer of the element type named here, and that
    // those of C do not overlap; alpha and beta are `f32`, as the compute type wants, and are read before the call returns.
    let multiplied = unsafe {
        cublas::gemm_strided_batched_ex(
            *handle.handle(),
            operation(first.transposed),
            operation(second.transposed),
            *m,
            *n,
            *k,
            std::ptr::from_ref(&alpha).cast(),
            first.address as *const c_void,
            data_type(first.element),
            first.leading,
            first.stride,
            second.address as *const c_void,
            data_type(second.element),
            second.leading,
            second.stride,
            std::ptr::from_ref(&beta).cast(),
            result.address as *mut c_void,
            data_type(result.element),
            result.leading,
            result.stride,
            *batch,
            compute,
            blas::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
        )
    };
    multiplied.map_err(refused)
}

fn operation(transposed: bool) -> blas::cublasOperation_t {
    if transposed { blas::cublasOperation_t::CUBLAS_OP_T } else { blas::cublasOperation_t::CUBLAS_OP_N }
}

/// `lower` lets no other type into a product.
fn data_type(element: Element) -> blas::cudaDataType_t {
    match element {
        Element::F16 => blas::cudaDataType_t::CUDA_R_16F,
        Element::Bf16 => blas::cudaDataType_t::CUDA_R_16BF,
        Element::F32 | Element::U32 | Element::I64 => blas::cudaDataType_t::CUDA_R_32F,
    }
}

/// The pointers of a program's tables, on the device; nothing where it has none.
struct Table(Option<CudaSlice<u64>>);

impl Table {
    fn new(device: &CudaDevice, len: usize) -> Result<Self, DeviceError> {
        Ok(Self(if len == 0 { None } else { Some(reserve::<u64>(device, len)?) }))
    }

    fn address(&self, stream: &CudaStream) -> u64 {
        self.0.as_ref().map_or(0, |slice| slice.device_ptr(stream).0)
    }

    fn write(&self, pointers: &[u64], stream: &CudaStream) -> Result<(), DeviceError> {
        let Some(slice) = &self.0 else { return Ok(()) };
        // SAFETY: the slice has as many numbers as the program has pointers, and nothing else knows it. The copy is from
        // pageable memory, so the driver has taken the bytes when it returns.
        unsafe { result::memcpy_htod_async(slice.device_ptr(stream).0, pointers, stream.cu_stream()) }
            .map_err(DeviceError::driver("copying a table of pointers"))
    }
}
