//! Bilinear resize of (N, C, H, W) with its gradient: PyTorch's `interpolate(mode="bilinear")` without antialiasing.
//!
//! Along each axis of I inputs and O outputs, output o lies at `s = max(0, (o + ½)·I/O − ½)`, or with aligned corners at
//! `s = o·(I − 1)/(O − 1)`; it is `(1 − λ)·x[⌊s⌋] + λ·x[⌊s⌋ + 1]` with `λ = s − ⌊s⌋`, the last input standing in for what lies
//! beyond it.

mod cpu;
pub mod cuda;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};

use super::{Operand, Real, check_operands, elements, with_real};

/// Longest side: coordinates are found in `f32`, which knows every whole number up to 2²⁴.
const LONGEST: usize = 1 << 24;

/// `x` (N, C, H, W) → (N, C, `height`, `width`). With `align_corners` the centres of the corner pixels lie on each other,
/// without it the corners of the images.
///
/// # Errors
/// Where `x` is not of rank 4 or is empty, a side is 0 or above 2²⁴, or the dtype is not one the device computes in.
pub fn bilinear(x: &Tensor, height: usize, width: usize, align_corners: bool) -> Result<Tensor> {
    check_operands("resize", &[("x", x)])?;
    let &[n, c, h, w] = x.dims() else {
        bail!("resize: expected x (N,C,H,W), found {:?}", x.dims());
    };
    if height == 0 || width == 0 {
        bail!("resize: x {:?} to {height} by {width}; expected at least 1 by 1", x.dims());
    }
    if [h, w, height, width].into_iter().any(|side| side > LONGEST) {
        bail!("resize: x {:?} to {height} by {width}; expected sides of at most {LONGEST}", x.dims());
    }
    let planes = n * c;
    x.apply_op1(Resize { planes, input: (h, w), output: (height, width), align_corners })
}

/// x → y, and what both directions need to know.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resize {
    /// Images times channels.
    pub(crate) planes: usize,
    /// Height and width of x.
    pub(crate) input: (usize, usize),
    /// Height and width of y.
    pub(crate) output: (usize, usize),
    pub(crate) align_corners: bool,
}

/// dy → dx.
pub(crate) struct ResizeGrad(pub(crate) Resize);

/// `shape` (N, C, …) with other sides.
fn with_sides(shape: &Layout, (height, width): (usize, usize)) -> Result<Shape> {
    let (n, c, _, _) = shape.shape().dims4()?;
    Ok((n, c, height, width).into())
}

impl CustomOp1 for Resize {
    fn name(&self) -> &'static str {
        "resize"
    }

    crate::cuda::cuda_fwd!(1, cuda::device::forward);

    fn cpu_fwd(&self, x: &CpuStorage, lx: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: Real>(x: Operand<'_>, op: &Resize) -> Result<CpuStorage> {
            Ok(T::to_cpu_storage_owned(cpu::forward(&elements::<T>(x)?, op)))
        }
        let y = with_real!("resize", x.dtype(), T => run::<T>((x, lx), self)?);
        Ok((y, with_sides(lx, self.output)?))
    }

    fn bwd(&self, _x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        dy.apply_op1_no_bwd(&ResizeGrad(*self)).map(Some)
    }
}

impl CustomOp1 for ResizeGrad {
    fn name(&self) -> &'static str {
        "resize_grad"
    }

    crate::cuda::cuda_fwd!(1, cuda::device::backward);

    fn cpu_fwd(&self, dy: &CpuStorage, ly: &Layout) -> Result<(CpuStorage, Shape)> {
        fn run<T: Real>(dy: Operand<'_>, op: &Resize) -> Result<CpuStorage> {
            Ok(T::to_cpu_storage_owned(cpu::backward(&elements::<T>(dy)?, op)))
        }
        let dx = with_real!("resize", dy.dtype(), T => run::<T>((dy, ly), &self.0)?);
        Ok((dx, with_sides(ly, self.0.input)?))
    }
}

#[cfg(test)]
mod tests;
