//! Stable Diffusion's autoencoder, diffusers' `AutoencoderKL`: from pictures to latents and back.
//!
//! A picture (B, 3, H, W) with values in −1 ..= 1 is encoded to a normal distribution over latents (B, 4, H/8, W/8), and a latent is
//! decoded to a picture. Weights carry diffusers' names.
//!
//! Encoding offers these activations to its [`Tap`], in this order: `encoder.conv_in`; of every residual block its last convolution's
//! output (`….conv2`) and its own; of every level its down-sampler and the level itself; in the middle, between the residual blocks,
//! the attention's queries, keys, values (B, H·W, C), its map, its branch `….to_out.0` (B, H·W, C) and its stream (B, C, H, W);
//! `encoder.mid_block`, `encoder.conv_out`, `quant_conv`. Decoding: `post_quant_conv`, `decoder.conv_in`, the middle, the levels from
//! coarse to fine, `decoder.conv_out`.
//!
//! **Memory.** A batch is passed through picture by picture, unless the tap wants one of the activations, which are those of the whole
//! batch. Both ways give the same bits. A 512×512 decode then holds 0.7 GB beside the weights, for any batch.

mod blocks;
mod config;
mod gaussian;
#[cfg(test)]
mod tests;

use candle_core::{Result, Tensor, bail};

use self::blocks::{DownEncoderBlock2D, MidBlock, NORM_EPS, UpDecoderBlock2D};
pub use self::config::{CLASS, Config};
pub use self::gaussian::DiagonalGaussian;
use crate::nn::{Conv2d, GroupNorm, Scope, Specification};
use crate::taps::{Kind, Site, Tap};

/// The network.
#[derive(Clone, Debug)]
pub struct AutoencoderKL {
    config: Config,
    encoder: Encoder,
    decoder: Decoder,
}

impl AutoencoderKL {
    /// The network of `config` with the tensors of `scope`.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub fn new(scope: &mut Scope<'_>, config: &Config) -> Result<Self> {
        if config.block_out_channels.is_empty() {
            bail!("vae: the configuration has no level");
        }
        let (encoder, decoder) = (Encoder::new(scope, config)?, Decoder::new(scope, config)?);
        Ok(Self { config: config.clone(), encoder, decoder })
    }

    /// What the network was made from.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The distribution of the latents (B, C', h, w) of `pictures` (B, C, H, W), not yet multiplied by the scaling factor.
    ///
    /// A level halves a side and drops what is left over: 8·h + r pixels with r < 8 give h.
    ///
    /// # Errors
    /// Where the pictures do not fit the configuration, and where the tap fails or stops.
    pub fn encode(&self, pictures: &Tensor, tap: &mut dyn Tap) -> Result<DiagonalGaussian> {
        check("a picture", pictures, self.config.in_channels, self.config.scale())?;
        let pass = |x: &Tensor, tap: &mut dyn Tap| self.encoder.forward(x, tap);
        DiagonalGaussian::new(&one_by_one(pictures, &self.encoder.sites, tap, pass)?)
    }

    /// The pictures (B, C, H, W) of `latents` (B, C', h, w), already divided by the scaling factor. Values are about −1 ..= 1 and not
    /// clamped.
    ///
    /// # Errors
    /// Where the latents do not fit the configuration, and where the tap fails or stops.
    pub fn decode(&self, latents: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        check("a latent", latents, self.config.latent_channels, 1)?;
        let pass = |z: &Tensor, tap: &mut dyn Tap| self.decoder.forward(z, tap);
        one_by_one(latents, &self.decoder.sites, tap, pass)
    }
}

fn check(what: &str, x: &Tensor, channels: usize, least: usize) -> Result<()> {
    let fits = matches!(x.dims(), &[b, c, h, w] if b > 0 && c == channels && h >= least && w >= least);
    if !fits {
        bail!("vae: expected {what} (B,{channels},H,W) with sides of at least {least}, found {:?}", x.dims());
    }
    Ok(())
}

/// `pass` of every row of the batch, or of the whole batch where `tap` wants one of `sites`.
fn one_by_one(
    x: &Tensor,
    sites: &[Site],
    tap: &mut dyn Tap,
    pass: impl Fn(&Tensor, &mut dyn Tap) -> Result<Tensor>,
) -> Result<Tensor> {
    let batch = x.dims()[0];
    if batch == 1 || sites.iter().any(|site| tap.wants(site)) {
        return pass(x, tap);
    }
    let rows: Vec<Tensor> = (0..batch).map(|i| pass(&x.narrow(0, i, 1)?, tap)).collect::<Result<_>>()?;
    Tensor::cat(&rows, 0)
}

/// A convolution with a site of its own.
fn conv(scope: &mut Scope<'_>, channels: [usize; 2], kernel: usize, kind: Kind) -> Result<(Conv2d, Site)> {
    Ok((Conv2d::with_bias(scope, channels, kernel, 1, kernel / 2)?, scope.site(kind)))
}

/// `encoder` and `quant_conv`.
#[derive(Clone, Debug)]
struct Encoder {
    conv_in: (Conv2d, Site),
    down: Vec<DownEncoderBlock2D>,
    mid: MidBlock,
    conv_norm_out: GroupNorm,
    conv_out: (Conv2d, Site),
    quant_conv: Option<(Conv2d, Site)>,
    /// All of its sites, in the order of a pass.
    sites: Vec<Site>,
}

impl Encoder {
    fn new(scope: &mut Scope<'_>, config: &Config) -> Result<Self> {
        let path = scope.path().to_owned();
        let sites = Specification::of(|root| Self::build(&mut root.child(path), config, Vec::new()))?.sites;
        Self::build(scope, config, sites)
    }

    fn build(root: &mut Scope<'_>, config: &Config, sites: Vec<Site>) -> Result<Self> {
        let (channels, moments) = (&config.block_out_channels, 2 * config.latent_channels);
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let mut scope = root.child("encoder");
        let down = |scope: &mut Scope<'_>, i| {
            DownEncoderBlock2D::new(&mut scope.child(format!("down_blocks.{i}")), config, i)
        };
        let norm = |scope: &mut Scope<'_>| GroupNorm::new(scope, config.norm_num_groups, last, NORM_EPS);
        Ok(Self {
            conv_in: conv(&mut scope.child("conv_in"), [config.in_channels, first], 3, Kind::Stream)?,
            down: (0..channels.len()).map(|i| down(&mut scope, i)).collect::<Result<_>>()?,
            mid: MidBlock::new(&mut scope.child("mid_block"), config, last)?,
            conv_norm_out: norm(&mut scope.child("conv_norm_out"))?,
            conv_out: conv(&mut scope.child("conv_out"), [last, moments], 3, Kind::Feature)?,
            quant_conv: (config.use_quant_conv)
                .then(|| conv(&mut root.child("quant_conv"), [moments; 2], 1, Kind::Feature))
                .transpose()?,
            sites,
        })
    }

    /// Means and logarithms of variances (B, 2·C', h, w).
    fn forward(&self, x: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let x = apply(&self.conv_in, x, tap)?;
        let x = self.down.iter().try_fold(x, |x, block| block.forward(x, tap))?;
        let x = self.mid.forward(&x, tap)?;
        let x = apply(&self.conv_out, &self.conv_norm_out.forward_silu(&x)?, tap)?;
        match &self.quant_conv {
            Some(quant_conv) => apply(quant_conv, &x, tap),
            None => Ok(x),
        }
    }
}

/// `post_quant_conv` and `decoder`.
#[derive(Clone, Debug)]
struct Decoder {
    post_quant_conv: Option<(Conv2d, Site)>,
    conv_in: (Conv2d, Site),
    mid: MidBlock,
    up: Vec<UpDecoderBlock2D>,
    conv_norm_out: GroupNorm,
    conv_out: (Conv2d, Site),
    /// All of its sites, in the order of a pass.
    sites: Vec<Site>,
}

impl Decoder {
    fn new(scope: &mut Scope<'_>, config: &Config) -> Result<Self> {
        let path = scope.path().to_owned();
        let sites = Specification::of(|root| Self::build(&mut root.child(path), config, Vec::new()))?.sites;
        Self::build(scope, config, sites)
    }

    fn build(root: &mut Scope<'_>, config: &Config, sites: Vec<Site>) -> Result<Self> {
        let (channels, latent) = (&config.block_out_channels, config.latent_channels);
        let (first, last) = (channels[0], channels[channels.len() - 1]);
        let post_quant_conv = (config.use_post_quant_conv)
            .then(|| conv(&mut root.child("post_quant_conv"), [latent; 2], 1, Kind::Feature))
            .transpose()?;
        let mut scope = root.child("decoder");
        let up = |scope: &mut Scope<'_>, i| {
            UpDecoderBlock2D::new(&mut scope.child(format!("up_blocks.{i}")), config, i)
        };
        let norm = |scope: &mut Scope<'_>| GroupNorm::new(scope, config.norm_num_groups, first, NORM_EPS);
        Ok(Self {
            post_quant_conv,
            conv_in: conv(&mut scope.child("conv_in"), [latent, last], 3, Kind::Stream)?,
            mid: MidBlock::new(&mut scope.child("mid_block"), config, last)?,
            up: (0..channels.len()).map(|i| up(&mut scope, i)).collect::<Result<_>>()?,
            conv_norm_out: norm(&mut scope.child("conv_norm_out"))?,
            conv_out: conv(&mut scope.child("conv_out"), [first, config.out_channels], 3, Kind::Feature)?,
            sites,
        })
    }

    /// Pictures (B, C, H, W).
    fn forward(&self, z: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let x = match &self.post_quant_conv {
            Some(post_quant_conv) => apply(post_quant_conv, z, tap)?,
            None => z.clone(),
        };
        let x = apply(&self.conv_in, &x, tap)?;
        let x = self.mid.forward(&x, tap)?;
        let x = self.up.iter().try_fold(x, |x, block| block.forward(x, tap))?;
        apply(&self.conv_out, &self.conv_norm_out.forward_silu(&x)?, tap)
    }
}

fn apply((conv, site): &(Conv2d, Site), x: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
    site.offer(conv.forward(x)?, tap)
}
