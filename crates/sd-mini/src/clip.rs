//! A text encoder and an image tower in one space: how the text encoder is trained, and how the second pair judges.

use candle_core::{D, Result, Tensor};
use sd_core::models::clip::{TextConfig, TextModel};
use sd_core::nn::{Linear, Scope};
use sd_core::taps::NoTap;

use crate::cnn::Cnn;

/// The logarithm of the scale at first, `ln(1/0.07)` (Radford et al., 2021).
const LOGIT_SCALE: f64 = 2.659_26;
/// The scale at most, there.
pub const LARGEST_SCALE: f64 = 100.0;

/// The pair.
#[derive(Clone, Debug)]
pub struct Pair {
    text: TextModel,
    image: Cnn,
    text_projection: Linear,
    visual_projection: Linear,
    logit_scale: Tensor,
}

impl Pair {
    /// The pair with the tensors of `scope`; those of the text encoder have the names of transformers' `CLIPTextModel`.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub fn new(scope: &mut Scope<'_>, text: &TextConfig, channels: &[usize]) -> Result<Self> {
        let (width, space) = (text.hidden_size, text.projection_dim);
        let features = channels.last().copied().unwrap_or(0);
        Ok(Self {
            text: TextModel::new(scope, text)?,
            image: Cnn::new(&mut scope.child("image"), channels)?,
            text_projection: Linear::without_bias(&mut scope.child("text_projection"), width, space)?,
            visual_projection: Linear::without_bias(&mut scope.child("visual_projection"), features, space)?,
            logit_scale: scope.constant("logit_scale", &[], LOGIT_SCALE)?,
        })
    }

    /// Vectors (B, P) of length 1 of captions, ids (B, T).
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn texts(&self, ids: &Tensor) -> Result<Tensor> {
        unit(&self.text_projection.forward(&self.text.forward(ids, &mut NoTap)?.pooled)?)
    }

    /// Vectors (B, P) of length 1 of pictures (B, 3, S, S).
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn images(&self, pictures: &Tensor) -> Result<Tensor> {
        unit(&self.visual_projection.forward(&self.image.pooled(pictures)?)?)
    }

    /// Scaled cosines (B, B'): a picture a row, a caption a column; the scale is `largest` at most.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn logits(&self, pictures: &Tensor, ids: &Tensor, largest: f64) -> Result<Tensor> {
        let cosines = self.images(pictures)?.matmul(&self.texts(ids)?.t()?.contiguous()?)?;
        cosines.broadcast_mul(&self.logit_scale.clamp(0.0, largest.ln())?.exp()?)
    }
}

/// Each row divided by its length.
fn unit(x: &Tensor) -> Result<Tensor> {
    x.broadcast_div(&(x.sqr()?.sum_keepdim(D::Minus1)? + 1e-12)?.sqrt()?)
}
