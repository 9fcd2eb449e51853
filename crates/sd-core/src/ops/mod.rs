//! Differentiable operations: each a folder with its API and tests in `mod.rs` and a plain reference beside the fast path
//! in `cpu.rs`.
//!
//! Every op takes any layout (contiguous, transposed, sliced, broadcast), works in `f32` and `f64`, and gives bitwise the
//! same values for every number of threads: work is cut into pieces by shape alone, and sums are joined in a fixed order.

pub mod batch_norm;
pub mod conv2d;
pub(crate) mod matmul;
#[cfg(test)]
pub(crate) mod testing;

use std::borrow::Cow;

use candle_core::{CpuStorage, DType, Layout, Result, Tensor, WithDType, bail};

/// Element types the CPU paths are written for.
pub(crate) trait Real:
    WithDType + Copy + Send + Sync + std::ops::AddAssign + std::ops::MulAssign + 'static
{
}
impl Real for f32 {}
impl Real for f64 {}

/// The elements of a CPU tensor in row-major order: borrowed where they lie so, copied where they do not.
pub(crate) fn row_major<'a, T: Real>(storage: &'a CpuStorage, layout: &Layout) -> Result<Cow<'a, [T]>> {
    let elements = storage.as_slice::<T>()?;
    Ok(match layout.contiguous_offsets() {
        Some((start, end)) => Cow::Borrowed(&elements[start..end]),
        None => Cow::Owned(offsets(layout).into_iter().map(|index| elements[index]).collect()),
    })
}

/// Where the elements of a layout lie, in row-major order.
fn offsets(layout: &Layout) -> Vec<usize> {
    layout.dims().iter().zip(layout.stride()).fold(vec![layout.start_offset()], |starts, (&size, &stride)| {
        starts.iter().flat_map(|start| (0..size).map(move |i| start + i * stride)).collect()
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
        if !matches!(tensor.dtype(), DType::F32 | DType::F64) {
            bail!("{op}: {name} is {:?}; expected F32 or F64", tensor.dtype());
        }
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
