//! The levels of the UNet: residual blocks, transformers, and the changes of resolution between levels.

use candle_core::{Result, Tensor, bail};

use super::Config;
use super::config::Level;
use super::rows::{Rows, Skip};
use super::transformer::{Transformer2DModel, TransformerShape};
use crate::models::resnet::{ResnetBlock2D, ResnetShape};
use crate::nn::checkpoint::checkpoint;
use crate::nn::{Conv2d, Scope};
use crate::ops::upsample::nearest2x;
use crate::taps::{Kind, NoTap, Site, Tap};

/// What every block is given beside the picture.
#[derive(Clone, Copy)]
pub(super) struct Condition<'a> {
    /// silu(time embedding) (B, E).
    pub(super) time: &'a Tensor,
    /// The text's vectors (B, T, D).
    pub(super) context: &'a Tensor,
    /// Whether residual blocks and transformers keep their inputs alone for the backward.
    pub(super) checkpointing: bool,
}

/// A residual block and, where the level attends, a transformer behind it.
#[derive(Clone, Debug)]
struct Pair {
    resnet: ResnetBlock2D,
    attention: Option<Transformer2DModel>,
}

impl Pair {
    fn new(scope: &mut Scope<'_>, i: usize, c_in: usize, plan: &Plan<'_>) -> Result<Self> {
        let resnet = ResnetBlock2D::new(&mut scope.child(format!("resnets.{i}")), plan.resnet(c_in))?;
        let attention = match plan.attends {
            true => Some(Transformer2DModel::new(
                &mut scope.child(format!("attentions.{i}")),
                &plan.transformer(),
            )?),
            false => None,
        };
        Ok(Self { resnet, attention })
    }

    fn forward(&self, x: &Tensor, rows: &mut Rows<'_>, tap: &mut dyn Tap) -> Result<Tensor> {
        let x = run_resnet(&self.resnet, x, rows, tap)?;
        match &self.attention {
            Some(attention) => run_transformer(attention, &x, rows, tap),
            None => Ok(x),
        }
    }
}

/// A module is checkpointed where the tap wants nothing inside it: it would be offered that a second time.
fn unwatched(condition: Condition<'_>, sites: &[Site], tap: &dyn Tap) -> bool {
    condition.checkpointing && !sites.iter().any(|site| tap.wants(site))
}

fn run_resnet(resnet: &ResnetBlock2D, x: &Tensor, rows: &mut Rows<'_>, tap: &mut dyn Tap) -> Result<Tensor> {
    let condition = rows.condition();
    let y = if unwatched(condition, &resnet.sites(), tap) {
        let resnet = resnet.clone();
        checkpoint(x, condition.time, move |inputs| resnet.forward(&inputs[0], Some(&inputs[1]), &mut NoTap))?
    } else {
        resnet.forward(x, Some(condition.time), tap)?
    };
    rows.behind(resnet.path(), y)
}

fn run_transformer(
    transformer: &Transformer2DModel,
    x: &Tensor,
    rows: &mut Rows<'_>,
    tap: &mut dyn Tap,
) -> Result<Tensor> {
    let condition = rows.condition();
    let y = if unwatched(condition, &transformer.sites(), tap) {
        let transformer = transformer.clone();
        checkpoint(x, condition.context, move |inputs| {
            transformer.forward(&inputs[0], &inputs[1], &mut NoTap)
        })?
    } else {
        transformer.forward(x, condition.context, tap)?
    };
    rows.behind(transformer.path(), y)
}

/// What a block is made from.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) config: &'a Config,
    pub(super) level: &'a Level,
    pub(super) attends: bool,
}

impl Plan<'_> {
    fn resnet(&self, c_in: usize) -> ResnetShape {
        ResnetShape {
            c_in,
            c_out: self.level.channels,
            groups: self.config.norm_num_groups,
            eps: self.config.norm_eps,
            time: Some(self.config.time_embedding()),
        }
    }

    fn transformer(&self) -> TransformerShape {
        TransformerShape {
            channels: self.level.channels,
            heads: self.level.heads,
            context: self.level.context,
            layers: self.level.transformer_layers,
            groups: self.config.norm_num_groups,
            linear_projection: self.config.use_linear_projection,
        }
    }
}

/// `down_blocks.i`: pairs, then half the resolution on all levels but the last.
#[derive(Clone, Debug)]
pub(super) struct DownBlock {
    pairs: Vec<Pair>,
    downsample: Option<(Conv2d, Site)>,
    padding: usize,
    output: Site,
}

impl DownBlock {
    pub(super) fn new(scope: &mut Scope<'_>, c_in: usize, plan: &Plan<'_>, last: bool) -> Result<Self> {
        let channels = plan.level.channels;
        let pair = |i: usize| Pair::new(scope, i, if i == 0 { c_in } else { channels }, plan);
        let pairs = (0..plan.level.layers).map(pair).collect::<Result<_>>()?;
        let padding = plan.config.downsample_padding;
        let downsample = match last {
            true => None,
            false => Some(resample(scope, "downsamplers.0", channels, 2, padding)?),
        };
        Ok(Self { pairs, downsample, padding, output: scope.site(Kind::Feature) })
    }

    /// y, with every output that the way up will want pushed onto `skips`.
    pub(super) fn forward(
        &self,
        x: &Tensor,
        rows: &mut Rows<'_>,
        skips: &mut Vec<Skip>,
        tap: &mut dyn Tap,
    ) -> Result<Tensor> {
        let mut x = x.clone();
        for pair in &self.pairs {
            x = pair.forward(&x, rows, tap)?;
            skips.push(rows.keep(x.clone())?);
        }
        if let Some((conv, site)) = &self.downsample {
            x = rows.behind(site.path(), site.offer(conv.forward(&self.pad(&x)?)?, tap)?)?;
            skips.push(rows.keep(x.clone())?);
        }
        self.output.offer(x, tap)
    }

    /// Without padding of its own the convolution gets a row and a column of zeros at the far ends, as in diffusers.
    fn pad(&self, x: &Tensor) -> Result<Tensor> {
        if self.padding > 0 { Ok(x.clone()) } else { x.pad_with_zeros(2, 0, 1)?.pad_with_zeros(3, 0, 1) }
    }
}

/// `mid_block`: a residual block, then transformers with a residual block behind each.
#[derive(Clone, Debug)]
pub(super) struct MidBlock {
    first: ResnetBlock2D,
    attention: Transformer2DModel,
    last: ResnetBlock2D,
    output: Site,
}

impl MidBlock {
    pub(super) fn new(scope: &mut Scope<'_>, plan: &Plan<'_>) -> Result<Self> {
        let shape = plan.resnet(plan.level.channels);
        Ok(Self {
            first: ResnetBlock2D::new(&mut scope.child("resnets.0"), shape)?,
            attention: Transformer2DModel::new(&mut scope.child("attentions.0"), &plan.transformer())?,
            last: ResnetBlock2D::new(&mut scope.child("resnets.1"), shape)?,
            output: scope.site(Kind::Feature),
        })
    }

    pub(super) fn forward(&self, x: &Tensor, rows: &mut Rows<'_>, tap: &mut dyn Tap) -> Result<Tensor> {
        let x = run_resnet(&self.first, x, rows, tap)?;
        let x = run_transformer(&self.attention, &x, rows, tap)?;
        self.output.offer(run_resnet(&self.last, &x, rows, tap)?, tap)
    }
}

/// `up_blocks.i`: pairs, each on the stream joined with what the way down left, then twice the resolution on all levels but the last.
#[derive(Clone, Debug)]
pub(super) struct UpBlock {
    pairs: Vec<Pair>,
    upsample: Option<(Conv2d, Site)>,
    output: Site,
}

impl UpBlock {
    /// `joined` holds the channels of each pair's input: stream and skip together.
    pub(super) fn new(scope: &mut Scope<'_>, joined: &[usize], plan: &Plan<'_>, last: bool) -> Result<Self> {
        let pairs = joined.iter().enumerate().map(|(i, &c_in)| Pair::new(scope, i, c_in, plan));
        let pairs = pairs.collect::<Result<_>>()?;
        let upsample = match last {
            true => None,
            false => Some(resample(scope, "upsamplers.0", plan.level.channels, 1, 1)?),
        };
        Ok(Self { pairs, upsample, output: scope.site(Kind::Feature) })
    }

    /// y; takes its skips off the end of `skips`, and up-samples to the size of the next one left there.
    pub(super) fn forward(
        &self,
        x: Tensor,
        rows: &mut Rows<'_>,
        skips: &mut Vec<Skip>,
        tap: &mut dyn Tap,
    ) -> Result<Tensor> {
        let mut x = x;
        for pair in &self.pairs {
            let Some(skip) = skips.pop() else { bail!("unet: the way up has more blocks than the way down") };
            x = pair.forward(&Tensor::cat(&[&x, &rows.join(skip)?], 1)?, rows, tap)?;
        }
        if let Some((conv, site)) = &self.upsample {
            let y = conv.forward(&enlarge(&x, skips.last().map(|skip| &skip.value))?)?;
            x = rows.behind(site.path(), site.offer(y, tap)?)?;
        }
        self.output.offer(x, tap)
    }
}

/// Twice the resolution; one row or column less where the way down had an odd number of them.
///
/// diffusers interpolates to the skip's size there: nearest, the same pixels.
fn enlarge(x: &Tensor, skip: Option<&Tensor>) -> Result<Tensor> {
    let y = nearest2x(x)?;
    let Some(skip) = skip else { return Ok(y) };
    let (_, _, height, width) = skip.dims4()?;
    y.narrow(2, 0, height)?.narrow(3, 0, width)
}

/// The convolution of a down- or up-sampler, and its site.
fn resample(
    scope: &mut Scope<'_>,
    name: &str,
    channels: usize,
    stride: usize,
    padding: usize,
) -> Result<(Conv2d, Site)> {
    let conv =
        Conv2d::with_bias(&mut scope.child(name).child("conv"), [channels, channels], 3, stride, padding)?;
    Ok((conv, scope.child(name).site(Kind::Stream)))
}
