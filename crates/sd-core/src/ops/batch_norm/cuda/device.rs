//! Batch norm, in training and evaluation, and its gradients on candle's CUDA tensors.

use candle_core::{CpuStorage, CudaStorage, CustomOp3, DType, Layout, Result, Shape as Size, Tensor, bail};

use super::super::{Dims, Statistics};
use super::{Cuts, Shape};
use crate::cuda::glue::{
    Kept, Operand, affine_gradients, element, element_of, forward_many, on_storages, tensor, with_tensors,
};

/// (x, γ, β) → y. In training the statistics are those of x, in evaluation they are given.
struct Normalise {
    shape: Shape,
    /// In training; evaluation is given 1/√(σ² + ε).
    eps: Option<f64>,
    /// Mean, 1/√(σ² + ε) and, in training, σ².
    kept: Kept,
}

/// As [`super::super::train`].
pub(crate) fn train([x, gamma, beta]: [&Tensor; 3], dims: Dims, eps: f64) -> Result<(Tensor, Statistics)> {
    let kept = Kept::default();
    let y = x.apply_op3(gamma, beta, Normalise { shape: shape(dims), eps: Some(eps), kept: kept.clone() })?;
    let [mean, _, variance] = kept.get("batch_norm")?;
    let wide = |values: &Tensor| values.to_dtype(DType::F64)?.to_vec1();
    let count = dims.batch * dims.positions;
    Ok((y, Statistics { mean: wide(mean)?, variance: wide(variance)?, count }))
}

/// As [`super::super::eval`].
pub(crate) fn eval(
    [x, gamma, beta]: [&Tensor; 3],
    dims: Dims,
    statistics: &Statistics,
    eps: f64,
) -> Result<Tensor> {
    let upload = |values: Vec<f32>| Tensor::from_vec(values, dims.channels, x.device());
    let mean = upload(statistics.mean.iter().map(|mean| *mean as f32).collect())?;
    let rstd =
        upload(statistics.variance.iter().map(|variance| (variance + eps).sqrt().recip() as f32).collect())?;
    let kept = Kept::default();
    kept.set(vec![mean.clone(), rstd, mean]);
    x.apply_op3(gamma, beta, Normalise { shape: shape(dims), eps: None, kept })
}

fn shape(Dims { batch, channels, positions }: Dims) -> Shape {
    Shape { batch, channels, positions }
}

impl Normalise {
    fn trained(&self, operands: &[Operand<'_>], eps: f64) -> Result<CudaStorage> {
        let element = element_of("batch_norm", operands)?;
        let program = super::train(&self.shape, eps, &Cuts::default(), element)?;
        let [y, mean, variance, rstd] = forward_many(&program, operands)?;
        self.kept.set([mean, rstd, variance].map(|values| tensor(values, self.shape.channels)).into());
        Ok(y)
    }

    fn evaluated(&self, operands: &[Operand<'_>]) -> Result<CudaStorage> {
        let program = super::eval(&self.shape, element_of("batch_norm", operands)?)?;
        let [mean, rstd, _] = self.kept.get("batch_norm")?;
        with_tensors(&program, operands, &[mean, rstd])
    }
}

impl CustomOp3 for Normalise {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Size)> {
        bail!("batch_norm: this op is for CUDA devices")
    }

    fn cuda_fwd(
        &self,
        x: &CudaStorage,
        lx: &Layout,
        gamma: &CudaStorage,
        lg: &Layout,
        beta: &CudaStorage,
        lb: &Layout,
    ) -> Result<(CudaStorage, Size)> {
        let operands = [(x, lx), (gamma, lg), (beta, lb)];
        let y = self.eps.map_or_else(|| self.evaluated(&operands), |eps| self.trained(&operands, eps))?;
        Ok((y, lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        _beta: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [mean, rstd, _] = self.kept.get("batch_norm")?;
        let element = element("batch_norm", x.dtype())?;
        let program = super::backward(&self.shape, self.eps.is_some(), &Cuts::default(), element)?;
        let mut outputs = on_storages(&program, &[x, gamma, mean, rstd, dy])?.into_iter();
        let (Some(dx), Some(affine)) = (outputs.next(), outputs.next()) else {
            bail!("batch_norm: two outputs")
        };
        let [dgamma, dbeta] = affine_gradients(affine, gamma)?;
        Ok((Some(tensor(dx, x.dims())), Some(dgamma), Some(dbeta)))
    }
}
