//! Convolution, normalisation and linear layers with PyTorch's names and initial values.

use candle_core::{DType, Result, Tensor, Var, bail};

use super::Scope;
use crate::ops::activation::Activation;
use crate::ops::batch_norm::{self, Statistics};
use crate::ops::conv2d::conv2d;
use crate::ops::group_norm::group_norm;
use crate::ops::layer_norm::layer_norm;
use crate::ops::linear::linear;

/// A convolution; `weight` (O, C, K, K) and `bias` (O), where there is one, start from U(±1/√(C·K²)), PyTorch's default since 1.0.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    stride: usize,
    padding: usize,
}

impl Conv2d {
    /// A K×K convolution of `c_in` to `c_out` channels without a bias.
    ///
    /// # Errors
    /// Where the weight cannot be made.
    pub fn new(
        scope: &mut Scope<'_>,
        [c_in, c_out]: [usize; 2],
        k: usize,
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        let bound = 1.0 / ((c_in * k * k) as f64).sqrt();
        let weight = scope.uniform("weight", &[c_out, c_in, k, k], bound)?;
        Ok(Self { weight, bias: None, stride, padding })
    }

    /// A K×K convolution of `c_in` to `c_out` channels with a bias.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub fn with_bias(
        scope: &mut Scope<'_>,
        [c_in, c_out]: [usize; 2],
        k: usize,
        stride: usize,
        padding: usize,
    ) -> Result<Self> {
        let layer = Self::new(scope, [c_in, c_out], k, stride, padding)?;
        let bound = 1.0 / ((c_in * k * k) as f64).sqrt();
        Ok(Self { bias: Some(scope.uniform("bias", &[c_out], bound)?), ..layer })
    }

    /// y of [`conv2d`].
    ///
    /// # Errors
    /// Where `x` does not fit the weight.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        conv2d(x, &self.weight, self.bias.as_ref(), self.stride, self.padding)
    }
}

/// Batch normalisation over (N, H, W) with running statistics: γ = 1, β = 0, ε = 1e-5, momentum 0.1.
///
/// As in PyTorch, a training step moves the running variance towards the *unbiased* variance of the batch while it
/// normalises with the biased one.
#[derive(Clone, Debug)]
pub struct BatchNorm2d {
    weight: Tensor,
    bias: Tensor,
    running_mean: Var,
    running_var: Var,
}

impl BatchNorm2d {
    const EPS: f64 = 1e-5;
    const MOMENTUM: f64 = 0.1;

    /// A layer for `channels` channels.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub fn new(scope: &mut Scope<'_>, channels: usize) -> Result<Self> {
        Ok(Self {
            weight: scope.constant("weight", &[channels], 1.0)?,
            bias: scope.constant("bias", &[channels], 0.0)?,
            running_mean: scope.buffer("running_mean", &[channels], 0.0)?,
            running_var: scope.buffer("running_var", &[channels], 1.0)?,
        })
    }

    /// Normalises with the batch's statistics and moves the running ones where `train`, else with the running ones.
    ///
    /// # Errors
    /// Where `x` does not fit the channels.
    pub fn forward(&self, x: &Tensor, train: bool) -> Result<Tensor> {
        if !train {
            return batch_norm::eval(x, &self.weight, &self.bias, &self.running()?, Self::EPS);
        }
        let (y, statistics) = batch_norm::train(x, &self.weight, &self.bias, Self::EPS)?;
        self.track(&statistics)?;
        Ok(y)
    }

    fn running(&self) -> Result<Statistics> {
        let values = |var: &Var| var.to_dtype(DType::F64)?.to_vec1::<f64>();
        Ok(Statistics { mean: values(&self.running_mean)?, variance: values(&self.running_var)?, count: 0 })
    }

    fn track(&self, batch: &Statistics) -> Result<()> {
        let unbiased = batch.count as f64 / (batch.count - 1) as f64;
        let running = self.running()?;
        let blend = |old: &[f64], new: &[f64], scale: f64| -> Vec<f64> {
            old.iter().zip(new).map(|(old, new)| old + Self::MOMENTUM * (scale * new - old)).collect()
        };
        set(&self.running_mean, blend(&running.mean, &batch.mean, 1.0))?;
        set(&self.running_var, blend(&running.variance, &batch.variance, unbiased))
    }
}

fn set(var: &Var, values: Vec<f64>) -> Result<()> {
    var.set(&Tensor::from_vec(values, var.dims(), var.device())?.to_dtype(var.dtype())?)
}

/// `y = x · Wᵀ + b`; `weight` (O, I) and `bias` (O), where there is one, start from U(±1/√I), PyTorch's default.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    /// A layer from `inputs` to `outputs` features.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub fn new(scope: &mut Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let layer = Self::without_bias(scope, inputs, outputs)?;
        let bound = 1.0 / (inputs as f64).sqrt();
        Ok(Self { bias: Some(scope.uniform("bias", &[outputs], bound)?), ..layer })
    }

    /// A layer from `inputs` to `outputs` features that adds nothing.
    ///
    /// # Errors
    /// Where the weight cannot be made.
    pub fn without_bias(scope: &mut Scope<'_>, inputs: usize, outputs: usize) -> Result<Self> {
        let bound = 1.0 / (inputs as f64).sqrt();
        Ok(Self { weight: scope.uniform("weight", &[outputs, inputs], bound)?, bias: None })
    }

    /// `x` (…, I) → (…, O).
    ///
    /// # Errors
    /// Where `x` does not fit the weight.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        self.forward_with(x, Activation::None)
    }

    /// [`Self::forward`] followed by an activation, in one op.
    ///
    /// # Errors
    /// Where `x` does not fit the weight.
    pub fn forward_with(&self, x: &Tensor, activation: Activation) -> Result<Tensor> {
        linear(x, &self.weight, self.bias.as_ref(), activation)
    }
}

/// Group normalisation of (N, C, …): γ = 1, β = 0.
#[derive(Clone, Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// A layer for `channels` channels in `groups` groups.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub fn new(scope: &mut Scope<'_>, groups: usize, channels: usize, eps: f64) -> Result<Self> {
        let (weight, bias) = affine(scope, channels)?;
        Ok(Self { weight, bias, groups, eps })
    }

    /// y of [`group_norm`].
    ///
    /// # Errors
    /// Where `x` does not fit the channels, or these the groups.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        group_norm(x, &self.weight, &self.bias, self.groups, self.eps, false)
    }

    /// [`Self::forward`] followed by SiLU, in one op.
    ///
    /// # Errors
    /// As [`Self::forward`].
    pub fn forward_silu(&self, x: &Tensor) -> Result<Tensor> {
        group_norm(x, &self.weight, &self.bias, self.groups, self.eps, true)
    }
}

/// Layer normalisation over the last axis: γ = 1, β = 0.
#[derive(Clone, Debug)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f64,
}

impl LayerNorm {
    /// A layer for rows of `size` elements.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub fn new(scope: &mut Scope<'_>, size: usize, eps: f64) -> Result<Self> {
        let (weight, bias) = affine(scope, size)?;
        Ok(Self { weight, bias, eps })
    }

    /// y of [`layer_norm`].
    ///
    /// # Errors
    /// Where `x` does not fit the layer.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        layer_norm(x, &self.weight, &self.bias, self.eps)
    }
}

/// A table of vectors: `weight` (entries, size), from N(0, 1), PyTorch's default.
#[derive(Clone, Debug)]
pub struct Embedding {
    weight: Tensor,
}

impl Embedding {
    /// A table of `entries` vectors of `size` elements.
    ///
    /// # Errors
    /// Where the table cannot be made.
    pub fn new(scope: &mut Scope<'_>, entries: usize, size: usize) -> Result<Self> {
        Ok(Self { weight: scope.normal("weight", &[entries, size], 1.0)? })
    }

    /// The vectors (…, size) of `ids` (…), integers.
    ///
    /// # Errors
    /// Where `ids` are no integers, or one of them is outside the table.
    pub fn forward(&self, ids: &Tensor) -> Result<Tensor> {
        let (entries, size) = self.weight.dims2()?;
        let flat = ids.flatten_all()?.to_dtype(DType::I64)?;
        if let Some(id) = flat.to_vec1::<i64>()?.into_iter().find(|id| !(0..entries as i64).contains(id)) {
            bail!("embedding: id {id} is outside the table; expected 0 to {}", entries - 1);
        }
        let mut shape = ids.dims().to_vec();
        shape.push(size);
        self.weight.index_select(&flat, 0)?.reshape(shape)
    }

    /// The table (entries, size).
    #[must_use]
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }
}

/// γ = 1 and β = 0 under PyTorch's names.
fn affine(scope: &mut Scope<'_>, size: usize) -> Result<(Tensor, Tensor)> {
    Ok((scope.constant("weight", &[size], 1.0)?, scope.constant("bias", &[size], 0.0)?))
}
