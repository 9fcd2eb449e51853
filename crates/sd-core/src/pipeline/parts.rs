//! The parts of a pipeline's folder, each opened by itself.

use std::path::Path;

use candle_core::{DType, Device, Result as TensorResult};

use super::{PipelineError, StableDiffusion};
use crate::models::clip::{TextConfig, TextModel, Tokenizer, VisionConfig, VisionModel};
use crate::models::config::ConfigError;
use crate::models::unet::{self, UNet2DConditionModel};
use crate::models::vae::{self, AutoencoderKL};
use crate::nn::Scope;
use crate::sampling::{SamplerKind, SchedulerConfig};
use crate::weights::{Component, Folder, Rules, Weights, load};

/// Folder of the image encoder, where a pipeline has one (image prompts).
const IMAGE_ENCODER: &str = "image_encoder";

/// A pipeline's folder, and in what and where its networks will compute.
#[derive(Clone, Debug)]
pub struct Parts {
    folder: Folder,
    dtype: DType,
    device: Device,
}

impl Parts {
    /// Those of the folder `path`, whose networks are to compute in `dtype` on `device`. Only its index is read yet.
    ///
    /// # Errors
    /// Where it is no folder of a Stable Diffusion of a supported kind.
    pub fn open(path: &Path, dtype: DType, device: &Device) -> Result<Self, PipelineError> {
        Ok(Self { folder: Folder::open(path)?, dtype, device: device.clone() })
    }

    /// The denoiser.
    ///
    /// # Errors
    /// Where a file is absent or broken, the configuration cannot be followed, or the tensors do not fit it.
    pub fn unet(&self) -> Result<UNet2DConditionModel, PipelineError> {
        let config = self.config(Component::Unet, unet::Config::from_json)?;
        self.network(Component::Unet, &Rules::strict(), |scope| UNet2DConditionModel::new(scope, &config))
    }

    /// The autoencoder.
    ///
    /// # Errors
    /// As [`Self::unet`].
    pub fn vae(&self) -> Result<AutoencoderKL, PipelineError> {
        let config = self.config(Component::Vae, vae::Config::from_json)?;
        self.network(Component::Vae, &Rules::vae(), |scope| AutoencoderKL::new(scope, &config))
    }

    /// The text encoder.
    ///
    /// # Errors
    /// As [`Self::unet`].
    pub fn text_encoder(&self) -> Result<TextModel, PipelineError> {
        let config = self.config(Component::TextEncoder, TextConfig::from_json)?;
        self.network(Component::TextEncoder, &Rules::clip_text(), |scope| TextModel::new(scope, &config))
    }

    /// The image encoder in `image_encoder/`, which pictures from text alone do not need.
    ///
    /// # Errors
    /// As [`Self::unet`].
    pub fn image_encoder(&self) -> Result<VisionModel, PipelineError> {
        let folder = self.folder.path().join(IMAGE_ENCODER);
        let weights = Weights::open_for(&folder, Some(self.dtype))?;
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(|source| PipelineError::Io { path: path.clone(), source })?;
        let config = VisionConfig::from_json(&text).map_err(|source| PipelineError::Config { path, source })?;
        let rules = Rules::clip_vision();
        Ok(load(&weights, self.dtype, &self.device, &rules, |scope| VisionModel::new(scope, &config))?)
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// Where its files are absent or broken.
    pub fn tokenizer(&self) -> Result<Tokenizer, PipelineError> {
        Ok(Tokenizer::open(&self.folder.folder_of(Component::Tokenizer)?)?)
    }

    /// The sampler's settings, corrected for latents as diffusers' pipelines correct them: of `kind` where one is given, of the
    /// folder's own sampler otherwise.
    ///
    /// # Errors
    /// Where the file is absent or broken, or the sampler is not supported.
    pub fn scheduler(&self, kind: Option<SamplerKind>) -> Result<SchedulerConfig, PipelineError> {
        let read = |json: &str| match kind {
            None => SchedulerConfig::from_json(json)?.for_latents(),
            Some(kind) => SchedulerConfig::from_json_as(json, kind)?.for_latents(),
        };
        self.config(Component::Scheduler, read)
    }

    /// Everything that makes pictures, with the sampler `kind` or the folder's own.
    ///
    /// # Errors
    /// Where a component is absent or broken, or they do not belong together. What is small is looked at first, so that a fault
    /// there is told before gigabytes are read.
    pub fn pipeline(&self, kind: Option<SamplerKind>) -> Result<StableDiffusion, PipelineError> {
        self.folder.require(&Component::ALL)?;
        let (scheduler, tokenizer) = (self.scheduler(kind)?, self.tokenizer()?);
        self.check(&tokenizer)?;
        Ok(StableDiffusion {
            tokenizer,
            text_encoder: self.text_encoder()?,
            unet: self.unet()?,
            vae: self.vae()?,
            scheduler,
            dtype: self.dtype,
            device: self.device.clone(),
        })
    }

    /// Whether the components fit each other.
    fn check(&self, tokenizer: &Tokenizer) -> Result<(), PipelineError> {
        let text = self.config(Component::TextEncoder, TextConfig::from_json)?;
        let unet = self.config(Component::Unet, unet::Config::from_json)?;
        let vae = self.config(Component::Vae, vae::Config::from_json)?;
        let latent = vae.latent_channels;
        let (takes, mask) = (unet.in_channels, 2 * latent + 1);
        let context = unet.levels.first().map_or(0, |level| level.context);
        let (words, longest) = (text.vocab_size, text.max_position_embeddings);
        let agree = |what, agrees: bool, expected: String, found: usize| match agrees {
            true => Ok(()),
            false => Err(PipelineError::Mismatch { path: self.folder.path().to_owned(), what, expected, found }),
        };
        agree("cross_attention_dim of the unet", context == text.hidden_size, text.hidden_size.to_string(), context)?;
        agree("out_channels of the unet", unet.out_channels == latent, latent.to_string(), unet.out_channels)?;
        let fits = takes == latent || takes == mask;
        agree("in_channels of the unet", fits, format!("{latent}, or {mask} for inpainting"), takes)?;
        let (ids, length) = (tokenizer.vocabulary(), tokenizer.length());
        agree("tokens of the tokenizer", ids <= words, format!("at most the text encoder's {words}"), ids)?;
        agree("model_max_length of the tokenizer", length <= longest, format!("at most {longest}"), length)
    }

    /// The configuration of a component.
    fn config<C>(
        &self,
        component: Component,
        read: impl FnOnce(&str) -> Result<C, ConfigError>,
    ) -> Result<C, PipelineError> {
        let path = || self.folder.path().join(component.name()).join(component.config_name());
        read(&self.folder.config(component)?).map_err(|source| PipelineError::Config { path: path(), source })
    }

    /// The network of a component, its tensors read and frozen.
    fn network<M>(
        &self,
        component: Component,
        rules: &Rules,
        build: impl FnOnce(&mut Scope<'_>) -> TensorResult<M>,
    ) -> Result<M, PipelineError> {
        let weights = self.folder.weights(component, self.dtype)?;
        Ok(load(&weights, self.dtype, &self.device, rules, build)?)
    }
}

impl StableDiffusion {
    /// The pipeline in the diffusers folder `path`, its networks computing in `dtype` on `device`, with its own sampler.
    ///
    /// # Errors
    /// As [`Parts::open`] and [`Parts::pipeline`].
    pub fn open(path: &Path, dtype: DType, device: &Device) -> Result<Self, PipelineError> {
        Parts::open(path, dtype, device)?.pipeline(None)
    }
}
