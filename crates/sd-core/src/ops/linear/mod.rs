//! A linear layer with bias and activation, and all gradients: `y = f(x·wᵀ + b)`.
//!
//! Shapes: x (…, I), w (O, I), b (O), y (…, O); f is an [`Activation`].

mod cpu;
pub mod cuda;

use std::sync::{Arc, OnceLock};

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};

use super::activation::Activation;
use super::{Operand, Real, check_operands, elements, split_flat, with_elements, with_real};

/// `f(x·wᵀ + bias)` of `x` (…, I), `w` (O, I) and `bias` (O).
///
/// # Errors
/// Where shapes, dtypes or devices do not fit or a tensor is empty.
pub fn linear(x: &Tensor, w: &Tensor, bias: Option<&Tensor>, activation: Activation) -> Result<Tensor> {
    let mut operands = vec![("x", x), ("w", w)];
    operands.extend(bias.map(|bias| ("bias", bias)));
    check_operands("linear", &operands)?;
    let (Some(&last), &[outputs, inputs]) = (x.dims().last(), w.dims()) else {
        bail!("linear: expected x (…,I) and w (O,I), found {:?} and {:?}", x.dims(), w.dims());
    };
    if last != inputs {
        bail!("linear: x {:?} has {last} features but w {:?} expects {inputs}", x.dims(), w.dims());
    }
    if let Some(bias) = bias.filter(|bias| bias.dims() != [outputs]) {
        bail!("linear: w {:?} needs bias ({outputs}), found {:?}", w.dims(), bias.dims());
    }
    let tracked = operands.iter().any(|(_, tensor)| tensor.track_op());
    let keep = tracked && activation != Activation::None;
    let sizes = Sizes { rows: x.elem_count() / inputs, inputs, outputs };
    let op = Linear { sizes, activation, keep, saved: Arc::default() };
    match bias {
        Some(bias) => x.apply_op3(w, bias, op),
        None => x.apply_op2(w, op),
    }
}

/// Sizes of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    /// Rows of x: all axes but the last.
    pub(crate) rows: usize,
    /// I.
    pub(crate) inputs: usize,
    /// O.
    pub(crate) outputs: usize,
}

/// (x, w) or (x, w, bias) → y.
#[derive(Clone)]
pub(crate) struct Linear {
    pub(crate) sizes: Sizes,
    pub(crate) activation: Activation,
    /// Whether z = x·wᵀ + b is kept for the gradient of the activation.
    pub(crate) keep: bool,
    /// z, once the forward ran.
    pub(crate) saved: Arc<OnceLock<Tensor>>,
}

/// (x, w, dy) → those of dx, dw and dbias that are wanted, one after the other in one flat tensor.
pub(crate) struct LinearGrad {
    pub(crate) forward: Linear,
    pub(crate) wanted: Wanted,
}

/// Which gradients are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) x: bool,
    pub(crate) w: bool,
    pub(crate) bias: bool,
}

impl Linear {
    fn shape(&self, x: &Layout) -> Shape {
        let mut dims = x.dims().to_vec();
        if let Some(last) = dims.last_mut() {
            *last = self.sizes.outputs;
        }
        dims.into()
    }

    fn forward<T: Real>(
        &self,
        x: Operand<'_>,
        w: Operand<'_>,
        bias: Option<Operand<'_>>,
    ) -> Result<CpuStorage> {
        let [x, w] = [elements::<T>(x)?, elements(w)?];
        let bias = bias.map(elements::<T>).transpose()?;
        let after = cpu::After { bias: bias.as_deref(), activation: self.activation, keep: self.keep };
        let (y, z) = cpu::forward(&x, &w, &after, &self.sizes);
        if let Some(z) = z {
            let z = Tensor::from_vec(z, (self.sizes.rows, self.sizes.outputs), &Device::Cpu)?;
            self.saved.get_or_init(|| z);
        }
        Ok(T::to_cpu_storage_owned(y))
    }

    fn gradients(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: Option<&Tensor>,
        dy: &Tensor,
    ) -> Result<[Option<Tensor>; 3]> {
        let tracked = |tensor: Option<&Tensor>| tensor.is_some_and(Tensor::track_op);
        let wanted = Wanted { x: x.track_op(), w: w.track_op(), bias: tracked(bias) };
        #[cfg(feature = "cuda")]
        if x.device().is_cuda() {
            return cuda::device::backward(self, [x, w, dy], bias, wanted);
        }
        let op = LinearGrad { forward: self.clone(), wanted };
        let flat = x.apply_op3_no_bwd(w, dy, &op)?;
        let nothing: &[usize] = &[0];
        let shape =
            |wanted: bool, tensor: &'_ Tensor| if wanted { tensor.dims().to_vec() } else { nothing.to_vec() };
        let shapes =
            [shape(wanted.x, x), shape(wanted.w, w), bias.map_or(vec![0], |bias| shape(wanted.bias, bias))];
        let [dx, dw, dbias] = split_flat(&flat, [&shapes[0], &shapes[1], &shapes[2]])?;
        Ok([wanted.x.then_some(dx), wanted.w.then_some(dw), wanted.bias.then_some(dbias)])
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    crate::cuda::cuda_fwd!(2, cuda::device::forward);

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = with_real!("linear", x.dtype(), T => self.forward::<T>((x, lx), (w, lw), None)?);
        Ok((y, self.shape(lx)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, _] = self.gradients(x, w, None, dy)?;
        Ok((dx, dw))
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    crate::cuda::cuda_fwd!(3, cuda::device::forward);

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        bias: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let bias = Some((bias, lb));
        let y = with_real!("linear", x.dtype(), T => self.forward::<T>((x, lx), (w, lw), bias)?);
        Ok((y, self.shape(lx)))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dw, dbias] = self.gradients(x, w, Some(bias), dy)?;
        Ok((dx, dw, dbias))
    }
}

impl LinearGrad {
    fn backward<T: Real>(&self, x: Operand<'_>, w: Operand<'_>, dy: Operand<'_>) -> Result<CpuStorage> {
        let [x, w, dy] = [elements::<T>(x)?, elements(w)?, elements(dy)?];
        let activation = self.forward.activation;
        let flat = match (activation, self.forward.saved.get()) {
            (Activation::None, _) => cpu::backward(&x, &w, &dy, &self.forward.sizes, self.wanted),
            (_, Some(z)) => with_elements(z, |z: &[T]| {
                let dz = cpu::through(&dy, z, activation);
                cpu::backward(&x, &w, &dz, &self.forward.sizes, self.wanted)
            })?,
            (_, None) => bail!("linear: backward before forward"),
        };
        Ok(T::to_cpu_storage_owned(flat))
    }
}

impl CustomOp3 for LinearGrad {
    fn name(&self) -> &'static str {
        "linear_grad"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        w: &CpuStorage,
        lw: &Layout,
        dy: &CpuStorage,
        ly: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let flat = with_real!("linear", x.dtype(), T => self.backward::<T>((x, lx), (w, lw), (dy, ly))?);
        Ok((flat, self.wanted.parts(&self.forward.sizes).iter().sum::<usize>().into()))
    }
}

impl Wanted {
    /// Elements of dx, dw and dbias in the flat result: 0 where one is not wanted.
    fn parts(self, sizes: &Sizes) -> [usize; 3] {
        let &Sizes { rows, inputs, outputs } = sizes;
        let of = |wanted: bool, count: usize| if wanted { count } else { 0 };
        [of(self.x, rows * inputs), of(self.w, outputs * inputs), of(self.bias, outputs)]
    }
}

#[cfg(test)]
mod tests;
