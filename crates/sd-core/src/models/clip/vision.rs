//! The image encoder: transformers' `CLIPVisionModel` and `CLIPVisionModelWithProjection`.

use candle_core::{Result, Tensor, bail};

use super::VisionConfig;
use super::encoder::{Encoder, Sizes};
use super::text::Projection;
use crate::nn::{Conv2d, Embedding, LayerNorm, Scope};
use crate::taps::{Kind, Site, Tap};

/// The network: a picture's squares and a class token as tokens, a transformer, the class token's last vector.
#[derive(Clone, Debug)]
pub struct VisionModel {
    config: VisionConfig,
    vision_model: Transformer,
    visual_projection: Option<Projection>,
}

/// What the image encoder gives.
#[derive(Clone, Debug)]
pub struct VisionOutput {
    /// The residual stream after the last layer (B, 1 + squares, D), no norm applied: the class token, then the squares row by row.
    pub last_hidden_state: Tensor,
    /// The class token's vector, normalised (B, D).
    pub pooled: Tensor,
    /// `pooled`, projected (B, P), where the model has a projection.
    pub projected: Option<Tensor>,
    /// The residual stream before the first layer and after each.
    pub hidden_states: Vec<Tensor>,
}

impl VisionModel {
    /// The network of `config` with the tensors of `scope`.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub fn new(scope: &mut Scope<'_>, config: &VisionConfig) -> Result<Self> {
        let vision_model = Transformer::new(&mut scope.child("vision_model"), config)?;
        let sizes = [config.hidden_size, config.projection_dim];
        let visual_projection = match config.projected {
            true => Some(Projection::new(&mut scope.child("visual_projection"), sizes)?),
            false => None,
        };
        Ok(Self { config: config.clone(), vision_model, visual_projection })
    }

    /// What the network was made from.
    #[must_use]
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// Encodes `pixels` (B, C, S, S) as [`super::Preprocessor`] gives them.
    ///
    /// # Errors
    /// Where the shape does not fit, and where the tap fails or stops.
    pub fn forward(&self, pixels: &Tensor, tap: &mut dyn Tap) -> Result<VisionOutput> {
        let (channels, side) = (self.config.num_channels, self.config.image_size);
        if pixels.rank() != 4 || pixels.dims()[1..] != [channels, side, side] {
            bail!("image encoder: expected pixels (B,{channels},{side},{side}), found {:?}", pixels.dims());
        }
        let hidden_states = self.vision_model.forward(pixels, tap)?;
        let last_hidden_state = hidden_states[hidden_states.len() - 1].clone();
        let pooled = self.vision_model.finish(&last_hidden_state, tap)?;
        let project = |projection: &Projection| projection.forward(&pooled, tap);
        let projected = self.visual_projection.as_ref().map(project).transpose()?;
        Ok(VisionOutput { last_hidden_state, pooled, projected, hidden_states })
    }
}

/// `vision_model`: all but the projection.
#[derive(Clone, Debug)]
struct Transformer {
    embeddings: Embeddings,
    /// The name is transformers'.
    pre_layrnorm: LayerNorm,
    input: Site,
    encoder: Encoder,
    post_layernorm: LayerNorm,
    output: Site,
}

impl Transformer {
    fn new(scope: &mut Scope<'_>, config: &VisionConfig) -> Result<Self> {
        let (size, eps) = (config.hidden_size, config.layer_norm_eps);
        Ok(Self {
            embeddings: Embeddings::new(&mut scope.child("embeddings"), config)?,
            pre_layrnorm: LayerNorm::new(&mut scope.child("pre_layrnorm"), size, eps)?,
            input: scope.child("pre_layrnorm").site(Kind::Stream),
            encoder: Encoder::new(&mut scope.child("encoder"), &Sizes::from(config))?,
            post_layernorm: LayerNorm::new(&mut scope.child("post_layernorm"), size, eps)?,
            output: scope.child("post_layernorm").site(Kind::Feature),
        })
    }

    fn forward(&self, pixels: &Tensor, tap: &mut dyn Tap) -> Result<Vec<Tensor>> {
        let x = self.pre_layrnorm.forward(&self.embeddings.forward(pixels, tap)?)?;
        self.encoder.forward(self.input.offer(x, tap)?, tap)
    }

    fn finish(&self, last: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let class = last.narrow(1, 0, 1)?.squeeze(1)?;
        self.output.offer(self.post_layernorm.forward(&class)?, tap)
    }
}

#[derive(Clone, Debug)]
struct Embeddings {
    class_embedding: Tensor,
    patch_embedding: Conv2d,
    position_embedding: Embedding,
    patches: Site,
    output: Site,
}

impl Embeddings {
    fn new(scope: &mut Scope<'_>, config: &VisionConfig) -> Result<Self> {
        let (size, patch) = (config.hidden_size, config.patch_size);
        let channels = [config.num_channels, size];
        Ok(Self {
            class_embedding: scope.normal("class_embedding", &[size], (size as f64).powf(-0.5))?,
            patch_embedding: Conv2d::new(&mut scope.child("patch_embedding"), channels, patch, patch, 0)?,
            position_embedding: Embedding::new(
                &mut scope.child("position_embedding"),
                config.patches() + 1,
                size,
            )?,
            patches: scope.child("patch_embedding").site(Kind::Feature),
            output: scope.site(Kind::Feature),
        })
    }

    fn forward(&self, pixels: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let patches = self.patches.offer(self.patch_embedding.forward(pixels)?, tap)?;
        let patches = patches.flatten_from(2)?.transpose(1, 2)?;
        let (batch, _, size) = patches.dims3()?;
        let class = self.class_embedding.broadcast_as((batch, 1, size))?;
        let tokens = Tensor::cat(&[&class, &patches], 1)?;
        self.output.offer(tokens.broadcast_add(self.position_embedding.weight())?, tap)
    }
}
