//! Group norm and its gradients on candle's CUDA tensors.

use candle_core::{CudaStorage, Result, Shape as Dims, Tensor, bail};

use super::super::GroupNorm;
use super::{Cuts, Shape};
use crate::cuda::glue::{Operand, affine_gradients, element, element_of, forward_many, on_storages, tensor};

fn shape(op: &GroupNorm) -> Shape {
    let super::super::Dims { batch, channels, positions, groups } = op.dims;
    Shape { batch, channels, positions, groups, silu: op.silu }
}

/// (x, γ, β) → y; keeps mean and 1/√(σ² + ε) of each group of each image.
pub(crate) fn forward(op: &GroupNorm, operands: &[Operand<'_>]) -> Result<(CudaStorage, Dims)> {
    let element = element_of("group_norm", operands)?;
    let program = super::forward(&shape(op), op.eps, &Cuts::default(), element)?;
    let [y, mean, rstd] = forward_many(&program, operands)?;
    let groups = op.dims.batch * op.dims.groups;
    op.kept.set(vec![tensor(mean, groups), tensor(rstd, groups)]);
    Ok((y, operands[0].1.shape().clone()))
}

/// (x, γ, β, dy) → dx, dγ, dβ.
pub(crate) fn backward(op: &GroupNorm, [x, gamma, beta]: [&Tensor; 3], dy: &Tensor) -> Result<[Tensor; 3]> {
    let [mean, rstd] = op.kept.get("group_norm")?;
    let program = super::backward(&shape(op), &Cuts::default(), element("group_norm", x.dtype())?)?;
    let mut outputs = on_storages(&program, &[x, gamma, beta, mean, rstd, dy])?.into_iter();
    let (Some(dx), Some(affine)) = (outputs.next(), outputs.next()) else { bail!("group_norm: two outputs") };
    let [dgamma, dbeta] = affine_gradients(affine, gamma)?;
    Ok([tensor(dx, x.dims()), dgamma, dbeta])
}
