//! The few operations on tensors that a step is made of, in PyTorch's order.

use candle_core::{DType, Result, Tensor};

use super::scalar::Scalar;

/// `c·x`.
pub(super) fn mul(x: &Tensor, c: Scalar) -> Result<Tensor> {
    x.affine(c.value(), 0.0)
}

/// `x/c`, divided: a product with the reciprocal would round twice.
pub(super) fn div(x: &Tensor, c: Scalar) -> Result<Tensor> {
    x.broadcast_div(&Tensor::new(c.value(), x.device())?.to_dtype(x.dtype())?)
}

/// `x + y`.
pub(super) fn add(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    x + y
}

/// `x − y`.
pub(super) fn sub(x: &Tensor, y: &Tensor) -> Result<Tensor> {
    x - y
}

/// `x` within ±`bound`, where there is one.
pub(super) fn clip(x: Tensor, bound: Option<f64>) -> Result<Tensor> {
    match bound {
        Some(bound) => x.clamp(-bound, bound),
        None => Ok(x),
    }
}

/// Row b of `x` times `c[b]`.
pub(super) fn scale_rows(x: &Tensor, c: &[Scalar]) -> Result<Tensor> {
    let mut shape = vec![1; x.rank()];
    shape[0] = c.len();
    let values: Vec<f64> = c.iter().map(|c| c.value()).collect();
    x.broadcast_mul(&Tensor::from_vec(values, shape, x.device())?.to_dtype(x.dtype())?)
}

/// What a step is computed in for latents of `dtype`: float32 for the 16-bit ones.
pub(super) fn compute_dtype(dtype: DType) -> DType {
    if dtype == DType::F64 { DType::F64 } else { DType::F32 }
}
