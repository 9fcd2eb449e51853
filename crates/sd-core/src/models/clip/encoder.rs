//! The transformer that both of CLIP's encoders are: layers of attention and a feed-forward, each behind a layer norm and added to the
//! residual stream.

use candle_core::{Result, Tensor};

use super::{TextConfig, VisionConfig};
use crate::models::attention::attend;
use crate::nn::{LayerNorm, Linear, Scope};
use crate::ops::activation::Activation;
use crate::taps::{Kind, Site, Tap};

/// Sizes of a transformer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sizes {
    hidden: usize,
    intermediate: usize,
    layers: usize,
    heads: usize,
    activation: Activation,
    eps: f64,
    /// Whether a token sees those before it and itself alone.
    causal: bool,
}

impl From<&TextConfig> for Sizes {
    fn from(config: &TextConfig) -> Self {
        Self {
            hidden: config.hidden_size,
            intermediate: config.intermediate_size,
            layers: config.num_hidden_layers,
            heads: config.num_attention_heads,
            activation: config.hidden_act,
            eps: config.layer_norm_eps,
            causal: true,
        }
    }
}

impl From<&VisionConfig> for Sizes {
    fn from(config: &VisionConfig) -> Self {
        Self {
            hidden: config.hidden_size,
            intermediate: config.intermediate_size,
            layers: config.num_hidden_layers,
            heads: config.num_attention_heads,
            activation: config.hidden_act,
            eps: config.layer_norm_eps,
            causal: false,
        }
    }
}

/// The layers, one after another.
#[derive(Clone, Debug)]
pub(super) struct Encoder {
    layers: Vec<Layer>,
}

impl Encoder {
    pub(super) fn new(scope: &mut Scope<'_>, sizes: &Sizes) -> Result<Self> {
        let layer = |i: usize| Layer::new(&mut scope.child(format!("layers.{i}")), sizes);
        Ok(Self { layers: (0..sizes.layers).map(layer).collect::<Result<_>>()? })
    }

    /// The residual stream before the first layer and after each, of `x` (B, T, D).
    pub(super) fn forward(&self, x: Tensor, tap: &mut dyn Tap) -> Result<Vec<Tensor>> {
        let mut streams = vec![x];
        for layer in &self.layers {
            let last = &streams[streams.len() - 1];
            streams.push(layer.forward(last, tap)?);
        }
        Ok(streams)
    }
}

#[derive(Clone, Debug)]
struct Layer {
    layer_norm1: LayerNorm,
    self_attn: Attention,
    layer_norm2: LayerNorm,
    mlp: Mlp,
    output: Site,
}

impl Layer {
    fn new(scope: &mut Scope<'_>, sizes: &Sizes) -> Result<Self> {
        Ok(Self {
            layer_norm1: LayerNorm::new(&mut scope.child("layer_norm1"), sizes.hidden, sizes.eps)?,
            self_attn: Attention::new(&mut scope.child("self_attn"), sizes)?,
            layer_norm2: LayerNorm::new(&mut scope.child("layer_norm2"), sizes.hidden, sizes.eps)?,
            mlp: Mlp::new(&mut scope.child("mlp"), sizes)?,
            output: scope.site(Kind::Stream),
        })
    }

    fn forward(&self, x: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let x = (x + self.self_attn.forward(&self.layer_norm1.forward(x)?, tap)?)?;
        let x = self.self_attn.after.offer(x, tap)?;
        let branch = self.mlp.forward(&self.layer_norm2.forward(&x)?, tap)?;
        self.output.offer((x + branch)?, tap)
    }
}

#[derive(Clone, Debug)]
struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    heads: usize,
    causal: bool,
    query: Site,
    key: Site,
    value: Site,
    map: Site,
    output: Site,
    /// The residual stream with this module's output added.
    after: Site,
}

impl Attention {
    fn new(scope: &mut Scope<'_>, sizes: &Sizes) -> Result<Self> {
        let size = sizes.hidden;
        Ok(Self {
            q_proj: Linear::new(&mut scope.child("q_proj"), size, size)?,
            k_proj: Linear::new(&mut scope.child("k_proj"), size, size)?,
            v_proj: Linear::new(&mut scope.child("v_proj"), size, size)?,
            out_proj: Linear::new(&mut scope.child("out_proj"), size, size)?,
            heads: sizes.heads,
            causal: sizes.causal,
            query: scope.child("q_proj").site(Kind::Query),
            key: scope.child("k_proj").site(Kind::Key),
            value: scope.child("v_proj").site(Kind::Value),
            map: scope.site(Kind::Map),
            output: scope.site(Kind::Branch),
            after: scope.site(Kind::After),
        })
    }

    fn forward(&self, x: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let q = self.query.offer(self.q_proj.forward(x)?, tap)?;
        let k = self.key.offer(self.k_proj.forward(x)?, tap)?;
        let v = self.value.offer(self.v_proj.forward(x)?, tap)?;
        let y = attend([&q, &k, &v], self.heads, self.causal, &self.map, tap)?;
        self.output.offer(self.out_proj.forward(&y)?, tap)
    }
}

#[derive(Clone, Debug)]
struct Mlp {
    fc1: Linear,
    fc2: Linear,
    activation: Activation,
    output: Site,
}

impl Mlp {
    fn new(scope: &mut Scope<'_>, sizes: &Sizes) -> Result<Self> {
        Ok(Self {
            fc1: Linear::new(&mut scope.child("fc1"), sizes.hidden, sizes.intermediate)?,
            fc2: Linear::new(&mut scope.child("fc2"), sizes.intermediate, sizes.hidden)?,
            activation: sizes.activation,
            output: scope.site(Kind::Branch),
        })
    }

    fn forward(&self, x: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let y = self.fc2.forward(&self.fc1.forward_with(x, self.activation)?)?;
        self.output.offer(y, tap)
    }
}
