//! From candle's tensors to programs and back: what each op's CUDA half is made of.

use std::sync::{Arc, OnceLock};

use candle_core::backend::BackendStorage as _;
use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, DType, Layout, Result, Shape, Storage, Tensor, bail};

use super::device::{self, Given};
use super::lower::ALIGNMENT;
use super::program::{BufferSpec, Element, Program, Role};

/// An operand of a forward pass as candle hands it over.
pub(crate) type Operand<'a> = (&'a CudaStorage, &'a Layout);

/// Runs `program` on the operands of a forward pass, of any layout, and returns its outputs in order. An operand of another
/// floating-point type than the program's buffer (a parameter, where the program wants `f32`) is converted.
pub(crate) fn forward(program: &Program, operands: &[Operand<'_>]) -> Result<Vec<CudaStorage>> {
    let Some((first, _)) = operands.first() else { bail!("{}: no operand", program.name) };
    let wanted = program.buffers.iter().filter(|spec| spec.role == Role::Input);
    let dense = operands
        .iter()
        .zip(wanted)
        .map(|(operand, spec)| Dense::new(*operand, spec))
        .collect::<Result<Vec<_>>>()?;
    let mut given: Vec<Given<'_>> = dense.iter().map(Dense::given).collect();
    Ok(device::run(&first.device, program, &mut given)?)
}

/// [`forward`] of a program with one output, of the given shape.
pub(crate) fn forward_one(
    program: &Program,
    operands: &[Operand<'_>],
    shape: &Shape,
) -> Result<(CudaStorage, Shape)> {
    let mut outputs = forward(program, operands)?.into_iter();
    match (outputs.next(), outputs.next()) {
        (Some(output), None) => Ok((output, shape.clone())),
        _ => bail!("{}: expected a program with one output", program.name),
    }
}

/// [`forward`] of a program with one output whose last operands the op itself holds.
pub(crate) fn with_tensors(
    program: &Program,
    operands: &[Operand<'_>],
    held: &[&Tensor],
) -> Result<CudaStorage> {
    let locked: Vec<_> = held.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let mut operands = operands.to_vec();
    for (storage, layout) in &locked {
        match &**storage {
            Storage::Cuda(storage) => operands.push((storage, *layout)),
            _ => bail!("{}: an operand is not on a CUDA device", program.name),
        }
    }
    let [output] = forward_many(program, &operands)?;
    Ok(output)
}

/// [`forward`] of a program with `N` outputs.
pub(crate) fn forward_many<const N: usize>(
    program: &Program,
    operands: &[Operand<'_>],
) -> Result<[CudaStorage; N]> {
    let outputs = forward(program, operands)?;
    let found = outputs.len();
    match outputs.try_into() {
        Ok(outputs) => Ok(outputs),
        Err(_) => bail!("{}: {found} outputs, expected {N}", program.name),
    }
}

/// Runs `program` on tensors. Output i becomes a tensor of the shape and type of `like[i]`, without a gradient of its own.
pub(crate) fn on_tensors(program: &Program, operands: &[&Tensor], like: &[&Tensor]) -> Result<Vec<Tensor>> {
    let outputs = on_storages(program, operands)?;
    if outputs.len() != like.len() {
        bail!("{}: {} outputs, expected {}", program.name, outputs.len(), like.len());
    }
    let shaped = outputs
        .into_iter()
        .zip(like)
        .map(|(output, like)| tensor(output, like.dims()).to_dtype(like.dtype()));
    shaped.collect()
}

/// [`forward`] on tensors.
pub(crate) fn on_storages(program: &Program, operands: &[&Tensor]) -> Result<Vec<CudaStorage>> {
    let locked: Vec<_> = operands.iter().map(|tensor| tensor.storage_and_layout()).collect();
    let operands = locked.iter().map(|(storage, layout)| match &**storage {
        Storage::Cuda(storage) => Ok((storage, *layout)),
        _ => bail!("{}: an operand is not on a CUDA device", program.name),
    });
    forward(program, &operands.collect::<Result<Vec<_>>>()?)
}

/// A tensor over a storage that nobody else has.
pub(crate) fn tensor(storage: CudaStorage, shape: impl Into<Shape>) -> Tensor {
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

/// dγ and dβ out of the one buffer in which the norms' kernels leave them, in the type of γ.
pub(crate) fn affine_gradients(both: CudaStorage, gamma: &Tensor) -> Result<[Tensor; 2]> {
    let channels = gamma.elem_count();
    let both = tensor(both, 2 * channels).to_dtype(gamma.dtype())?;
    Ok([both.narrow(0, 0, channels)?, both.narrow(0, channels, channels)?])
}

/// What a forward pass leaves for its backward, on the device. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept(Arc<OnceLock<Vec<Tensor>>>);

impl Kept {
    /// Keeps tensors; those of a second forward pass of the same op are the same.
    pub(crate) fn set(&self, tensors: Vec<Tensor>) {
        let _ = self.0.set(tensors);
    }

    /// What was kept; an error of `op` where the backward comes first.
    pub(crate) fn get<const N: usize>(&self, op: &str) -> Result<&[Tensor; N]> {
        match self.0.get().map(|tensors| tensors.as_slice().try_into()) {
            Some(Ok(tensors)) => Ok(tensors),
            _ => bail!("{op}: the backward was asked for before the forward"),
        }
    }
}

/// [`element`] of the first operand.
pub(crate) fn element_of(op: &str, operands: &[Operand<'_>]) -> Result<Element> {
    match operands.first() {
        Some((storage, _)) => element(op, storage.dtype()),
        None => bail!("{op}: no operand"),
    }
}

/// The element type in which the kernels compute on tensors of `dtype`.
///
/// # Errors
/// For every type but the three; names the op.
pub(crate) fn element(op: &str, dtype: DType) -> Result<Element> {
    match Element::of(dtype) {
        Some(element @ (Element::F32 | Element::F16 | Element::Bf16)) => Ok(element),
        _ => bail!("{op}: {dtype:?} on a CUDA device; expected F32, F16 or BF16"),
    }
}

/// An operand as kernels read it: row-major from an aligned start.
enum Dense<'a> {
    /// It lies so.
    There(&'a CudaStorage, usize),
    /// A copy does.
    Copied(CudaStorage),
}

impl<'a> Dense<'a> {
    fn new((storage, layout): Operand<'a>, wanted: &BufferSpec) -> Result<Self> {
        let is = Element::of(storage.dtype());
        if is != Some(wanted.element) {
            // candle converts from any layout into row-major order.
            return Ok(Self::Copied(storage.to_dtype(layout, dtype(wanted.element))?));
        }
        let offset = layout.start_offset();
        if layout.is_contiguous() && is_aligned(offset, wanted.element) {
            return Ok(Self::There(storage, offset));
        }
        Ok(Self::Copied(row_major(storage, layout, wanted.element)?))
    }

    fn given(&self) -> Given<'_> {
        match self {
            Self::There(storage, offset) => Given::Read(storage, *offset),
            Self::Copied(storage) => Given::Read(storage, 0),
        }
    }
}

fn row_major(storage: &CudaStorage, layout: &Layout, element: Element) -> Result<CudaStorage> {
    let start = layout.start_offset();
    let copied = match crate::ops::copy::cuda::strided(layout.dims(), layout.stride(), element) {
        Ok(program) if is_aligned(start, element) => {
            device::run(&storage.device, &program, &mut [Given::Read(storage, start)])?.pop()
        }
        // Too many axes, or a start that the kernel cannot read packs from.
        _ => None,
    };
    copied.map_or_else(|| by_candle(storage, layout), Ok)
}

fn is_aligned(offset: usize, element: Element) -> bool {
    ((offset * element.bytes()) as u64).is_multiple_of(ALIGNMENT)
}

fn by_candle(storage: &CudaStorage, layout: &Layout) -> Result<CudaStorage> {
    let (device, len) = (storage.device(), layout.shape().elem_count());
    let slice = match storage.dtype() {
        DType::F32 => CudaStorageSlice::F32(device.alloc_zeros(len)?),
        DType::F16 => CudaStorageSlice::F16(device.alloc_zeros(len)?),
        DType::BF16 => CudaStorageSlice::BF16(device.alloc_zeros(len)?),
        DType::U32 => CudaStorageSlice::U32(device.alloc_zeros(len)?),
        DType::I64 => CudaStorageSlice::I64(device.alloc_zeros(len)?),
        other => bail!("no kernel computes on {other:?}"),
    };
    let mut copy = CudaStorage { slice, device: device.clone() };
    storage.copy_strided_src(&mut copy, 0, layout)?;
    Ok(copy)
}

fn dtype(element: Element) -> DType {
    match element {
        Element::F32 => DType::F32,
        Element::F16 => DType::F16,
        Element::Bf16 => DType::BF16,
        Element::U32 => DType::U32,
        Element::I64 => DType::I64,
    }
}
