//! The guided sampler step on candle's CUDA tensors.

use candle_core::{CudaStorage, Result, Shape};

use super::super::GuidedStep;
use super::Numbers;
use crate::cuda::glue::{Operand, element_of, with_tensors};

/// (x, ε_u, ε_c) → x'.
pub(crate) fn forward(op: &GuidedStep, operands: &[Operand<'_>]) -> Result<(CudaStorage, Shape)> {
    let [keep, turn, noise] = op.step.numbers();
    let numbers = Numbers { guidance: op.step.guidance, keep, turn, noise };
    let shape = operands[0].1.shape();
    let element = element_of("guided_ddim_step", operands)?;
    let program = super::step(&numbers, op.noise.is_some(), shape.elem_count(), element)?;
    let noise: Vec<_> = op.noise.iter().collect();
    Ok((with_tensors(&program, operands, &noise)?, shape.clone()))
}
