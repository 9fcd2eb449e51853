//! Copies of strided views into row-major order.
//!
//! `y[i₁,…,iₙ] = x[i₁,…,iₙ]`, the elements of y adjacent in the order of its shape. The gradient is the identity.

pub(crate) mod cpu;
pub mod cuda;
#[cfg(test)]
mod tests;

use candle_core::backend::BackendStorage as _;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, WithDType as _};

use super::{check_operands, elements, with_real};

/// `x` itself where it already lies in row-major order, else a copy that does.
///
/// # Errors
/// Where the dtype is not supported or the tensor is empty.
pub fn contiguous(x: &Tensor) -> Result<Tensor> {
    if x.is_contiguous() {
        return Ok(x.clone());
    }
    if x.device().is_cuda() {
        return x.contiguous();
    }
    check_operands("contiguous", &[("x", x)])?;
    x.apply_op1(Contiguous)
}

struct Contiguous;

impl CustomOp1 for Contiguous {
    fn name(&self) -> &'static str {
        "contiguous"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = with_real!("contiguous", x.dtype(), T => {
            T::to_cpu_storage_owned(elements::<T>((x, layout))?.into_owned())
        });
        Ok((y, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(dy.clone()))
    }
}
