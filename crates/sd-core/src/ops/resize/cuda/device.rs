//! Bilinear resize and its gradient on candle's CUDA tensors.

use candle_core::{CudaStorage, Result, Shape as Dims};

use super::super::{Resize, ResizeGrad, with_sides};
use super::Shape;
use crate::cuda::glue::{Operand, element_of, forward_one};

fn shape(op: &Resize) -> Shape {
    let Resize { planes, input, output, align_corners } = *op;
    Shape { planes, input, output, align_corners }
}

/// x → y.
pub(crate) fn forward(op: &Resize, operands: &[Operand<'_>]) -> Result<(CudaStorage, Dims)> {
    let program = super::forward(&shape(op), element_of("resize", operands)?)?;
    forward_one(&program, operands, &with_sides(operands[0].1, op.output)?)
}

/// dy → dx.
pub(crate) fn backward(op: &ResizeGrad, operands: &[Operand<'_>]) -> Result<(CudaStorage, Dims)> {
    let program = super::backward(&shape(&op.0), element_of("resize", operands)?)?;
    forward_one(&program, operands, &with_sides(operands[0].1, op.0.input)?)
}
