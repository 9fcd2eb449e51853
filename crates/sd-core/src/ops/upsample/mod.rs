//! Nearest up-sampling by two on both axes with its gradient: `y[…, 2i + a, 2j + b] = x[…, i, j]` for a, b in {0, 1}.

mod cpu;
pub mod cuda;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::{Operand, Real, check_operands, elements, with_real};

/// `x` (N, C, H, W) → (N, C, 2H, 2W), each pixel four times.
///
/// # Errors
/// Where `x` is not of rank 4 or is empty, or its dtype is not one the device computes in.
pub fn nearest2x(x: &Tensor) -> Result<Tensor> {
    check_operands("upsample", &[("x", x)])?;
    if x.rank() != 4 {
        bail!("upsample: expected x (N,C,H,W), found {:?}", x.dims());
    }
    x.apply_op1(Nearest2x)
}

/// x → y.
pub(crate) struct Nearest2x;
/// dy → dx: each pixel the sum of its four copies.
pub(crate) struct Nearest2xGrad;

impl CustomOp1 for Nearest2x {
    fn name(&self) -> &'static str {
        "upsample_nearest2x"
    }

    crate::cuda::cuda_fwd!(1, cuda::device::forward);

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: Real>(x: Operand<'_>, width: usize) -> Result<CpuStorage> {
            Ok(T::to_cpu_storage_owned(cpu::forward(&elements::<T>(x)?, width)))
        }
        let (n, c, h, w) = lx.shape().dims4()?;
        let y = with_real!(self.name(), x.dtype(), T => run::<T>((x, lx), w)?);
        Ok((y, (n, c, 2 * h, 2 * w).into()))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        dy.apply_op1_no_bwd(&Nearest2xGrad).map(Some)
    }
}

impl CustomOp1 for Nearest2xGrad {
    fn name(&self) -> &'static str {
        "upsample_nearest2x_grad"
    }

    crate::cuda::cuda_fwd!(1, cuda::device::backward);

    fn cpu_fwd(&self, dy: &CpuStorage, ly: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: Real>(dy: Operand<'_>, width: usize) -> Result<CpuStorage> {
            Ok(T::to_cpu_storage_owned(cpu::backward(&elements::<T>(dy)?, width)))
        }
        let (n, c, h, w) = ly.shape().dims4()?;
        let dx = with_real!(self.name(), dy.dtype(), T => run::<T>((dy, ly), w / 2)?);
        Ok((dx, (n, c, h / 2, w / 2).into()))
    }
}

#[cfg(test)]
mod tests;
