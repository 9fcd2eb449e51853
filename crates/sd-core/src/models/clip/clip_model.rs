//! Both encoders in one space: transformers' `CLIPModel`, for CLIP-Score.

use candle_core::{D, Result, Tensor};

use super::text::Projection;
use super::{ClipConfig, TextModel, VisionModel};
use crate::nn::Scope;
use crate::taps::Tap;

/// The network.
#[derive(Clone, Debug)]
pub struct Clip {
    config: ClipConfig,
    text: TextModel,
    vision: VisionModel,
    visual_projection: Projection,
    text_projection: Projection,
    logit_scale: Tensor,
}

/// Texts and pictures compared.
#[derive(Clone, Debug)]
pub struct Compared {
    /// The texts' vectors (Bt, P), of length 1.
    pub text: Tensor,
    /// The pictures' vectors (Bi, P), of length 1.
    pub image: Tensor,
    /// Cosines (Bi, Bt) of the angles between them: a picture a row, a text a column.
    pub cosines: Tensor,
    /// The cosines times e to the learnt scale: transformers' `logits_per_image`.
    pub logits: Tensor,
}

impl Clip {
    /// The network of `config` with the tensors of `scope`.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub fn new(scope: &mut Scope<'_>, config: &ClipConfig) -> Result<Self> {
        let [text, image] =
            [config.text.hidden_size, config.vision.hidden_size].map(|size| [size, config.projection_dim]);
        // The projections are this model's own.
        let mut config = config.clone();
        (config.text.projected, config.vision.projected) = (false, false);
        Ok(Self {
            vision: VisionModel::new(scope, &config.vision)?,
            visual_projection: Projection::new(&mut scope.child("visual_projection"), image)?,
            text: TextModel::new(scope, &config.text)?,
            text_projection: Projection::new(&mut scope.child("text_projection"), text)?,
            logit_scale: scope.constant("logit_scale", &[], config.logit_scale_init_value)?,
            config,
        })
    }

    /// What the network was made from.
    #[must_use]
    pub fn config(&self) -> &ClipConfig {
        &self.config
    }

    /// The text encoder.
    #[must_use]
    pub fn text(&self) -> &TextModel {
        &self.text
    }

    /// The vectors (B, P) of texts, `ids` (B, T), as long as they come.
    ///
    /// # Errors
    /// As [`TextModel::forward`].
    pub fn text_features(&self, ids: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        self.text_projection.forward(&self.text.forward(ids, tap)?.pooled, tap)
    }

    /// The vectors (B, P) of pictures, `pixels` (B, C, S, S), as long as they come.
    ///
    /// # Errors
    /// As [`VisionModel::forward`].
    pub fn image_features(&self, pixels: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        self.visual_projection.forward(&self.vision.forward(pixels, tap)?.pooled, tap)
    }

    /// How well each picture fits each text.
    ///
    /// # Errors
    /// As those of both encoders.
    pub fn forward(&self, ids: &Tensor, pixels: &Tensor, tap: &mut dyn Tap) -> Result<Compared> {
        let image = unit(&self.image_features(pixels, tap)?)?;
        let text = unit(&self.text_features(ids, tap)?)?;
        let cosines = image.matmul(&text.t()?.contiguous()?)?;
        let logits = cosines.broadcast_mul(&self.logit_scale.exp()?)?;
        Ok(Compared { text, image, cosines, logits })
    }
}

/// Each row divided by its length.
fn unit(x: &Tensor) -> Result<Tensor> {
    x.broadcast_div(&x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)
}
