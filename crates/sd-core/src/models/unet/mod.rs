//! Stable Diffusion's UNet, diffusers' `UNet2DConditionModel`: what the noise (or v, or the picture) is, given a noisy latent, a
//! time and a text.
//!
//! The 1.x, 2.x and inpainting networks and the small ones of tests differ in [`Config`] alone. Weights carry diffusers' names.
//!
//! A forward pass offers these activations to its [`Tap`], in this order: `time_embedding`, `conv_in`; of every residual block its
//! last convolution's output (`….conv2`) and its own; of every transformer `proj_in`, of every block in it queries, keys, values,
//! map, output and stream of `attn1` and `attn2`, the output of `ff` and its own, then `proj_out` and the transformer's own;
//! of every level its down- or up-sampler and the level itself; `conv_out`. Replacing a module's output also replaces the skip
//! connection that carries it; replacing a level's (`down_blocks.i`) does not.

mod blocks;
mod config;
pub mod cost;
mod rows;
#[cfg(test)]
mod tests;
mod transformer;

use candle_core::{Result, Tensor, bail};

use self::blocks::{DownBlock, MidBlock, Plan, UpBlock};
pub use self::config::{CLASS, Config, Level};
use self::rows::Rows;
pub use self::rows::{Going, RowPlan};
use crate::nn::{Conv2d, GroupNorm, Linear, Scope};
use crate::ops::activation::{Activation, silu};
use crate::taps::{Kind, Site, Tap};

impl Config {
    /// Size of the time embedding: four times the finest level's channels.
    pub(crate) fn time_embedding(&self) -> usize {
        4 * self.levels[0].channels
    }
}

/// The network.
#[derive(Clone, Debug)]
pub struct UNet2DConditionModel {
    config: Config,
    time: TimeEmbedding,
    conv_in: Conv2d,
    enter: Site,
    down: Vec<DownBlock>,
    mid: MidBlock,
    up: Vec<UpBlock>,
    conv_norm_out: GroupNorm,
    conv_out: Conv2d,
    output: Site,
    checkpointing: bool,
}

impl UNet2DConditionModel {
    /// The network of `config` with the tensors of `scope`.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub fn new(scope: &mut Scope<'_>, config: &Config) -> Result<Self> {
        let Some(first) = config.levels.first().map(|level| level.channels) else {
            bail!("unet: the configuration has no level");
        };
        let time = TimeEmbedding::new(&mut scope.child("time_embedding"), config)?;
        let conv_in = Conv2d::with_bias(&mut scope.child("conv_in"), [config.in_channels, first], 3, 1, 1)?;
        let enter = scope.child("conv_in").site(Kind::Stream);
        let down = down_blocks(scope, config)?;
        let mid = mid_block(scope, config)?;
        let up = up_blocks(scope, config)?;
        let (groups, eps) = (config.norm_num_groups, config.norm_eps);
        Ok(Self {
            config: config.clone(),
            time,
            conv_in,
            enter,
            down,
            mid,
            up,
            conv_norm_out: GroupNorm::new(&mut scope.child("conv_norm_out"), groups, first, eps)?,
            conv_out: Conv2d::with_bias(&mut scope.child("conv_out"), [first, config.out_channels], 3, 1, 1)?,
            output: scope.child("conv_out").site(Kind::Feature),
            checkpointing: false,
        })
    }

    /// What the network was made from.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The same network; where `on`, a pass whose gradient will be asked for keeps the inputs of residual blocks and transformers alone,
    /// and the backward runs each of them a second time. diffusers' `enable_gradient_checkpointing`.
    ///
    /// The values are the same bits; the gradients' sums are joined in another order. It is for frozen weights (gradients of latents and text): with trainable ones the
    /// forward is an error. A block inside which the tap wants an activation is not checkpointed.
    #[must_use]
    pub fn with_checkpointing(self, on: bool) -> Self {
        Self { checkpointing: on, ..self }
    }

    /// The model's output (B, C', H, W) for `sample` (B, C, H, W), `timesteps` (one for all rows, or one each; 0 to 999, fractions
    /// allowed) and `context` (B, T, D), the text encoder's vectors.
    ///
    /// # Errors
    /// Where shapes, dtypes or devices do not fit the configuration or each other, and where the tap fails or stops.
    pub fn forward(
        &self,
        sample: &Tensor,
        timesteps: &[f64],
        context: &Tensor,
        tap: &mut dyn Tap,
    ) -> Result<Tensor> {
        self.pass(sample, timesteps, context, None, tap)
    }

    /// As [`Self::forward`], with rows that leave the pass and come back as `plan` says. The tap sees the rows that are under way.
    ///
    /// # Errors
    /// As [`Self::forward`]; and where the plan lets a row go on that is not under way, or ends without all rows.
    pub fn forward_rows(
        &self,
        sample: &Tensor,
        timesteps: &[f64],
        context: &Tensor,
        plan: &RowPlan,
        tap: &mut dyn Tap,
    ) -> Result<Tensor> {
        self.pass(sample, timesteps, context, Some(plan), tap)
    }

    fn pass(
        &self,
        sample: &Tensor,
        timesteps: &[f64],
        context: &Tensor,
        plan: Option<&RowPlan>,
        tap: &mut dyn Tap,
    ) -> Result<Tensor> {
        self.check(sample, timesteps, context)?;
        let time = silu(&self.time.forward(timesteps, sample, tap)?)?;
        let mut rows = Rows::new(plan, [&time, context], self.checkpointing)?;
        let x = self.enter.offer(self.conv_in.forward(&rows.enter(sample)?)?, tap)?;
        let x = rows.behind(self.enter.path(), x)?;
        let mut skips = vec![rows.keep(x.clone())?];
        let x = self.down.iter().try_fold(x, |x, block| block.forward(&x, &mut rows, &mut skips, tap))?;
        let x = self.mid.forward(&x, &mut rows, tap)?;
        let x = self.up.iter().try_fold(x, |x, block| block.forward(x, &mut rows, &mut skips, tap))?;
        rows.finish()?;
        self.output.offer(self.conv_out.forward(&self.conv_norm_out.forward_silu(&x)?)?, tap)
    }

    fn check(&self, sample: &Tensor, timesteps: &[f64], context: &Tensor) -> Result<()> {
        let &[batch, channels, height, width] = sample.dims() else {
            bail!("unet: expected sample (B,{},H,W), found {:?}", self.config.in_channels, sample.dims());
        };
        if channels != self.config.in_channels || height == 0 || width == 0 {
            bail!("unet: expected sample (B,{},H,W), found {:?}", self.config.in_channels, sample.dims());
        }
        if timesteps.len() != 1 && timesteps.len() != batch {
            bail!("unet: expected 1 timestep or {batch}, one a row of the batch; found {}", timesteps.len());
        }
        let width = self.config.levels[0].context;
        if context.rank() != 3 || context.dims()[0] != batch || context.dims()[2] != width {
            bail!(
                "unet: expected context ({batch},T,{width}), found {:?}: the text encoder's last hidden states, as many rows as the \
                 sample has",
                context.dims()
            );
        }
        Ok(())
    }
}

fn down_blocks(scope: &mut Scope<'_>, config: &Config) -> Result<Vec<DownBlock>> {
    let count = config.levels.len();
    let block = |i: usize| {
        let level = &config.levels[i];
        let c_in = config.levels[i.saturating_sub(1)].channels;
        let plan = Plan { config, level, attends: level.attends };
        DownBlock::new(&mut scope.child(format!("down_blocks.{i}")), c_in, &plan, i + 1 == count)
    };
    (0..count).map(block).collect()
}

fn mid_block(scope: &mut Scope<'_>, config: &Config) -> Result<MidBlock> {
    let level = &config.levels[config.levels.len() - 1];
    MidBlock::new(&mut scope.child("mid_block"), &Plan { config, level, attends: true })
}

fn up_blocks(scope: &mut Scope<'_>, config: &Config) -> Result<Vec<UpBlock>> {
    let count = config.levels.len();
    let mut skips = skip_channels(config);
    let mut stream = config.levels[count - 1].channels;
    let mut blocks = Vec::with_capacity(count);
    for i in 0..count {
        let level = &config.levels[count - 1 - i];
        let mut joined = Vec::new();
        for _ in 0..=level.layers {
            joined.push(stream + skips.pop().unwrap_or(0));
            stream = level.channels;
        }
        let plan = Plan { config, level, attends: config.up_attends[i] };
        blocks.push(UpBlock::new(
            &mut scope.child(format!("up_blocks.{i}")),
            &joined,
            &plan,
            i + 1 == count,
        )?);
    }
    Ok(blocks)
}

/// Channels of what the way down leaves for the way up, in the order in which it leaves them.
fn skip_channels(config: &Config) -> Vec<usize> {
    let mut channels = vec![config.levels[0].channels];
    for (i, level) in config.levels.iter().enumerate() {
        let resampled = usize::from(i + 1 < config.levels.len());
        channels.extend(std::iter::repeat_n(level.channels, level.layers + resampled));
    }
    channels
}

/// `linear_2(silu(linear_1([cos, sin](t · 10000^(−i/half)))))`: diffusers' `Timesteps` and `TimestepEmbedding`.
#[derive(Clone, Debug)]
struct TimeEmbedding {
    linear_1: Linear,
    linear_2: Linear,
    channels: usize,
    flip: bool,
    shift: f64,
    site: Site,
}

impl TimeEmbedding {
    fn new(scope: &mut Scope<'_>, config: &Config) -> Result<Self> {
        let (channels, size) = (config.levels[0].channels, config.time_embedding());
        Ok(Self {
            linear_1: Linear::new(&mut scope.child("linear_1"), channels, size)?,
            linear_2: Linear::new(&mut scope.child("linear_2"), size, size)?,
            channels,
            flip: config.flip_sin_to_cos,
            shift: config.freq_shift,
            site: scope.site(Kind::Feature),
        })
    }

    /// (B, E) in the dtype and on the device of `sample`.
    fn forward(&self, timesteps: &[f64], sample: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let batch = sample.dims()[0];
        let rows: Vec<f64> =
            (0..batch).flat_map(|row| self.frequencies(timesteps[row.min(timesteps.len() - 1)])).collect();
        let x = Tensor::from_vec(rows, (batch, self.channels), &candle_core::Device::Cpu)?;
        let x = x.to_dtype(sample.dtype())?.to_device(sample.device())?;
        self.site.offer(self.linear_2.forward(&self.linear_1.forward_with(&x, Activation::Silu)?)?, tap)
    }

    /// The sines and cosines of angles in `f32`, as diffusers computes them whatever the model's dtype is.
    fn frequencies(&self, timestep: f64) -> Vec<f64> {
        let half = self.channels / 2;
        let angle = |i: usize| {
            let exponent = (-(10_000f64.ln())) as f32 * i as f32 / (half as f64 - self.shift) as f32;
            f64::from(timestep as f32 * f64::from(exponent).exp() as f32)
        };
        let (sin, cos) = (
            (0..half).map(|i| f64::from(angle(i).sin() as f32)),
            (0..half).map(|i| f64::from(angle(i).cos() as f32)),
        );
        let mut row: Vec<f64> = if self.flip { cos.chain(sin).collect() } else { sin.chain(cos).collect() };
        row.resize(self.channels, 0.0);
        row
    }
}
