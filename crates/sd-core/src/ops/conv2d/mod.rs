//! Two-dimensional convolution (cross-correlation, as in PyTorch's `conv2d`) with both gradients.
//!
//! `y[n,o,i,j] = Σ_{c,u,v} w[o,c,u,v] · x[n,c,i·s+u−p,j·s+v−p]`, zero outside the image.
//! Shapes: x (N, C, H, W), w (O, C, U, V), y (N, O, (H+2p−U)/s+1, (W+2p−V)/s+1).
//!
//! candle's own backward of this op runs at a fraction of its forward; here all three products go through one tiled
//! im2col whose buffer is bounded by `cpu::TILE`, whatever the batch.

mod cpu;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use super::{Real, check_operands, row_major};

/// Sizes of one convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub(crate) batch: usize,
    pub(crate) c_in: usize,
    pub(crate) h: usize,
    pub(crate) w: usize,
    pub(crate) c_out: usize,
    pub(crate) kh: usize,
    pub(crate) kw: usize,
    pub(crate) stride: usize,
    pub(crate) padding: usize,
}

impl Geometry {
    fn new(x: &[usize], w: &[usize], stride: usize, padding: usize) -> Result<Self> {
        let (&[batch, c_in, h, width], &[c_out, kernel_in, kh, kw]) = (x, w) else {
            bail!("conv2d: expected x (N,C,H,W) and w (O,C,U,V), found {x:?} and {w:?}");
        };
        if c_in != kernel_in {
            bail!("conv2d: x {x:?} has {c_in} channels but w {w:?} expects {kernel_in}");
        }
        if stride == 0 {
            bail!("conv2d: stride 0; expected at least 1");
        }
        if h + 2 * padding < kh || width + 2 * padding < kw {
            bail!("conv2d: w {w:?} is larger than x {x:?} padded by {padding}");
        }
        Ok(Self { batch, c_in, h, w: width, c_out, kh, kw, stride, padding })
    }

    pub(crate) fn out_h(&self) -> usize {
        (self.h + 2 * self.padding - self.kh) / self.stride + 1
    }

    pub(crate) fn out_w(&self) -> usize {
        (self.w + 2 * self.padding - self.kw) / self.stride + 1
    }

    /// Output pixels of one image.
    pub(crate) fn pixels(&self) -> usize {
        self.out_h() * self.out_w()
    }

    /// Length of one im2col column: C · U · V.
    pub(crate) fn taps(&self) -> usize {
        self.c_in * self.kh * self.kw
    }

    fn x_shape(&self) -> (usize, usize, usize, usize) {
        (self.batch, self.c_in, self.h, self.w)
    }

    fn w_shape(&self) -> (usize, usize, usize, usize) {
        (self.c_out, self.c_in, self.kh, self.kw)
    }

    fn y_shape(&self) -> (usize, usize, usize, usize) {
        (self.batch, self.c_out, self.out_h(), self.out_w())
    }
}

/// Convolves `x` (N, C, H, W) with `w` (O, C, U, V): one group, dilation 1, the same stride and zero padding on both axes.
///
/// # Errors
/// Where ranks, channels, dtypes or devices do not fit, a tensor is empty, or the kernel exceeds the padded image.
pub fn conv2d(x: &Tensor, w: &Tensor, stride: usize, padding: usize) -> Result<Tensor> {
    check_operands("conv2d", &[("x", x), ("w", w)])?;
    let geometry = Geometry::new(x.dims(), w.dims(), stride, padding)?;
    x.apply_op2(w, Forward(geometry))
}

/// (x, w) → y.
struct Forward(Geometry);
/// (dy, w) → dx.
struct InputGrad(Geometry);
/// (x, dy) → dw.
struct WeightGrad(Geometry);

impl CustomOp2 for Forward {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        dispatch(
            "conv2d",
            (x, lx),
            (w, lw),
            self.0.y_shape().into(),
            |x, w| cpu::forward(&self.0, x, w),
            |x, w| cpu::forward(&self.0, x, w),
        )
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        // The first layer's input is data: nobody asks for its gradient.
        let dx = if x.track_op() { Some(dy.apply_op2_no_bwd(w, &InputGrad(self.0))?) } else { None };
        let dw = if w.track_op() { Some(x.apply_op2_no_bwd(dy, &WeightGrad(self.0))?) } else { None };
        Ok((dx, dw))
    }
}

impl CustomOp2 for InputGrad {
    fn name(&self) -> &'static str {
        "conv2d_input_grad"
    }

    fn cpu_fwd(
        &self,
        dy: &CpuStorage,
        ly: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = self.0.x_shape().into();
        dispatch(
            self.name(),
            (dy, ly),
            (w, lw),
            shape,
            |dy, w| cpu::input_grad(&self.0, dy, w),
            |dy, w| cpu::input_grad(&self.0, dy, w),
        )
    }
}

impl CustomOp2 for WeightGrad {
    fn name(&self) -> &'static str {
        "conv2d_weight_grad"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        dy: &CpuStorage,
        ly: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = self.0.w_shape().into();
        dispatch(
            self.name(),
            (x, lx),
            (dy, ly),
            shape,
            |x, dy| cpu::weight_grad(&self.0, x, dy),
            |x, dy| cpu::weight_grad(&self.0, x, dy),
        )
    }
}

type Operand<'a> = (&'a CpuStorage, &'a Layout);

/// Calls the path of the operands' dtype on their row-major elements.
fn dispatch(
    op: &str,
    a: Operand<'_>,
    b: Operand<'_>,
    shape: Shape,
    single: impl FnOnce(&[f32], &[f32]) -> Vec<f32>,
    double: impl FnOnce(&[f64], &[f64]) -> Vec<f64>,
) -> Result<(CpuStorage, Shape)> {
    fn both<T: Real>(
        a: Operand<'_>,
        b: Operand<'_>,
        f: impl FnOnce(&[T], &[T]) -> Vec<T>,
    ) -> Result<CpuStorage> {
        Ok(T::to_cpu_storage_owned(f(&row_major(a.0, a.1)?, &row_major(b.0, b.1)?)))
    }
    let storage = match a.0 {
        CpuStorage::F32(_) => both(a, b, single)?,
        CpuStorage::F64(_) => both(a, b, double)?,
        _ => bail!("{op}: expected F32 or F64"),
    };
    Ok((storage, shape))
}

#[cfg(test)]
mod tests;
