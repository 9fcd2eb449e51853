//! A linear layer and its gradients on candle's CUDA tensors.

use candle_core::{CudaStorage, Result, Shape as Dims, Tensor};

use super::super::{Linear, Sizes, Wanted};
use super::Shape;
use crate::cuda::glue::{Operand, element, element_of, forward as run, on_tensors, tensor};
use crate::ops::activation::Activation;

fn shape(op: &Linear, bias: bool) -> Shape {
    let Sizes { rows, inputs, outputs } = op.sizes;
    Shape { rows, inputs, outputs, bias, activation: op.activation }
}

/// (x, w) or (x, w, bias) → y; keeps x·wᵀ + b where the gradient will want it.
pub(crate) fn forward(op: &Linear, operands: &[Operand<'_>]) -> Result<(CudaStorage, Dims)> {
    let program = super::forward(&shape(op, operands.len() == 3), op.keep, element_of("linear", operands)?);
    let mut outputs = run(&program, operands)?;
    if let Some(z) = if op.keep { outputs.pop() } else { None } {
        let z = tensor(z, (op.sizes.rows, op.sizes.outputs));
        op.saved.get_or_init(|| z);
    }
    match outputs.pop() {
        Some(y) => Ok((y, op.shape(operands[0].1))),
        None => candle_core::bail!("linear: one output or two"),
    }
}

/// (x, w, dy) → those of dx, dw and dbias that are wanted.
pub(crate) fn backward(
    op: &Linear,
    [x, w, dy]: [&Tensor; 3],
    bias: Option<&Tensor>,
    wanted: Wanted,
) -> Result<[Option<Tensor>; 3]> {
    if wanted == (Wanted { x: false, w: false, bias: false }) {
        return Ok([None, None, None]);
    }
    let program = super::backward(
        &shape(op, wanted.bias),
        super::Wanted { x: wanted.x, w: wanted.w },
        element("linear", x.dtype())?,
    );
    let z = match (op.activation, op.saved.get()) {
        (Activation::None, _) => None,
        (_, Some(z)) => Some(z),
        (_, None) => candle_core::bail!("linear: the backward was asked for before the forward"),
    };
    let operands: Vec<&Tensor> = [x, w, dy].into_iter().chain(z).collect();
    let all = [(wanted.x, Some(x)), (wanted.w, Some(w)), (wanted.bias, bias)];
    let like: Vec<&Tensor> = all.iter().filter_map(|(wanted, like)| like.filter(|_| *wanted)).collect();
    let mut gradients = on_tensors(&program, &operands, &like)?.into_iter();
    Ok(all.map(|(wanted, _)| if wanted { gradients.next() } else { None }))
}
