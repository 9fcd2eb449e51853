//! What each model offers to a tap, from its configuration alone.

use candle_core::Result;

use super::clip::{Clip, ClipConfig, TextConfig, TextModel, VisionConfig, VisionModel};
use super::unet::UNet2DConditionModel;
use super::vae::AutoencoderKL;
use super::{unet, vae};
use crate::nn::{Scope, Specification};
use crate::taps::{Site, Sited};

fn listed<M>(build: impl FnOnce(&mut Scope<'_>) -> Result<M>) -> Result<Vec<Site>> {
    Ok(Specification::of(build)?.sites)
}

impl Sited for unet::Config {
    fn sites(&self) -> Result<Vec<Site>> {
        listed(|scope| UNet2DConditionModel::new(scope, self))
    }
}

/// The encoder's, then the decoder's.
impl Sited for vae::Config {
    fn sites(&self) -> Result<Vec<Site>> {
        listed(|scope| AutoencoderKL::new(scope, self))
    }
}

impl Sited for TextConfig {
    fn sites(&self) -> Result<Vec<Site>> {
        listed(|scope| TextModel::new(scope, self))
    }
}

impl Sited for VisionConfig {
    fn sites(&self) -> Result<Vec<Site>> {
        listed(|scope| VisionModel::new(scope, self))
    }
}

/// The text encoder's, then the image encoder's.
impl Sited for ClipConfig {
    fn sites(&self) -> Result<Vec<Site>> {
        listed(|scope| Clip::new(scope, self))
    }
}
