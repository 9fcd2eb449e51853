//! Activations with gradients: SiLU, GELU in its exact and its tanh form, quick-GELU, and the gated GEGLU.
//!
//! * `silu(x) = x·σ(x)`, σ the logistic function
//! * `gelu(x) = x·Φ(x)`, Φ the normal distribution function (PyTorch's `gelu`, the erf form)
//! * `gelu_tanh(x) = x·½(1 + tanh(√(2/π)(x + 0.044715x³)))` (PyTorch's `approximate="tanh"`)
//! * `quick_gelu(x) = x·σ(1.702x)` (CLIP)
//! * `geglu([u, g]) = u·gelu(g)` (Shazeer 2020; the feed-forward of Stable Diffusion)

mod cpu;
pub mod cuda;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};

pub(crate) use cpu::{activate, activate_grad};

use super::{Operand, check_operands, elements, with_real};
use crate::ops::Real;

/// An element-wise activation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Activation {
    /// x itself.
    #[default]
    None,
    /// `x·σ(x)`.
    Silu,
    /// `x·Φ(x)`.
    Gelu,
    /// `x·½(1 + tanh(√(2/π)(x + 0.044715x³)))`.
    GeluTanh,
    /// `x·σ(1.702x)`.
    QuickGelu,
}

impl Activation {
    /// Applies the activation.
    ///
    /// # Errors
    /// Where the dtype is not one the device computes in, or `x` is empty.
    pub fn apply(self, x: &Tensor) -> Result<Tensor> {
        check_operands(self.name(), &[("x", x)])?;
        if self == Self::None { Ok(x.clone()) } else { x.apply_op1(Pointwise(self)) }
    }

    /// The name of the op.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "identity",
            Self::Silu => "silu",
            Self::Gelu => "gelu",
            Self::GeluTanh => "gelu_tanh",
            Self::QuickGelu => "quick_gelu",
        }
    }
}

/// `x·σ(x)`, element by element.
///
/// # Errors
/// As [`Activation::apply`].
pub fn silu(x: &Tensor) -> Result<Tensor> {
    Activation::Silu.apply(x)
}

/// `x·Φ(x)`, element by element: GELU in its exact form.
///
/// # Errors
/// As [`Activation::apply`].
pub fn gelu(x: &Tensor) -> Result<Tensor> {
    Activation::Gelu.apply(x)
}

/// GELU in its tanh form, element by element.
///
/// # Errors
/// As [`Activation::apply`].
pub fn gelu_tanh(x: &Tensor) -> Result<Tensor> {
    Activation::GeluTanh.apply(x)
}

/// `x·σ(1.702x)`, element by element.
///
/// # Errors
/// As [`Activation::apply`].
pub fn quick_gelu(x: &Tensor) -> Result<Tensor> {
    Activation::QuickGelu.apply(x)
}

/// `u·gelu(g)` of `x` (…, 2D), u being the first and g the second half of the last axis. The result is (…, D).
///
/// # Errors
/// Where the last axis is odd, the dtype is not one the device computes in, or `x` is empty.
pub fn geglu(x: &Tensor) -> Result<Tensor> {
    check_operands("geglu", &[("x", x)])?;
    match x.dims().last() {
        Some(size) if size % 2 == 0 => x.apply_op1(Geglu { size: size / 2 }),
        _ => bail!("geglu: expected x (…,2D), found {:?}", x.dims()),
    }
}

/// x → f(x).
pub(crate) struct Pointwise(pub(crate) Activation);
/// (x, dy) → dx.
pub(crate) struct PointwiseGrad(pub(crate) Activation);

/// x (…, 2D) → y (…, D).
pub(crate) struct Geglu {
    /// D.
    pub(crate) size: usize,
}
/// (x, dy) → dx.
pub(crate) struct GegluGrad {
    /// D.
    pub(crate) size: usize,
}

impl CustomOp1 for Pointwise {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    crate::cuda::cuda_fwd!(1, cuda::device::forward);

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: Real>(x: Operand<'_>, activation: Activation) -> Result<CpuStorage> {
            Ok(T::to_cpu_storage_owned(cpu::forward(&elements::<T>(x)?, activation)))
        }
        let y = with_real!(self.name(), x.dtype(), T => run::<T>((x, lx), self.0)?);
        Ok((y, lx.shape().clone()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        x.apply_op2_no_bwd(dy, &PointwiseGrad(self.0)).map(Some)
    }
}

impl CustomOp2 for PointwiseGrad {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    crate::cuda::cuda_fwd!(2, cuda::device::backward);

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        dy: &CpuStorage,
        ly: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        fn run<T: Real>(x: Operand<'_>, dy: Operand<'_>, activation: Activation) -> Result<CpuStorage> {
            Ok(T::to_cpu_storage_owned(cpu::backward(&elements::<T>(x)?, &elements::<T>(dy)?, activation)))
        }
        let dx = with_real!(self.name(), x.dtype(), T => run::<T>((x, lx), (dy, ly), self.0)?);
        Ok((dx, lx.shape().clone()))
    }
}

impl CustomOp1 for Geglu {
    fn name(&self) -> &'static str {
        "geglu"
    }

    crate::cuda::cuda_fwd!(1, cuda::device::geglu);

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: Real>(x: Operand<'_>, size: usize) -> Result<CpuStorage> {
            Ok(T::to_cpu_storage_owned(cpu::geglu(&elements::<T>(x)?, size)))
        }
        let y = with_real!(self.name(), x.dtype(), T => run::<T>((x, lx), self.size)?);
        let mut dims = lx.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = self.size;
        }
        Ok((y, dims.into()))
    }

    fn bwd(&self, x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        x.apply_op2_no_bwd(dy, &GegluGrad { size: self.size }).map(Some)
    }
}

impl CustomOp2 for GegluGrad {
    fn name(&self) -> &'static str {
        "geglu_grad"
    }

    crate::cuda::cuda_fwd!(2, cuda::device::geglu_backward);

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        dy: &CpuStorage,
        ly: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        fn run<T: Real>(x: Operand<'_>, dy: Operand<'_>, size: usize) -> Result<CpuStorage> {
            Ok(T::to_cpu_storage_owned(cpu::geglu_grad(&elements::<T>(x)?, &elements::<T>(dy)?, size)))
        }
        let dx = with_real!(self.name(), x.dtype(), T => run::<T>((x, lx), (dy, ly), self.size)?);
        Ok((dx, lx.shape().clone()))
    }
}

#[cfg(test)]
mod tests;
