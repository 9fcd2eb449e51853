//! Layer norm and its gradients on candle's CUDA tensors.

use candle_core::{CudaStorage, Result, Shape, Tensor, bail};

use super::super::LayerNorm;
use crate::cuda::glue::{Operand, affine_gradients, element, element_of, forward_many, on_storages, tensor};

/// (x, γ, β) → y; keeps mean and 1/√(σ² + ε) of each row.
pub(crate) fn forward(op: &LayerNorm, operands: &[Operand<'_>]) -> Result<(CudaStorage, Shape)> {
    let shape = operands[0].1.shape();
    let rows = shape.elem_count() / op.size;
    let program = super::forward(rows, op.size, op.eps, element_of("layer_norm", operands)?)?;
    let [y, mean, rstd] = forward_many(&program, operands)?;
    op.kept.set(vec![tensor(mean, rows), tensor(rstd, rows)]);
    Ok((y, shape.clone()))
}

/// (x, γ, dy) → dx, dγ, dβ.
pub(crate) fn backward(op: &LayerNorm, x: &Tensor, gamma: &Tensor, dy: &Tensor) -> Result<[Tensor; 3]> {
    let [mean, rstd] = op.kept.get("layer_norm")?;
    let program = super::backward(x.elem_count() / op.size, op.size, element("layer_norm", x.dtype())?)?;
    let mut outputs = on_storages(&program, &[x, gamma, mean, rstd, dy])?.into_iter();
    let (Some(dx), Some(affine)) = (outputs.next(), outputs.next()) else { bail!("layer_norm: two outputs") };
    let [dgamma, dbeta] = affine_gradients(affine, gamma)?;
    Ok([tensor(dx, x.dims()), dgamma, dbeta])
}
