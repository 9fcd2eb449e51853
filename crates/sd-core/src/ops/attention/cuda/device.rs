//! Attention and its gradients on candle's CUDA tensors.

use candle_core::{CpuStorage, CudaStorage, CustomOp2, Layout, Result, Shape as Size, Tensor, bail};

use super::super::{Attention, Dims};
use super::Shape;
use crate::cuda::glue::{Operand, element, element_of, forward_many, forward_one, on_tensors, tensor};

impl Shape {
    fn new(dims: &Dims) -> Self {
        let Dims { heads, queries, keys, head, scale, causal } = *dims;
        Self { heads, queries, keys, size: head, scale: scale as f32, causal }
    }
}

/// (q, k, v) → y; keeps log Σ e^logit of every query.
pub(crate) fn forward(op: &Attention, operands: &[Operand<'_>]) -> Result<(CudaStorage, Size)> {
    let program = super::forward(&Shape::new(&op.dims), element_of("attention", operands)?)?;
    let [y, lse] = forward_many(&program, operands)?;
    op.kept.set(vec![tensor(lse, op.dims.heads * op.dims.queries)]);
    Ok((y, operands[0].1.shape().clone()))
}

/// (q, k, v, y, dy) → dq, dk, dv.
pub(crate) fn backward(op: &Attention, [q, k, v, y, dy]: [&Tensor; 5]) -> Result<[Tensor; 3]> {
    let [lse] = op.kept.get("attention")?;
    let program = super::backward(&Shape::new(&op.dims), element("attention", q.dtype())?)?;
    three(on_tensors(&program, &[q, k, v, y, dy, lse], &[q, k, v])?)
}

fn three(gradients: Vec<Tensor>) -> Result<[Tensor; 3]> {
    match gradients.try_into() {
        Ok(three) => Ok(three),
        Err(_) => bail!("attention: three gradients"),
    }
}

/// (q, k) → the map.
pub(crate) struct Map(pub(crate) Dims);

impl CustomOp2 for Map {
    fn name(&self) -> &'static str {
        "attention_map"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Size)> {
        bail!("attention_map: this op is for CUDA devices")
    }

    fn cuda_fwd(
        &self,
        q: &CudaStorage,
        lq: &Layout,
        k: &CudaStorage,
        lk: &Layout,
    ) -> Result<(CudaStorage, Size)> {
        let operands = [(q, lq), (k, lk)];
        let program = super::map(&Shape::new(&self.0), element_of("attention_map", &operands)?)?;
        let (b, h, queries, _) = lq.shape().dims4()?;
        forward_one(&program, &operands, &(b, h, queries, self.0.keys).into())
    }

    fn bwd(
        &self,
        q: &Tensor,
        k: &Tensor,
        map: &Tensor,
        dmap: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let program = super::map_backward(&Shape::new(&self.0), element("attention_map", q.dtype())?)?;
        let mut gradients = on_tensors(&program, &[q, k, map, dmap], &[q, k])?.into_iter();
        Ok((gradients.next(), gradients.next()))
    }
}
