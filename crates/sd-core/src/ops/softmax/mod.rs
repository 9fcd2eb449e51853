//! Softmax over the last axis with its gradient: `y_j = e^{x_j − max} / Σ_k e^{x_k − max}`.

mod cpu;
pub mod cuda;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::{Operand, Real, check_operands, elements, with_real};

/// Softmax of each row of `x` (…, D). A row of only −∞ gives NaN, as in PyTorch.
///
/// # Errors
/// Where `x` is a scalar or empty, or its dtype is not one the device computes in.
pub fn softmax(x: &Tensor) -> Result<Tensor> {
    check_operands("softmax", &[("x", x)])?;
    let Some(&size) = x.dims().last() else { bail!("softmax: expected x (…,D), found a scalar") };
    x.apply_op1(Softmax { size })
}

/// x → y.
pub(crate) struct Softmax {
    /// Elements of a row.
    pub(crate) size: usize,
}
/// (y, dy) → dx.
pub(crate) struct SoftmaxGrad {
    /// Elements of a row.
    pub(crate) size: usize,
}

impl CustomOp1 for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    crate::cuda::cuda_fwd!(1, cuda::device::forward);

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: Real>(x: Operand<'_>, size: usize) -> Result<CpuStorage> {
            Ok(T::to_cpu_storage_owned(cpu::forward(&elements::<T>(x)?, size)))
        }
        let y = with_real!(self.name(), x.dtype(), T => run::<T>((x, lx), self.size)?);
        Ok((y, lx.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        y.apply_op2_no_bwd(dy, &SoftmaxGrad { size: self.size }).map(Some)
    }
}

impl CustomOp2 for SoftmaxGrad {
    fn name(&self) -> &'static str {
        "softmax_grad"
    }

    crate::cuda::cuda_fwd!(2, cuda::device::backward);

    fn cpu_fwd(
        &self,
        y: &CpuStorage,
        ly: &Layout,
        dy: &CpuStorage,
        ldy: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        fn run<T: Real>(y: Operand<'_>, dy: Operand<'_>, size: usize) -> Result<CpuStorage> {
            Ok(T::to_cpu_storage_owned(cpu::backward(&elements::<T>(y)?, &elements::<T>(dy)?, size)))
        }
        let dx = with_real!(self.name(), y.dtype(), T => run::<T>((y, ly), (dy, ldy), self.size)?);
        Ok((dx, ly.shape().clone()))
    }
}

#[cfg(test)]
mod tests;
