//! Group normalisation of (N, C, …) tensors with all gradients, optionally followed by SiLU (Wu and He 2018; PyTorch's
//! `group_norm`).
//!
//! The channels are cut into `groups` of equal size. `z = γ_c · (x − μ_ng) / √(σ²_ng + ε) + β_c` with mean and biased variance
//! over the channels and positions of group g of image n; the result is z, or `z/(1 + e⁻ᶻ)` where SiLU is fused.

mod cpu;
pub mod cuda;

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::{Operand, Real, check_operands, elements, split_flat, with_elements, with_real};

/// Normalises `x` (N, C, …) in `groups` groups of channels, scales by `gamma` (C), shifts by `beta` (C), then applies SiLU where
/// `silu`.
///
/// # Errors
/// Where shapes, dtypes or devices do not fit, a tensor is empty, or the channels cannot be cut into `groups`.
pub fn group_norm(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    groups: usize,
    eps: f64,
    silu: bool,
) -> Result<Tensor> {
    let dims = Dims::new(x, gamma, beta, groups)?;
    x.apply_op3(
        gamma,
        beta,
        GroupNorm {
            dims,
            eps,
            silu,
            saved: Arc::default(),
            #[cfg(feature = "cuda")]
            kept: crate::cuda::glue::Kept::default(),
        },
    )
}

/// Sizes: the positions are all axes after the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dims {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) positions: usize,
    pub(crate) groups: usize,
}

impl Dims {
    fn new(x: &Tensor, gamma: &Tensor, beta: &Tensor, groups: usize) -> Result<Self> {
        check_operands("group_norm", &[("x", x), ("gamma", gamma), ("beta", beta)])?;
        let [batch, channels, positions @ ..] = x.dims() else {
            bail!("group_norm: expected x (N,C,…), found {:?}", x.dims());
        };
        if groups == 0 || channels % groups != 0 {
            bail!(
                "group_norm: the {channels} channels of x {:?} cannot be cut into {groups} groups",
                x.dims()
            );
        }
        if gamma.dims() != [*channels] || beta.dims() != [*channels] {
            let (gamma, beta) = (gamma.dims(), beta.dims());
            bail!(
                "group_norm: x {:?} needs gamma and beta ({channels}), found {gamma:?} and {beta:?}",
                x.dims()
            );
        }
        Ok(Self { batch: *batch, channels: *channels, positions: positions.iter().product(), groups })
    }

    /// Channels of a group.
    pub(crate) fn group_channels(&self) -> usize {
        self.channels / self.groups
    }

    /// Elements of a group: adjacent in memory.
    pub(crate) fn group(&self) -> usize {
        self.group_channels() * self.positions
    }
}

/// Mean and 1/√(σ² + ε) of every group of every image: what the backward needs of the forward.
#[derive(Clone, Debug)]
pub(crate) struct Saved {
    pub(crate) mean: Vec<f64>,
    pub(crate) rstd: Vec<f64>,
}

/// (x, γ, β) → y.
#[derive(Clone)]
pub(crate) struct GroupNorm {
    pub(crate) dims: Dims,
    pub(crate) eps: f64,
    pub(crate) silu: bool,
    pub(crate) saved: Arc<OnceLock<Saved>>,
    /// The same on a CUDA device.
    #[cfg(feature = "cuda")]
    pub(crate) kept: crate::cuda::glue::Kept,
}

/// (x, dy) → dx, dγ, dβ, one after the other in one flat tensor.
pub(crate) struct GroupNormGrad {
    pub(crate) forward: GroupNorm,
    pub(crate) gamma: Tensor,
    pub(crate) beta: Tensor,
}

impl GroupNorm {
    fn forward<T: Real>(&self, x: Operand<'_>, gamma: Operand<'_>, beta: Operand<'_>) -> Result<CpuStorage> {
        let [x, gamma, beta] = [elements::<T>(x)?, elements(gamma)?, elements(beta)?];
        let affine = cpu::Affine { gamma: &gamma, beta: &beta, silu: self.silu };
        let (y, saved) = cpu::forward(&x, &affine, &self.dims, self.eps);
        self.saved.get_or_init(|| saved);
        Ok(T::to_cpu_storage_owned(y))
    }
}

impl CustomOp3 for GroupNorm {
    fn name(&self) -> &'static str {
        "group_norm"
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
        let y = with_real!("group_norm", dtype, T => self.forward::<T>((x, lx), (gamma, lg), (beta, lb))?);
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
            let [dx, dgamma, dbeta] = cuda::device::backward(self, [x, gamma, beta], dy)?;
            return Ok((wanted(x, dx), wanted(gamma, dgamma), wanted(beta, dbeta)));
        }
        let op = GroupNormGrad { forward: self.clone(), gamma: gamma.clone(), beta: beta.clone() };
        let flat = x.apply_op2_no_bwd(dy, &op)?;
        let [dx, dgamma, dbeta] = split_flat(&flat, [x.dims(), gamma.dims(), beta.dims()])?;
        Ok((wanted(x, dx), wanted(gamma, dgamma), wanted(beta, dbeta)))
    }
}

impl GroupNormGrad {
    fn backward<T: Real>(&self, x: Operand<'_>, dy: Operand<'_>) -> Result<CpuStorage> {
        let [x, dy] = [elements::<T>(x)?, elements(dy)?];
        let Some(saved) = self.forward.saved.get() else { bail!("group_norm: backward before forward") };
        let flat = with_elements(&self.gamma, |gamma: &[T]| {
            with_elements(&self.beta, |beta: &[T]| {
                let affine = cpu::Affine { gamma, beta, silu: self.forward.silu };
                cpu::backward(&x, &dy, &affine, &self.forward.dims, saved)
            })
        })??;
        Ok(T::to_cpu_storage_owned(flat))
    }
}

impl CustomOp2 for GroupNormGrad {
    fn name(&self) -> &'static str {
        "group_norm_grad"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        dy: &CpuStorage,
        ly: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let dtype = candle_core::backend::BackendStorage::dtype(x);
        let flat = with_real!("group_norm", dtype, T => self.backward::<T>((x, lx), (dy, ly))?);
        let len = lx.shape().elem_count() + 2 * self.forward.dims.channels;
        Ok((flat, len.into()))
    }
}

#[cfg(test)]
mod tests;
