//! Scaled dot-product attention with its gradient (Vaswani et al. 2017, equation 1; PyTorch's `scaled_dot_product_attention`).
//!
//! `y[i] = Σ_j p[i,j] · v[j]` with `p[i,:] = softmax(scale · q[i]·k[:])`; with `causal`, query i sees keys j ≤ i alone.
//! Shapes: q (B, H, Tq, D), k and v (B, H, Tk, D), y as q.
//!
//! [`attention`] never holds the map p, whose Tq·Tk numbers a head are what fills memory at high resolution. Where somebody must see or
//! change the map, [`attention_with_map`] hands it out.

mod cpu;
pub mod cuda;
#[cfg(target_arch = "x86_64")]
mod tiled;

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp3, DType, Layout, Result, Shape, Tensor, bail};

use super::{check_operands, row_major, softmax::softmax, with_elements};

/// Sizes of one attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dims {
    /// B · H.
    pub heads: usize,
    /// Tq.
    pub queries: usize,
    /// Tk.
    pub keys: usize,
    /// D.
    pub head: usize,
    /// What the products are multiplied by, usually 1/√D.
    pub scale: f64,
    /// Whether query i sees keys j ≤ i alone.
    pub causal: bool,
}

impl Dims {
    fn new(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, causal: bool) -> Result<Self> {
        check_operands("attention", &[("q", q), ("k", k), ("v", v)])?;
        let (&[b, h, queries, d], &[kb, kh, keys, kd]) = (q.dims(), k.dims()) else {
            bail!(
                "attention: expected q (B,H,Tq,D) and k (B,H,Tk,D), found {:?} and {:?}",
                q.dims(),
                k.dims()
            );
        };
        if (b, h, d) != (kb, kh, kd) || k.dims() != v.dims() {
            let (q, k, v) = (q.dims(), k.dims(), v.dims());
            bail!("attention: q {q:?} needs k and v ({b},{h},Tk,{d}), found {k:?} and {v:?}");
        }
        if !scale.is_finite() {
            bail!(
                "attention: scale {scale}; expected a finite number, usually 1/√D = {}",
                (d as f64).powf(-0.5)
            );
        }
        Ok(Self { heads: b * h, queries, keys, head: d, scale, causal })
    }

    /// Queries whose gradients are summed together in a backward pass: whole blocks of `block`, one part where there are heads enough
    /// to share the work, else several, whose sums for the keys are added in order.
    fn part(&self, block: usize) -> usize {
        let parts = 4usize.div_ceil(self.heads);
        self.queries.div_ceil(block).div_ceil(parts) * block
    }

    /// What q is multiplied by so that powers of two of the products are the powers of e that softmax asks for.
    #[cfg(target_arch = "x86_64")]
    fn factor(&self) -> f32 {
        (self.scale * std::f64::consts::LOG2_E) as f32
    }
}

/// y of the module's formula, without ever holding the map.
///
/// # Errors
/// Where ranks, sizes, dtypes or devices do not fit, a tensor is empty, or `scale` is not finite.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, scale: f64, causal: bool) -> Result<Tensor> {
    let dims = Dims::new(q, k, v, scale, causal)?;
    q.apply_op3(
        k,
        v,
        Attention {
            dims,
            lse: OnceLock::new(),
            #[cfg(feature = "cuda")]
            kept: crate::cuda::glue::Kept::default(),
        },
    )
}

/// The map p (B, H, Tq, Tk).
///
/// # Errors
/// As [`attention`].
pub fn attention_map(q: &Tensor, k: &Tensor, scale: f64, causal: bool) -> Result<Tensor> {
    let dims = Dims::new(q, k, k, scale, causal)?;
    #[cfg(feature = "cuda")]
    if q.device().is_cuda() {
        return q.apply_op2(k, cuda::device::Map(dims));
    }
    let logits = (q * scale)?.contiguous()?.matmul(&k.t()?.contiguous()?)?;
    if !causal {
        return softmax(&logits);
    }
    softmax(&logits.broadcast_add(&hidden(&dims, logits.dtype())?.to_device(logits.device())?)?)
}

/// [`attention`] through its map: `tap` gets p (B, H, Tq, Tk) and gives what takes its place.
///
/// # Errors
/// As [`attention`], where `tap` fails, and where it gives a tensor of another shape.
pub fn attention_with_map(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    scale: f64,
    causal: bool,
    tap: &mut dyn FnMut(Tensor) -> Result<Tensor>,
) -> Result<Tensor> {
    Dims::new(q, k, v, scale, causal)?;
    let map = attention_map(q, k, scale, causal)?;
    let shape = map.dims().to_vec();
    let map = tap(map)?;
    if map.dims() != shape {
        bail!("attention: the tap was handed a map {shape:?} and gave {:?} back", map.dims());
    }
    map.contiguous()?.matmul(&v.contiguous()?)
}

/// (Tq, Tk): 0 where a query sees a key, −∞ elsewhere.
fn hidden(dims: &Dims, dtype: DType) -> Result<Tensor> {
    let value = |query: usize, key: usize| if key <= query { 0.0f32 } else { f32::NEG_INFINITY };
    let values =
        (0..dims.queries).flat_map(|query| (0..dims.keys).map(move |key| value(query, key))).collect();
    Tensor::from_vec(values, (dims.queries, dims.keys), &candle_core::Device::Cpu)?.to_dtype(dtype)
}

/// (q, k, v) → y. Keeps log₂ Σ e^logit of every query for the backward.
struct Attention {
    dims: Dims,
    lse: OnceLock<CpuStorage>,
    /// log Σ e^logit on a CUDA device.
    #[cfg(feature = "cuda")]
    kept: crate::cuda::glue::Kept,
}

impl CustomOp3 for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    crate::cuda::cuda_fwd!(3, cuda::device::forward);

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        lq: &Layout,
        k: &CpuStorage,
        lk: &Layout,
        v: &CpuStorage,
        lv: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (y, lse) = match q {
            CpuStorage::F32(_) => {
                let (q, k, v) = (row_major(q, lq)?, row_major(k, lk)?, row_major(v, lv)?);
                let (y, lse) = cpu::forward_f32(&self.dims, &q, &k, &v);
                (CpuStorage::F32(y), CpuStorage::F32(lse))
            }
            CpuStorage::F64(_) => {
                let (q, k, v) = (row_major(q, lq)?, row_major(k, lk)?, row_major(v, lv)?);
                let (y, lse) = cpu::forward(&self.dims, &q, &k, &v);
                (CpuStorage::F64(y), CpuStorage::F64(lse))
            }
            _ => bail!("attention: expected F32 or F64"),
        };
        // A second forward through the same op gives the same numbers.
        let _ = self.lse.set(lse);
        Ok((y, lq.shape().clone()))
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        v: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        #[cfg(feature = "cuda")]
        if q.device().is_cuda() {
            let [dq, dk, dv] = cuda::device::backward(self, [q, k, v, y, dy])?;
            return Ok((q.track_op().then_some(dq), k.track_op().then_some(dk), v.track_op().then_some(dv)));
        }
        let gradients = match self.lse.get() {
            Some(CpuStorage::F32(lse)) => self.gradients(lse, [q, k, v, y, dy], cpu::backward_f32)?,
            Some(CpuStorage::F64(lse)) => self.gradients(lse, [q, k, v, y, dy], cpu::backward)?,
            _ => bail!("attention: the backward was asked for before the forward"),
        };
        let [dq, dk, dv] = gradients;
        Ok((q.track_op().then_some(dq), k.track_op().then_some(dk), v.track_op().then_some(dv)))
    }
}

impl Attention {
    fn gradients<T: super::Real>(
        &self,
        lse: &[T],
        [q, k, v, y, dy]: [&Tensor; 5],
        backward: impl Fn(&Dims, &cpu::Saved<'_, T>) -> [Vec<T>; 3],
    ) -> Result<[Tensor; 3]> {
        let gradients = with_elements(q, |q: &[T]| {
            with_elements(k, |k: &[T]| {
                with_elements(v, |v: &[T]| {
                    with_elements(y, |y: &[T]| {
                        with_elements(dy, |dy: &[T]| {
                            backward(&self.dims, &cpu::Saved { q, k, v, y, dy, lse })
                        })
                    })
                })
            })
        })????;
        let [dq, dk, dv] = gradients?;
        Ok([
            Tensor::from_vec(dq, q.shape(), q.device())?,
            Tensor::from_vec(dk, k.shape(), k.device())?,
            Tensor::from_vec(dv, v.shape(), v.device())?,
        ])
    }
}

#[cfg(test)]
mod tests;
