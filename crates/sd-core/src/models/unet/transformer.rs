//! diffusers' `Transformer2DModel` over pixels: self-attention, cross-attention to the text, a gated feed-forward.

use candle_core::{Result, Tensor};

use crate::models::attention::attend;
use crate::nn::{Conv2d, GroupNorm, LayerNorm, Linear, Scope};
use crate::ops::activation::geglu;
use crate::ops::copy::contiguous;
use crate::taps::{Kind, Site, Tap};

/// ε of the group norm in front of a transformer, which no configuration names.
const NORM_EPS: f64 = 1e-6;
/// ε of the layer norms in a transformer block, which no configuration names.
const LAYER_NORM_EPS: f64 = 1e-5;

/// Sizes of a [`Transformer2DModel`].
#[derive(Clone, Copy, Debug)]
pub(super) struct TransformerShape {
    pub(super) channels: usize,
    pub(super) heads: usize,
    pub(super) context: usize,
    pub(super) layers: usize,
    pub(super) groups: usize,
    pub(super) linear_projection: bool,
}

/// `to_q`, `to_k`, `to_v`, `to_out.0`.
#[derive(Clone, Debug)]
struct Attention {
    to_q: Linear,
    to_k: Linear,
    to_v: Linear,
    to_out: Linear,
    heads: usize,
    query: Site,
    key: Site,
    value: Site,
    map: Site,
    branch: Site,
    after: Site,
}

impl Attention {
    fn new(scope: &mut Scope<'_>, channels: usize, context: usize, heads: usize) -> Result<Self> {
        let linear = |scope: &mut Scope<'_>, name: &str, inputs| {
            Linear::without_bias(&mut scope.child(name), inputs, channels)
        };
        Ok(Self {
            to_q: linear(scope, "to_q", channels)?,
            query: scope.child("to_q").site(Kind::Query),
            to_k: linear(scope, "to_k", context)?,
            key: scope.child("to_k").site(Kind::Key),
            to_v: linear(scope, "to_v", context)?,
            value: scope.child("to_v").site(Kind::Value),
            map: scope.site(Kind::Map),
            to_out: Linear::new(&mut scope.child("to_out.0"), channels, channels)?,
            branch: scope.site(Kind::Branch),
            after: scope.site(Kind::After),
            heads,
        })
    }

    /// x + attention of `normed` to `context`.
    fn add_to(&self, x: &Tensor, normed: &Tensor, context: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let q = self.query.offer(self.to_q.forward(normed)?, tap)?;
        let k = self.key.offer(self.to_k.forward(context)?, tap)?;
        let v = self.value.offer(self.to_v.forward(context)?, tap)?;
        let y = self.to_out.forward(&attend([&q, &k, &v], self.heads, false, &self.map, tap)?)?;
        let y = self.branch.offer(y, tap)?;
        self.after.offer((x + y)?, tap)
    }
}

/// `net.2(geglu(net.0.proj(x)))`: GEGLU with an inner size of four times the channels.
#[derive(Clone, Debug)]
struct FeedForward {
    proj: Linear,
    out: Linear,
    branch: Site,
}

impl FeedForward {
    fn new(scope: &mut Scope<'_>, channels: usize) -> Result<Self> {
        let inner = 4 * channels;
        Ok(Self {
            proj: Linear::new(&mut scope.child("net.0.proj"), channels, 2 * inner)?,
            out: Linear::new(&mut scope.child("net.2"), inner, channels)?,
            branch: scope.site(Kind::Branch),
        })
    }

    fn forward(&self, x: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        self.branch.offer(self.out.forward(&geglu(&self.proj.forward(x)?)?)?, tap)
    }
}

/// `x += attn1(norm1(x)); x += attn2(norm2(x), context); x += ff(norm3(x))`.
#[derive(Clone, Debug)]
struct BasicTransformerBlock {
    norm1: LayerNorm,
    attn1: Attention,
    norm2: LayerNorm,
    attn2: Attention,
    norm3: LayerNorm,
    ff: FeedForward,
    stream: Site,
}

impl BasicTransformerBlock {
    fn new(scope: &mut Scope<'_>, shape: &TransformerShape) -> Result<Self> {
        let &TransformerShape { channels, heads, context, .. } = shape;
        let norm = |scope: &mut Scope<'_>, name: &str| {
            LayerNorm::new(&mut scope.child(name), channels, LAYER_NORM_EPS)
        };
        Ok(Self {
            norm1: norm(scope, "norm1")?,
            attn1: Attention::new(&mut scope.child("attn1"), channels, channels, heads)?,
            norm2: norm(scope, "norm2")?,
            attn2: Attention::new(&mut scope.child("attn2"), channels, context, heads)?,
            norm3: norm(scope, "norm3")?,
            ff: FeedForward::new(&mut scope.child("ff"), channels)?,
            stream: scope.site(Kind::Stream),
        })
    }

    fn forward(&self, x: &Tensor, context: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let normed = self.norm1.forward(x)?;
        let x = self.attn1.add_to(x, &normed, &normed, tap)?;
        let x = self.attn2.add_to(&x, &self.norm2.forward(&x)?, context, tap)?;
        let y = self.ff.forward(&self.norm3.forward(&x)?, tap)?;
        self.stream.offer((x + y)?, tap)
    }
}

/// A projection between channels: a linear layer over rows (2.x) or a 1×1 convolution over pixels (1.x).
#[derive(Clone, Debug)]
enum Projection {
    Rows(Linear),
    Pixels(Conv2d),
}

impl Projection {
    fn new(scope: &mut Scope<'_>, channels: usize, rows: bool) -> Result<Self> {
        Ok(match rows {
            true => Self::Rows(Linear::new(scope, channels, channels)?),
            false => Self::Pixels(Conv2d::with_bias(scope, [channels, channels], 1, 1, 0)?),
        })
    }
}

/// (B, C, H, W) → the same: pixels as rows through transformer blocks, added to the input.
#[derive(Clone, Debug)]
pub(super) struct Transformer2DModel {
    norm: GroupNorm,
    proj_in: Projection,
    enter: Site,
    blocks: Vec<BasicTransformerBlock>,
    proj_out: Projection,
    branch: Site,
    stream: Site,
}

impl Transformer2DModel {
    pub(super) fn new(scope: &mut Scope<'_>, shape: &TransformerShape) -> Result<Self> {
        let &TransformerShape { channels, groups, linear_projection, layers, .. } = shape;
        Ok(Self {
            norm: GroupNorm::new(&mut scope.child("norm"), groups, channels, NORM_EPS)?,
            proj_in: Projection::new(&mut scope.child("proj_in"), channels, linear_projection)?,
            enter: scope.child("proj_in").site(Kind::Stream),
            blocks: (0..layers)
                .map(|i| {
                    BasicTransformerBlock::new(&mut scope.child(format!("transformer_blocks.{i}")), shape)
                })
                .collect::<Result<_>>()?,
            proj_out: Projection::new(&mut scope.child("proj_out"), channels, linear_projection)?,
            branch: scope.child("proj_out").site(Kind::Branch),
            stream: scope.site(Kind::Stream),
        })
    }

    /// The activations that a pass offers.
    pub(super) fn sites(&self) -> Vec<Site> {
        let mut sites = vec![self.enter.clone(), self.branch.clone(), self.stream.clone()];
        for block in &self.blocks {
            for attention in [&block.attn1, &block.attn2] {
                let Attention { query, key, value, map, branch, after, .. } = attention;
                sites.extend([query, key, value, map, branch, after].map(Site::clone));
            }
            sites.extend([block.ff.branch.clone(), block.stream.clone()]);
        }
        sites
    }

    /// The module's path.
    pub(super) fn path(&self) -> &str {
        self.stream.path()
    }

    pub(super) fn forward(&self, x: &Tensor, context: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let (_, _, height, width) = x.dims4()?;
        let mut rows = self.enter(&self.norm.forward(x)?, tap)?;
        for block in &self.blocks {
            rows = block.forward(&rows, context, tap)?;
        }
        self.stream.offer((self.leave(&rows, height, width, tap)? + x)?, tap)
    }

    /// `proj_in`, and pixels (B, C, H, W) as rows (B, H·W, C): in the order in which the configuration's projection takes them.
    fn enter(&self, x: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        match &self.proj_in {
            Projection::Rows(linear) => self.enter.offer(linear.forward(&to_rows(x)?)?, tap),
            Projection::Pixels(conv) => to_rows(&self.enter.offer(conv.forward(x)?, tap)?),
        }
    }

    /// `proj_out`, and rows as pixels.
    fn leave(&self, rows: &Tensor, height: usize, width: usize, tap: &mut dyn Tap) -> Result<Tensor> {
        match &self.proj_out {
            Projection::Rows(linear) => {
                to_pixels(&self.branch.offer(linear.forward(rows)?, tap)?, height, width)
            }
            Projection::Pixels(conv) => {
                self.branch.offer(conv.forward(&to_pixels(rows, height, width)?)?, tap)
            }
        }
    }
}

/// (B, C, H, W) → (B, H·W, C).
fn to_rows(x: &Tensor) -> Result<Tensor> {
    contiguous(&x.flatten_from(2)?.transpose(1, 2)?)
}

/// (B, H·W, C) → (B, C, H, W).
fn to_pixels(rows: &Tensor, height: usize, width: usize) -> Result<Tensor> {
    let (b, _, c) = rows.dims3()?;
    contiguous(&rows.transpose(1, 2)?)?.reshape((b, c, height, width))
}
