//! The residual block of UNet and VAE.

use candle_core::{Result, Tensor};

use crate::nn::{Conv2d, GroupNorm, Linear, Scope};
use crate::taps::{Kind, Site, Tap};

/// Sizes of a [`ResnetBlock2D`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct ResnetShape {
    /// Channels of x.
    pub(crate) c_in: usize,
    /// Channels of y.
    pub(crate) c_out: usize,
    /// Groups of both norms.
    pub(crate) groups: usize,
    /// ε of both norms.
    pub(crate) eps: f64,
    /// Size of the time embedding, where the block takes one.
    pub(crate) time: Option<usize>,
}

/// `y = s(x) + conv2(silu(norm2(conv1(silu(norm1(x))) + W·e)))` with e = silu(time embedding); s is a 1×1 convolution where
/// the number of channels changes, else the identity. diffusers' `ResnetBlock2D`.
#[derive(Clone, Debug)]
pub(crate) struct ResnetBlock2D {
    norm1: GroupNorm,
    conv1: Conv2d,
    time_emb_proj: Option<Linear>,
    norm2: GroupNorm,
    conv2: Conv2d,
    conv_shortcut: Option<Conv2d>,
    branch: Site,
    stream: Site,
}

impl ResnetBlock2D {
    pub(crate) fn new(scope: &mut Scope<'_>, shape: ResnetShape) -> Result<Self> {
        let ResnetShape { c_in, c_out, groups, eps, time } = shape;
        let projection =
            |scope: &mut Scope<'_>, size| Linear::new(&mut scope.child("time_emb_proj"), size, c_out);
        Ok(Self {
            norm1: GroupNorm::new(&mut scope.child("norm1"), groups, c_in, eps)?,
            conv1: Conv2d::with_bias(&mut scope.child("conv1"), [c_in, c_out], 3, 1, 1)?,
            time_emb_proj: time.map(|size| projection(scope, size)).transpose()?,
            norm2: GroupNorm::new(&mut scope.child("norm2"), groups, c_out, eps)?,
            conv2: Conv2d::with_bias(&mut scope.child("conv2"), [c_out, c_out], 3, 1, 1)?,
            conv_shortcut: match c_in == c_out {
                true => None,
                false => Some(Conv2d::with_bias(&mut scope.child("conv_shortcut"), [c_in, c_out], 1, 1, 0)?),
            },
            branch: scope.child("conv2").site(Kind::Branch),
            stream: scope.site(Kind::Stream),
        })
    }

    /// The activations that a pass offers.
    pub(crate) fn sites(&self) -> Vec<Site> {
        vec![self.branch.clone(), self.stream.clone()]
    }

    /// The module's path.
    pub(crate) fn path(&self) -> &str {
        self.stream.path()
    }

    /// `x` (B, C, H, W), `time` = silu(time embedding) (B, E), where the block takes one.
    pub(crate) fn forward(&self, x: &Tensor, time: Option<&Tensor>, tap: &mut dyn Tap) -> Result<Tensor> {
        // Each activation is given up once the next one is there.
        let mut hidden = self.conv1.forward(&self.norm1.forward_silu(x)?)?;
        if let (Some(projection), Some(time)) = (&self.time_emb_proj, time) {
            hidden = add_channels(&hidden, &projection.forward(time)?)?;
        }
        hidden = self.norm2.forward_silu(&hidden)?;
        hidden = self.conv2.forward(&hidden)?;
        let hidden = self.branch.offer(hidden, tap)?;
        let y = match &self.conv_shortcut {
            Some(shortcut) => (shortcut.forward(x)? + hidden)?,
            None => (x + hidden)?,
        };
        self.stream.offer(y, tap)
    }
}

/// x (B, C, H, W) + v (B, C) at every pixel.
fn add_channels(x: &Tensor, v: &Tensor) -> Result<Tensor> {
    let (b, c) = v.dims2()?;
    x.broadcast_add(&v.reshape((b, c, 1, 1))?)
}
