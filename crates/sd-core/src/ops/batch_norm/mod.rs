//! Batch normalisation of (N, C, …) tensors with both gradients (Ioffe and Szegedy 2015; PyTorch's `batch_norm`).
//!
//! `y = γ_c · (x − μ_c) / √(σ²_c + ε) + β_c`. In training μ and σ² are the mean and the biased variance of channel c over
//! the batch and the positions, and the gradient runs through them; in evaluation they are given constants.

mod cpu;
pub mod cuda;

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::{Operand, Real, check_operands, elements, with_elements, with_real};

/// Mean and biased variance of every channel, in `f64`, and the number of elements behind each.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// μ, one a channel.
    pub mean: Vec<f64>,
    /// σ² (divided by the count), one a channel.
    pub variance: Vec<f64>,
    /// Elements a channel: batch × positions.
    pub count: usize,
}

/// Normalises with the statistics of the batch itself, and returns them.
///
/// `x` (N, C, …), `gamma` and `beta` (C). The gradient with respect to `x` includes the part through the statistics.
///
/// # Errors
/// Where shapes, dtypes or devices do not fit, a tensor is empty, or a channel has a single element.
pub fn train(x: &Tensor, gamma: &Tensor, beta: &Tensor, eps: f64) -> Result<(Tensor, Statistics)> {
    let dims = Dims::new(x, gamma, beta)?;
    if dims.batch * dims.positions < 2 {
        bail!("batch_norm: x {:?} has one element a channel; training needs at least 2", x.dims());
    }
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::device::train([x, gamma, beta], dims, eps);
    }
    let statistics = statistics(x, &dims)?;
    let op = Normalise::new(&statistics, eps, dims, true);
    Ok((x.apply_op3(gamma, beta, op)?, statistics))
}

/// Normalises with given statistics (PyTorch's evaluation mode); they are constants to the gradient.
///
/// # Errors
/// As [`train`], and where `statistics` is not as long as the channels.
pub fn eval(x: &Tensor, gamma: &Tensor, beta: &Tensor, statistics: &Statistics, eps: f64) -> Result<Tensor> {
    let dims = Dims::new(x, gamma, beta)?;
    if statistics.mean.len() != dims.channels || statistics.variance.len() != dims.channels {
        bail!(
            "batch_norm: {} means for {} channels of x {:?}",
            statistics.mean.len(),
            dims.channels,
            x.dims()
        );
    }
    #[cfg(feature = "cuda")]
    if x.device().is_cuda() {
        return cuda::device::eval([x, gamma, beta], dims, statistics, eps);
    }
    x.apply_op3(gamma, beta, Normalise::new(statistics, eps, dims, false))
}

/// Sizes: the positions are all axes after the second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dims {
    pub(crate) batch: usize,
    pub(crate) channels: usize,
    pub(crate) positions: usize,
}

impl Dims {
    fn new(x: &Tensor, gamma: &Tensor, beta: &Tensor) -> Result<Self> {
        check_operands("batch_norm", &[("x", x), ("gamma", gamma), ("beta", beta)])?;
        let [batch, channels, positions @ ..] = x.dims() else {
            bail!("batch_norm: expected x (N,C,…), found {:?}", x.dims());
        };
        if gamma.dims() != [*channels] || beta.dims() != [*channels] {
            let (gamma, beta) = (gamma.dims(), beta.dims());
            bail!(
                "batch_norm: x {:?} needs gamma and beta ({channels}), found {gamma:?} and {beta:?}",
                x.dims()
            );
        }
        Ok(Self { batch: *batch, channels: *channels, positions: positions.iter().product() })
    }
}

fn statistics(x: &Tensor, dims: &Dims) -> Result<Statistics> {
    with_real!("batch_norm", x.dtype(), T => with_elements(x, |x: &[T]| cpu::statistics(x, dims)))
}

/// (x, γ, β) → y with the mean and 1/√(σ²+ε) held in the op.
#[derive(Clone)]
struct Normalise {
    mean: Vec<f64>,
    rstd: Vec<f64>,
    dims: Dims,
    /// The statistics are functions of x, so its gradient runs through them.
    through_statistics: bool,
}

impl Normalise {
    fn new(statistics: &Statistics, eps: f64, dims: Dims, through_statistics: bool) -> Self {
        let rstd = statistics.variance.iter().map(|variance| 1.0 / (variance + eps).sqrt()).collect();
        Self { mean: statistics.mean.clone(), rstd, dims, through_statistics }
    }

    fn forward<T: Real>(&self, x: Operand<'_>, gamma: Operand<'_>, beta: Operand<'_>) -> Result<CpuStorage> {
        let [x, gamma, beta] = [elements::<T>(x)?, elements(gamma)?, elements(beta)?];
        let lines = cpu::forward_lines(&self.mean, &self.rstd, &gamma, &beta);
        Ok(T::to_cpu_storage_owned(cpu::affine(&x, None, &lines, &self.dims)))
    }

    fn backward<T: Real>(&self, x: &Tensor, gamma: &Tensor, dy: &Tensor) -> Result<[Tensor; 3]> {
        let (dx, sums) = with_elements(x, |x: &[T]| {
            with_elements(dy, |dy: &[T]| {
                with_elements(gamma, |gamma: &[T]| {
                    let sums = cpu::gradient_sums(x, dy, self);
                    let lines = cpu::backward_lines(self, gamma, &sums);
                    let through = self.through_statistics.then_some(x);
                    (cpu::affine(dy, through, &lines, &self.dims), sums)
                })
            })
        })???;
        let channel = |which: usize| {
            let values: Vec<T> = sums.iter().map(|sum| T::from_f64(sum[which])).collect();
            Tensor::from_vec(values, self.dims.channels, x.device())
        };
        Ok([Tensor::from_vec(dx, x.dims(), x.device())?, channel(0)?, channel(1)?])
    }
}

impl CustomOp3 for Normalise {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        gamma: &CpuStorage,
        lg: &Layout,
        beta: &CpuStorage,
        lb: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let dtype = candle_core::backend::BackendStorage::dtype(x);
        let y = with_real!("batch_norm", dtype, T => self.forward::<T>((x, lx), (gamma, lg), (beta, lb))?);
        Ok((y, lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        gamma: &Tensor,
        beta: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [dx, dgamma, dbeta] = with_real!("batch_norm", x.dtype(), T => self.backward::<T>(x, gamma, dy)?);
        let wanted = |of: &Tensor, gradient| of.track_op().then_some(gradient);
        Ok((wanted(x, dx), wanted(gamma, dgamma), wanted(beta, dbeta)))
    }
}

#[cfg(test)]
mod tests;
