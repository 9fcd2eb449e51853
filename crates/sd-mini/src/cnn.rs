//! A small convolutional network: the trunk of every judge and of the image towers.

use candle_core::{Result, Tensor};
use sd_core::nn::{Conv2d, GroupNorm, Scope};

use crate::networks::GROUPS;

const EPS: f64 = 1e-5;

/// Stages at falling resolution, each a convolution of stride 2 and a residual block with group norms and SiLU.
#[derive(Clone, Debug)]
pub struct Cnn {
    stages: Vec<Stage>,
    norm: GroupNorm,
}

#[derive(Clone, Debug)]
struct Stage {
    down: Conv2d,
    norms: [GroupNorm; 2],
    convs: [Conv2d; 2],
}

impl Stage {
    fn new(scope: &mut Scope<'_>, [inputs, channels]: [usize; 2]) -> Result<Self> {
        Ok(Self {
            down: Conv2d::with_bias(&mut scope.child("down"), [inputs, channels], 3, 2, 1)?,
            norms: [
                GroupNorm::new(&mut scope.child("norm1"), GROUPS, channels, EPS)?,
                GroupNorm::new(&mut scope.child("norm2"), GROUPS, channels, EPS)?,
            ],
            convs: [
                Conv2d::with_bias(&mut scope.child("conv1"), [channels; 2], 3, 1, 1)?,
                Conv2d::with_bias(&mut scope.child("conv2"), [channels; 2], 3, 1, 1)?,
            ],
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.down.forward(x)?;
        let branch = self.convs[0].forward(&self.norms[0].forward_silu(&x)?)?;
        x + self.convs[1].forward(&self.norms[1].forward_silu(&branch)?)?
    }
}

impl Cnn {
    /// One stage for each of `channels`.
    ///
    /// # Errors
    /// Where a tensor cannot be made, or there is no stage.
    pub fn new(scope: &mut Scope<'_>, channels: &[usize]) -> Result<Self> {
        let Some(&last) = channels.last() else { candle_core::bail!("a network without stages") };
        let inputs = std::iter::once(3).chain(channels.iter().copied());
        let stages = inputs
            .zip(channels)
            .enumerate()
            .map(|(i, (inputs, &channels))| {
                Stage::new(&mut scope.child(format!("stages.{i}")), [inputs, channels])
            })
            .collect::<Result<_>>()?;
        Ok(Self { stages, norm: GroupNorm::new(&mut scope.child("norm"), GROUPS, last, EPS)? })
    }

    /// Feature maps (B, C, S/2ⁿ, S/2ⁿ) of pictures (B, 3, S, S).
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn forward(&self, pictures: &Tensor) -> Result<Tensor> {
        let features = self.stages.iter().try_fold(pictures.clone(), |x, stage| stage.forward(&x))?;
        self.norm.forward_silu(&features)
    }

    /// Feature maps averaged over the picture, (B, C).
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn pooled(&self, pictures: &Tensor) -> Result<Tensor> {
        self.forward(pictures)?.flatten_from(2)?.mean(2)
    }

    /// The output of every stage, for perceptual distances.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn stages(&self, pictures: &Tensor) -> Result<Vec<Tensor>> {
        let mut all = Vec::with_capacity(self.stages.len());
        let mut x = pictures.clone();
        for stage in &self.stages {
            x = stage.forward(&x)?;
            all.push(x.clone());
        }
        Ok(all)
    }
}
