//! Softmax and its gradient on candle's CUDA tensors.

use candle_core::{CudaStorage, Result, Shape};

use super::super::{Softmax, SoftmaxGrad};
use crate::cuda::glue::{Operand, element_of, forward_one};

/// x → y.
pub(crate) fn forward(op: &Softmax, operands: &[Operand<'_>]) -> Result<(CudaStorage, Shape)> {
    let shape = operands[0].1.shape();
    let program = super::forward(shape.elem_count() / op.size, op.size, element_of("softmax", operands)?)?;
    forward_one(&program, operands, shape)
}

/// (y, dy) → dx.
pub(crate) fn backward(op: &SoftmaxGrad, operands: &[Operand<'_>]) -> Result<(CudaStorage, Shape)> {
    let shape = operands[0].1.shape();
    let program = super::backward(shape.elem_count() / op.size, op.size, element_of("softmax", operands)?)?;
    forward_one(&program, operands, shape)
}
