//! Filling in: the mask and the picture without its masked part stand beside the latents, nine channels in all.

use candle_core::{Result as TensorResult, Tensor, bail};

use super::error::doing;
use super::{Inpaint, Noise, PipelineError, Request, StableDiffusion};
use crate::models::vae::DiagonalGaussian;
use crate::taps::NoTap;

/// What stands beside the latents of each row.
#[derive(Clone, Debug)]
pub struct Extra(Tensor);

impl Extra {
    /// (N, 9, h, w) of scaled latents (N, 4, h, w), whose rows are those of the batch, once or twice.
    pub(super) fn beside(&self, latents: &Tensor) -> TensorResult<Tensor> {
        let times = latents.dims()[0] / self.0.dims()[0];
        Tensor::cat(&[latents, &self.0.repeat((times, 1, 1, 1))?.to_dtype(latents.dtype())?], 1)
    }
}

impl StableDiffusion {
    /// Whether the model fills in pictures: its UNet takes the mask and the masked picture's latents besides.
    #[must_use]
    pub fn inpaints(&self) -> bool {
        self.unet.config().in_channels == 2 * self.vae.config().latent_channels + 1
    }

    /// Whether the request has what an inpainting model needs, and of the right size.
    pub(super) fn check_inpaint(&self, request: &Request, size: [usize; 2]) -> Result<(), PipelineError> {
        match (&request.inpaint, self.inpaints()) {
            (None, true) => Err(PipelineError::Inpaint(
                "this model fills in pictures (its UNet has 9 input channels): give the picture and a mask, or use another model",
            )),
            (Some(_), false) => Err(PipelineError::Inpaint(
                "this model does not fill in pictures (its UNet has no channels for a mask): leave picture and mask out, or use a \
                 model for inpainting",
            )),
            (Some(inpaint), true) => check_sizes(inpaint, request.prompts.len(), size),
            (None, false) => Ok(()),
        }
    }

    /// Mask and latents of the masked picture, where `request` has them: the stream of `noise` goes on from the draw of the latents.
    ///
    /// # Errors
    /// Where a computation fails.
    pub fn extra(&self, request: &Request, noise: &mut Noise) -> Result<Option<Extra>, PipelineError> {
        let make = |inpaint: &Inpaint| self.mask_latents(inpaint, request.prompts.len(), noise);
        request.inpaint.as_ref().map(make).transpose()
    }

    fn mask_latents(
        &self,
        inpaint: &Inpaint,
        batch: usize,
        noise: &mut Noise,
    ) -> Result<Extra, PipelineError> {
        doing("encoding the masked picture", self.mask_latents_of(inpaint, batch, noise))
    }

    fn mask_latents_of(&self, inpaint: &Inpaint, batch: usize, noise: &mut Noise) -> TensorResult<Extra> {
        let to = |tensor: &Tensor| tensor.to_device(&self.device)?.to_dtype(self.latent_dtype());
        let (picture, mask) = (to(&inpaint.picture)?, to(&inpaint.mask)?.ge(0.5)?);
        let stays = mask.eq(0u8)?.to_dtype(picture.dtype())?;
        let masked = picture.broadcast_mul(&stays)?;
        let latents = self.vae.encode(&masked.to_dtype(self.dtype)?, &mut NoTap)?;
        let fresh = noise.draw(latents.mean.dims())?;
        let [mean, logvar] = [&latents.mean, &latents.logvar].map(|tensor| tensor.to_dtype(fresh.dtype()));
        let latents = DiagonalGaussian { mean: mean?, logvar: logvar? }.sample(&fresh)?;
        let latents = (latents * self.vae.config().scaling_factor)?;
        let mask = every(&mask.to_dtype(fresh.dtype())?, self.vae.config().scale())?;
        let rows = |tensor: &Tensor| tensor.repeat((batch / tensor.dims()[0], 1, 1, 1));
        Ok(Extra(Tensor::cat(&[rows(&mask)?, rows(&latents)?], 1)?))
    }
}

/// Every `factor`-th number of both axes: PyTorch's nearest interpolation to a size that divides.
fn every(mask: &Tensor, factor: usize) -> TensorResult<Tensor> {
    let [_, _, height, width] = *mask.dims() else {
        bail!("expected a mask (B,1,H,W), found {:?}", mask.dims())
    };
    let take = |n: usize| Tensor::from_iter((0..n as u32).step_by(factor), mask.device());
    mask.index_select(&take(height)?, 2)?.index_select(&take(width)?, 3)
}

fn check_sizes(inpaint: &Inpaint, batch: usize, [height, width]: [usize; 2]) -> Result<(), PipelineError> {
    for (setting, tensor, channels) in [("picture", &inpaint.picture, 3), ("mask", &inpaint.mask, 1)] {
        let rows = tensor.dims().first().is_some_and(|rows| *rows == 1 || *rows == batch);
        if !rows || tensor.rank() != 4 || tensor.dims()[1..] != [channels, height, width] {
            let expected = format!("[1 or B, {channels}, {height}, {width}], as is asked for");
            let found = format!("{:?}", tensor.dims());
            return Err(PipelineError::Setting { setting, expected, found });
        }
    }
    Ok(())
}
