//! Stable Diffusion as a whole: a prompt goes in, pictures come out, the same as diffusers' for the same weights and seed.
//!
//! ```no_run
//! use candle_core::{DType, Device};
//! use sd_core::pipeline::{Request, StableDiffusion, Unwatched};
//!
//! # fn main() -> Result<(), sd_core::pipeline::PipelineError> {
//! let model = StableDiffusion::open("models/sd-v1-4".as_ref(), DType::F32, &Device::Cpu)?;
//! let pictures = model.generate(&Request::new("a lighthouse in a storm"), &mut Unwatched)?;
//! println!("{:?}", pictures.pixels.dims()); // (1, 512, 512, 3)
//! # Ok(())
//! # }
//! ```
//!
//! The steps of [`StableDiffusion::generate`] are public one by one: [`StableDiffusion::encode`], [`StableDiffusion::latents`],
//! [`StableDiffusion::denoise`], [`StableDiffusion::decode`], [`pixels`]. A [`Watch`] is told of every step, may stop between two,
//! and hands out the tap of each pass of the UNet.
//!
//! Latents and the sampler's arithmetic stay in `f32` (`f64` for a model in `f64`) whatever the networks compute in. No safety
//! checker is run.

mod error;
mod inpaint;
mod noise;
mod parts;
mod picture;
mod request;
mod run;
#[cfg(test)]
mod tests;
pub mod tiny;
mod watch;

use candle_core::{DType, Device, Tensor};

pub use self::error::PipelineError;
pub use self::inpaint::Extra;
pub use self::noise::Noise;
pub use self::parts::Parts;
pub use self::picture::{from_pixels, pixels};
pub use self::request::{Inpaint, Request};
pub use self::run::Plan;
pub use self::watch::{Step, Unwatched, Watch};
use crate::models::clip::{TextModel, Tokenizer};
use crate::models::unet::UNet2DConditionModel;
use crate::models::vae::AutoencoderKL;
use crate::sampling::SchedulerConfig;

/// The networks of a pipeline, its tokenizer and its sampler's settings, all of one dtype on one device.
#[derive(Clone, Debug)]
pub struct StableDiffusion {
    /// From text to ids.
    pub tokenizer: Tokenizer,
    /// From ids to vectors.
    pub text_encoder: TextModel,
    /// The denoiser.
    pub unet: UNet2DConditionModel,
    /// Between latents and pictures.
    pub vae: AutoencoderKL,
    /// The model's own sampler, and what every sampler of it shares.
    pub scheduler: SchedulerConfig,
    /// What the networks compute in.
    pub dtype: DType,
    /// Where.
    pub device: Device,
}

/// What a request led to.
#[derive(Clone, Debug)]
pub struct Pictures {
    /// (B, 4, H/8, W/8): the latents after the last step.
    pub latents: Tensor,
    /// (B, H, W, 3) of `u8` on the CPU.
    pub pixels: Tensor,
}
