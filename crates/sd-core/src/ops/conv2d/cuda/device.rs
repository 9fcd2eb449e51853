//! Convolution and its gradients on candle's CUDA tensors.

use candle_core::{CudaStorage, Result, Shape};

use super::super::{BiasGrad, Forward, InputGrad, WeightGrad};
use crate::cuda::glue::{Operand, element_of, forward_one};

/// (x, w) or (x, w, bias) → y.
pub(crate) fn forward(op: &Forward, operands: &[Operand<'_>]) -> Result<(CudaStorage, Shape)> {
    let program = super::forward(&op.0, operands.len() == 3, element_of("conv2d", operands)?)?;
    forward_one(&program, operands, &op.0.y_shape().into())
}

/// (dy, w) → dx.
pub(crate) fn input_grad(op: &InputGrad, operands: &[Operand<'_>]) -> Result<(CudaStorage, Shape)> {
    let program = super::input_grad(&op.0, element_of("conv2d", operands)?)?;
    forward_one(&program, operands, &op.0.x_shape().into())
}

/// (x, dy) → dw.
pub(crate) fn weight_grad(op: &WeightGrad, operands: &[Operand<'_>]) -> Result<(CudaStorage, Shape)> {
    let program = super::weight_grad(&op.0, element_of("conv2d", operands)?)?;
    forward_one(&program, operands, &op.0.w_shape().into())
}

/// dy → dbias.
pub(crate) fn bias_grad(op: &BiasGrad, operands: &[Operand<'_>]) -> Result<(CudaStorage, Shape)> {
    let program = super::bias_grad(&op.0, element_of("conv2d", operands)?)?;
    forward_one(&program, operands, &op.0.c_out.into())
}
