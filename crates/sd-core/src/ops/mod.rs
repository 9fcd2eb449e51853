//! Differentiable operations: each a folder with its API and tests in `mod.rs` and a plain reference beside the fast path
//! in `cpu.rs`.
//!
//! Every op takes any layout (contiguous, transposed, sliced, broadcast), works in `f32` and `f64`, and gives bitwise the
//! same values for every number of threads: work is cut into pieces by shape alone, and sums are joined in a fixed order.

pub mod activation;
pub mod attention;
pub mod batch_norm;
mod buffer;
pub mod conv2d;
pub mod copy;
pub mod group_norm;
pub mod guidance;
mod lanes;
pub mod layer_norm;
pub mod linear;
mod math;
pub(crate) mod matmul;
mod moments;
mod pieces;
pub mod resize;
#[cfg(target_arch = "x86_64")]
pub(crate) mod scratch;
mod simd;
pub mod softmax;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(target_arch = "x86_64")]
pub(crate) mod tile;
pub mod upsample;

use std::borrow::Cow;

use candle_core::{CpuStorage, DType, Layout, Result, Tensor, WithDType, bail};

pub(crate) use math::Math;

/// Element types the CPU paths are written for.
pub(crate) trait Real:
    WithDType
    + Math
    + Copy
    + Send
    + Sync
    + std::ops::AddAssign
    + std::ops::MulAssign
    + std::ops::Neg<Output = Self>
    + simd::Vector<Self>
    + 'static
{
    /// What [`simd::vectorised`] functions compute on where the machine has AVX-512.
    type Wide: simd::Vector<Self>;
    /// What they compute on where it has AVX2.
    type Double: simd::Vector<Self>;
}

impl Real for f32 {
    #[cfg(target_arch = "x86_64")]
    type Wide = simd::Zmm;
    #[cfg(target_arch = "x86_64")]
    type Double = simd::Pair;
    #[cfg(not(target_arch = "x86_64"))]
    type Wide = Self;
    #[cfg(not(target_arch = "x86_64"))]
    type Double = Self;
}

impl Real for f64 {
    type Wide = Self;
    type Double = Self;
}

/// Runs an expression with the type `$T` bound to the element type of `$dtype`; an error of `$op` for any other dtype.
macro_rules! with_real {
    ($op:expr, $dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $T = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $T = f64;
                $body
            }
            other => candle_core::bail!("{}: {other:?} on the CPU; expected F32 or F64", $op),
        }
    };
}
pub(crate) use with_real;

/// A CPU operand of a `CustomOp`.
pub(crate) type Operand<'a> = (&'a CpuStorage, &'a Layout);

/// [`row_major`] of an operand.
pub(crate) fn elements<'a, T: Real>(operand: Operand<'a>) -> Result<Cow<'a, [T]>> {
    row_major(operand.0, operand.1)
}

/// The elements of a CPU tensor in row-major order: borrowed where they lie so, copied where they do not.
pub(crate) fn row_major<'a, T: Real>(storage: &'a CpuStorage, layout: &Layout) -> Result<Cow<'a, [T]>> {
    let elements = storage.as_slice::<T>()?;
    Ok(match layout.contiguous_offsets() {
        Some((start, end)) => Cow::Borrowed(&elements[start..end]),
        None => {
            Cow::Owned(copy::cpu::gather(&elements[layout.start_offset()..], layout.dims(), layout.stride()))
        }
    })
}

/// Runs `body` on the row-major elements of a CPU tensor.
pub(crate) fn with_elements<T: Real, R>(tensor: &Tensor, body: impl FnOnce(&[T]) -> R) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        candle_core::Storage::Cpu(storage) => Ok(body(&row_major::<T>(storage, layout)?)),
        _ => bail!("expected a tensor on the CPU, found one on {:?}", tensor.device().location()),
    }
}

/// Refuses operands that an op cannot combine, naming the op, the shapes and what was expected.
pub(crate) fn check_operands(op: &str, operands: &[(&str, &Tensor)]) -> Result<()> {
    let Some(((first_name, first), rest)) = operands.split_first() else { return Ok(()) };
    for (name, tensor) in operands {
        check_dtype(op, name, tensor)?;
        if tensor.elem_count() == 0 {
            bail!("{op}: {name} has shape {:?}, which holds no element", tensor.dims());
        }
    }
    for (name, tensor) in rest {
        if tensor.dtype() != first.dtype() {
            bail!(
                "{op}: {name} is {:?} but {first_name} is {:?}; expected one dtype",
                tensor.dtype(),
                first.dtype()
            );
        }
        if !tensor.device().same_device(first.device()) {
            bail!("{op}: {name} and {first_name} are on different devices");
        }
    }
    Ok(())
}

/// The CPU computes in `f32` and `f64`, CUDA in `f32` on elements of `f32`, `f16` and `bf16`.
fn check_dtype(op: &str, name: &str, tensor: &Tensor) -> Result<()> {
    let (known, expected) = if tensor.device().is_cuda() {
        (matches!(tensor.dtype(), DType::F32 | DType::F16 | DType::BF16), "F32, F16 or BF16")
    } else {
        (matches!(tensor.dtype(), DType::F32 | DType::F64), "F32 or F64")
    };
    if known { Ok(()) } else { bail!("{op}: {name} is {:?}; expected {expected}", tensor.dtype()) }
}

/// Cuts the flat result of a backward op into tensors of the given shapes, in order.
pub(crate) fn split_flat<const N: usize>(flat: &Tensor, shapes: [&[usize]; N]) -> Result<[Tensor; N]> {
    let mut start = 0;
    let mut parts = Vec::with_capacity(N);
    for shape in shapes {
        let count = shape.iter().product();
        parts.push(flat.narrow(0, start, count)?.reshape(shape)?);
        start += count;
    }
    match parts.try_into() {
        Ok(parts) => Ok(parts),
        Err(_) => bail!("{N} parts were pushed"),
    }
}
