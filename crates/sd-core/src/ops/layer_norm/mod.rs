//! Layer normalisation over the last axis with all gradients (Ba, Kiros and Hinton 2016; PyTorch's `layer_norm`).
//!
//! `y = γ_j · (x − μ) / √(σ² + ε) + β_j` with mean and biased variance of each row of D elements.

mod cpu;
pub mod cuda;

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::{Operand, Real, check_operands, elements, split_flat, with_elements, with_real};

/// Normalises each row of `x` (…, D), scales by `gamma` (D) and shifts by `beta` (D).
///
/// # Errors
/// Where shapes, dtypes or devices do not fit or a tensor is empty.
pub fn layer_norm(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<Tensor> {
    check_operands("layer_norm", &[("x", x), ("gamma", gamma), ("beta", beta)])?;
    let Some(&size) = x.dims().last() else { bail!("layer_norm: expected x (…,D), found a scalar") };
    if gamma.dims() != [size] || beta.dims() != [size] {
        let (gamma, beta) = (gamma.dims(), beta.dims());
        bail!("layer_norm: x {:?} needs gamma and beta ({size}), found {gamma:?} and {beta:?}", x.dims());
    }
    x.apply_op3(
        gamma,
        beta,
        LayerNorm {
            size,
            eps,
            saved: Arc::default(),
            #[cfg(feature = "cuda")]
            kept: crate::cuda::glue::Kept::default(),
        },
    )
}

/// Mean and 1/√(σ² + ε) of a row, in the precision of the elements.
pub(crate) type Statistics = [f64; 2];

/// (x, γ, β) → y.
#[derive(Clone)]
pub(crate) struct LayerNorm {
    /// D.
    pub(crate) size: usize,
    pub(crate) eps: f64,
    /// One a row: what the backward needs of the forward.
    pub(crate) saved: Arc<OnceLock<Vec<Statistics>>>,
    /// The same on a CUDA device.
    #[cfg(feature = "cuda")]
    pub(crate) kept: crate::cuda::glue::Kept,
}

/// (x, dy) → dx, dγ, dβ, one after the other in one flat tensor.
pub(crate) struct LayerNormGrad {
    pub(crate) forward: LayerNorm,
    pub(crate) gamma: Tensor,
}

impl LayerNorm {
    fn forward<T: Real>(&self, x: Operand<'_>, gamma: Operand<'_>, beta: Operand<'_>) -> Result<CpuStorage> {
        let [x, gamma, beta] = [elements::<T>(x)?, elements(gamma)?, elements(beta)?];
        let (y, saved) = cpu::forward(&x, &gamma, &beta, self.eps);
        self.saved.get_or_init(|| saved);
        Ok(T::to_cpu_storage_owned(y))
    }
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer_norm"
    }

    crate::cuda::cuda_fwd!(3, cuda::device::forward);

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        gamma: &CpuStorage,
        lg: &Layout,
        beta: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let dtype = candle_core::backend::BackendStorage::dtype(x);
        let y = with_real!("layer_norm", dtype, T => self.forward::<T>((x, lx), (gamma, lg), (beta, lb))?);
        Ok((y, lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let wanted = |of: &Tensor, gradient| of.track_op().then_some(gradient);
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            let [dx, dgamma, dbeta] = cuda::device::backward(self, x, gamma, dy)?;
            return Ok((wanted(x, dx), wanted(gamma, dgamma), wanted(beta, dbeta)));
        }
        let flat = x.apply_op2_no_bwd(dy, &LayerNormGrad { forward: self.clone(), gamma: gamma.clone() })?;
        let [dx, dgamma, dbeta] = split_flat(&flat, [x.dims(), gamma.dims(), beta.dims()])?;
        Ok((wanted(x, dx), wanted(gamma, dgamma), wanted(beta, dbeta)))
    }
}

impl LayerNormGrad {
    fn backward<T: Real>(&self, x: Operand<'_>, dy: Operand<'_>) -> Result<CpuStorage> {
        let [x, dy] = [elements::<T>(x)?, elements(dy)?];
        let Some(saved) = self.forward.saved.get() else { bail!("layer_norm: backward before forward") };
        let flat = with_elements(&self.gamma, |gamma: &[T]| cpu::backward(&x, &dy, gamma, saved))?;
        Ok(T::to_cpu_storage_owned(flat))
    }
}

impl CustomOp2 for LayerNormGrad {
    fn name(&self) -> &'static str {
        "layer_norm_grad"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        dy: &CpuStorage,
        ly: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let dtype = candle_core::backend::BackendStorage::dtype(x);
        let flat = with_real!("layer_norm", dtype, T => self.backward::<T>((x, lx), (dy, ly))?);
        let len = lx.shape().elem_count() + 2 * self.forward.size;
        Ok((flat, len.into()))
    }
}

#[cfg(test)]
mod tests;
