//! Activations and their gradients on candle's CUDA tensors.

use candle_core::{CudaStorage, Result, Shape, bail};

use super::super::{Activation, Geglu, GegluGrad, Pointwise, PointwiseGrad};
use super::Map;
use crate::cuda::glue::{Operand, element_of, forward_one};

fn map(activation: Activation) -> Result<Map> {
    Ok(match activation {
        Activation::Silu => Map::Silu,
        Activation::Gelu => Map::Gelu,
        Activation::GeluTanh => Map::GeluTanh,
        Activation::QuickGelu => Map::QuickGelu,
        Activation::None => bail!("identity: nothing is to be computed"),
    })
}

/// x → y.
pub(crate) fn forward(op: &Pointwise, operands: &[Operand<'_>]) -> Result<(CudaStorage, Shape)> {
    let shape = operands[0].1.shape();
    let program = super::forward(map(op.0)?, shape.elem_count(), element_of(op.0.name(), operands)?)?;
    forward_one(&program, operands, shape)
}

/// (x, dy) → dx.
pub(crate) fn backward(op: &PointwiseGrad, operands: &[Operand<'_>]) -> Result<(CudaStorage, Shape)> {
    let shape = operands[0].1.shape();
    let program = super::backward(map(op.0)?, shape.elem_count(), element_of(op.0.name(), operands)?)?;
    forward_one(&program, operands, shape)
}

/// x (…, 2D) → y (…, D).
pub(crate) fn geglu(op: &Geglu, operands: &[Operand<'_>]) -> Result<(CudaStorage, Shape)> {
    let shape = operands[0].1.shape();
    let program = super::geglu(shape.elem_count() / (2 * op.size), op.size, element_of("geglu", operands)?)?;
    let mut halved = shape.dims().to_vec();
    if let Some(last) = halved.last_mut() {
        *last = op.size;
    }
    forward_one(&program, operands, &halved.into())
}

/// (x, dy) → dx.
pub(crate) fn geglu_backward(op: &GegluGrad, operands: &[Operand<'_>]) -> Result<(CudaStorage, Shape)> {
    let shape = operands[0].1.shape();
    let rows = shape.elem_count() / (2 * op.size);
    let program = super::geglu_backward(rows, op.size, element_of("geglu", operands)?)?;
    forward_one(&program, operands, shape)
}
