//! Nearest up-sampling and its gradient on candle's CUDA tensors.

use candle_core::{CudaStorage, Result, Shape};

use super::super::{Nearest2x, Nearest2xGrad};
use crate::cuda::glue::{Operand, element_of, forward_one};

/// x → y.
pub(crate) fn forward(_: &Nearest2x, operands: &[Operand<'_>]) -> Result<(CudaStorage, Shape)> {
    let (n, c, h, w) = operands[0].1.shape().dims4()?;
    let program = super::forward(n * c * h, w, element_of("upsample", operands)?)?;
    forward_one(&program, operands, &(n, c, 2 * h, 2 * w).into())
}

/// dy → dx.
pub(crate) fn backward(_: &Nearest2xGrad, operands: &[Operand<'_>]) -> Result<(CudaStorage, Shape)> {
    let (n, c, h, w) = operands[0].1.shape().dims4()?;
    let program = super::backward(n * c * h / 2, w / 2, element_of("upsample", operands)?)?;
    forward_one(&program, operands, &(n, c, h / 2, w / 2).into())
}
