//! The levels of encoder and decoder, and the middle between them.

use candle_core::{Result, Tensor};

use super::Config;
use crate::models::attention::attend;
use crate::models::resnet::{ResnetBlock2D, ResnetShape};
use crate::nn::{Conv2d, GroupNorm, Linear, Scope};
use crate::ops::copy::contiguous;
use crate::ops::upsample::nearest2x;
use crate::taps::{Kind, Site, Tap};

/// ε of every group norm, which no configuration names.
pub(super) const NORM_EPS: f64 = 1e-6;

/// The residual blocks `resnets.0`, `resnets.1`, … of a level.
fn resnets(
    scope: &mut Scope<'_>,
    count: usize,
    [c_in, c_out]: [usize; 2],
    groups: usize,
) -> Result<Vec<ResnetBlock2D>> {
    let channels = |i: usize| if i == 0 { c_in } else { c_out };
    (0..count).map(|i| resnet(scope, i, [channels(i), c_out], groups)).collect()
}

fn resnet(
    scope: &mut Scope<'_>,
    i: usize,
    [c_in, c_out]: [usize; 2],
    groups: usize,
) -> Result<ResnetBlock2D> {
    let shape = ResnetShape { c_in, c_out, groups, eps: NORM_EPS, time: None };
    ResnetBlock2D::new(&mut scope.child(format!("resnets.{i}")), shape)
}

/// The convolution of a down- or up-sampler, and its site.
fn resample(
    scope: &mut Scope<'_>,
    name: &str,
    channels: usize,
    [stride, padding]: [usize; 2],
) -> Result<(Conv2d, Site)> {
    let mut scope = scope.child(name);
    let conv = Conv2d::with_bias(&mut scope.child("conv"), [channels, channels], 3, stride, padding)?;
    Ok((conv, scope.site(Kind::Stream)))
}

/// `encoder.down_blocks.i`: residual blocks, then half the resolution on all levels but the last.
#[derive(Clone, Debug)]
pub(super) struct DownEncoderBlock2D {
    resnets: Vec<ResnetBlock2D>,
    downsample: Option<(Conv2d, Site)>,
    output: Site,
}

impl DownEncoderBlock2D {
    pub(super) fn new(scope: &mut Scope<'_>, config: &Config, i: usize) -> Result<Self> {
        let channels = &config.block_out_channels;
        let ends = [channels[i.saturating_sub(1)], channels[i]];
        let last = i + 1 == channels.len();
        Ok(Self {
            resnets: resnets(scope, config.layers_per_block, ends, config.norm_num_groups)?,
            downsample: (!last)
                .then(|| resample(scope, "downsamplers.0", channels[i], [2, 0]))
                .transpose()?,
            output: scope.site(Kind::Feature),
        })
    }

    pub(super) fn forward(&self, x: Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let mut x = self.resnets.iter().try_fold(x, |x, resnet| resnet.forward(&x, None, tap))?;
        if let Some((conv, site)) = &self.downsample {
            // A row and a column of zeros at the far ends only.
            let padded = x.pad_with_zeros(2, 0, 1)?.pad_with_zeros(3, 0, 1)?;
            drop(x);
            x = site.offer(conv.forward(&padded)?, tap)?;
        }
        self.output.offer(x, tap)
    }
}

/// `decoder.up_blocks.i`: residual blocks, then twice the resolution on all levels but the last.
#[derive(Clone, Debug)]
pub(super) struct UpDecoderBlock2D {
    resnets: Vec<ResnetBlock2D>,
    upsample: Option<(Conv2d, Site)>,
    output: Site,
}

impl UpDecoderBlock2D {
    /// The i-th on the way up: that of level `levels − 1 − i`.
    pub(super) fn new(scope: &mut Scope<'_>, config: &Config, i: usize) -> Result<Self> {
        let channels = &config.block_out_channels;
        let level = channels.len() - 1 - i;
        let ends = [channels[(level + 1).min(channels.len() - 1)], channels[level]];
        Ok(Self {
            resnets: resnets(scope, config.layers_per_block + 1, ends, config.norm_num_groups)?,
            upsample: (level > 0)
                .then(|| resample(scope, "upsamplers.0", channels[level], [1, 1]))
                .transpose()?,
            output: scope.site(Kind::Feature),
        })
    }

    pub(super) fn forward(&self, x: Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let mut x = self.resnets.iter().try_fold(x, |x, resnet| resnet.forward(&x, None, tap))?;
        if let Some((conv, site)) = &self.upsample {
            let enlarged = nearest2x(&x)?;
            drop(x);
            x = site.offer(conv.forward(&enlarged)?, tap)?;
        }
        self.output.offer(x, tap)
    }
}

/// `mid_block`: a residual block, attention between all pixels where the configuration has it, a residual block.
#[derive(Clone, Debug)]
pub(super) struct MidBlock {
    first: ResnetBlock2D,
    attention: Option<Attention>,
    last: ResnetBlock2D,
    output: Site,
}

impl MidBlock {
    pub(super) fn new(scope: &mut Scope<'_>, config: &Config, channels: usize) -> Result<Self> {
        let groups = config.norm_num_groups;
        let attention =
            |scope: &mut Scope<'_>| Attention::new(&mut scope.child("attentions.0"), channels, groups);
        Ok(Self {
            first: resnet(scope, 0, [channels; 2], groups)?,
            attention: config.mid_block_add_attention.then(|| attention(scope)).transpose()?,
            last: resnet(scope, 1, [channels; 2], groups)?,
            output: scope.site(Kind::Feature),
        })
    }

    pub(super) fn forward(&self, x: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let mut x = self.first.forward(x, None, tap)?;
        if let Some(attention) = &self.attention {
            x = attention.forward(&x, tap)?;
        }
        self.output.offer(self.last.forward(&x, None, tap)?, tap)
    }
}

/// `x + to_out.0(attention(group_norm(x)))` between pixels, with one head.
#[derive(Clone, Debug)]
struct Attention {
    group_norm: GroupNorm,
    to_q: (Linear, Site),
    to_k: (Linear, Site),
    to_v: (Linear, Site),
    map: Site,
    to_out: (Linear, Site),
    stream: Site,
}

impl Attention {
    fn new(scope: &mut Scope<'_>, channels: usize, groups: usize) -> Result<Self> {
        let linear = |scope: &mut Scope<'_>, name: &str, kind| {
            let mut scope = scope.child(name);
            Ok::<_, candle_core::Error>((Linear::new(&mut scope, channels, channels)?, scope.site(kind)))
        };
        Ok(Self {
            group_norm: GroupNorm::new(&mut scope.child("group_norm"), groups, channels, NORM_EPS)?,
            to_q: linear(scope, "to_q", Kind::Query)?,
            to_k: linear(scope, "to_k", Kind::Key)?,
            to_v: linear(scope, "to_v", Kind::Value)?,
            map: scope.site(Kind::Map),
            to_out: linear(scope, "to_out.0", Kind::Branch)?,
            stream: scope.site(Kind::Stream),
        })
    }

    /// `x` (B, C, H, W) → the same.
    fn forward(&self, x: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let (b, c, h, w) = x.dims4()?;
        let rows = contiguous(&self.group_norm.forward(x)?.flatten_from(2)?.transpose(1, 2)?)?;
        let mut project = |(linear, site): &(Linear, Site)| site.offer(linear.forward(&rows)?, tap);
        let [q, k, v] = [project(&self.to_q)?, project(&self.to_k)?, project(&self.to_v)?];
        let (to_out, branch) = &self.to_out;
        let y = to_out.forward(&attend([&q, &k, &v], 1, false, &self.map, tap)?)?;
        let y = contiguous(&branch.offer(y, tap)?.transpose(1, 2)?)?.reshape((b, c, h, w))?;
        self.stream.offer((x + y)?, tap)
    }
}
