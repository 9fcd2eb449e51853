//! The parts of a pipeline's folder, each opened by itself.

use std::path::{Path, PathBuf};

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

/// A pipeline's folder, or one component's, and in what and where its networks will compute.
#[derive(Clone, Debug)]
pub struct Parts {
    path: PathBuf,
    /// None where the folder is one component's.
    folder: Option<Folder>,
    dtype: DType,
    device: Device,
}

impl Parts {
    /// Those of the folder `path`, whose networks are to compute in `dtype` on `device`. Only a pipeline's index is read yet; a folder
    /// without one that has a `config.json` is taken for that of whatever component is asked for.
    ///
    /// # Errors
    /// Where it is neither, or a pipeline of a kind that is not supported.
    pub fn open(path: &Path, dtype: DType, device: &Device) -> Result<Self, PipelineError> {
        let is_component = path.join("config.json").is_file() && !path.join("model_index.json").exists();
        let folder = if is_component { None } else { Some(Folder::open(path)?) };
        Ok(Self { path: path.to_owned(), folder, dtype, device: device.clone() })
    }

    /// The pipeline's folder.
    fn whole(&self) -> Result<&Folder, PipelineError> {
        self.folder.as_ref().ok_or_else(|| PipelineError::NoPipeline(self.path.clone()))
    }

    /// The denoiser's configuration: no weights are read.
    ///
    /// # Errors
    /// Where the file is absent or cannot be followed.
    pub fn unet_config(&self) -> Result<unet::Config, PipelineError> {
        self.config(Component::Unet, unet::Config::from_json)
    }

    /// The text encoder's configuration.
    ///
    /// # Errors
    /// As [`Self::unet_config`].
    pub fn text_config(&self) -> Result<TextConfig, PipelineError> {
        self.config(Component::TextEncoder, TextConfig::from_json)
    }

    /// The denoiser.
    ///
    /// # Errors
    /// Where a file is absent or broken, the configuration cannot be followed, or the tensors do not fit it.
    pub fn unet(&self) -> Result<UNet2DConditionModel, PipelineError> {
        let config = self.unet_config()?;
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
        let config = self.text_config()?;
        self.network(Component::TextEncoder, &Rules::clip_text(), |scope| TextModel::new(scope, &config))
    }

    /// The image encoder in `image_encoder/`, which pictures from text alone do not need.
    ///
    /// # Errors
    /// As [`Self::unet`].
    pub fn image_encoder(&self) -> Result<VisionModel, PipelineError> {
        let folder = if self.folder.is_some() { self.path.join(IMAGE_ENCODER) } else { self.path.clone() };
        let weights = Weights::open_for(&folder, Some(self.dtype))?;
        let config = read(&folder, VisionConfig::from_json)?;
        let rules = Rules::clip_vision();
        Ok(load(&weights, self.dtype, &self.device, &rules, |scope| VisionModel::new(scope, &config))?)
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// Where its files are absent or broken.
    pub fn tokenizer(&self) -> Result<Tokenizer, PipelineError> {
        Ok(Tokenizer::open(&self.whole()?.folder_of(Component::Tokenizer)?)?)
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
        self.whole()?.require(&Component::ALL)?;
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
            false => Err(PipelineError::Mismatch { path: self.path.clone(), what, expected, found }),
        };
        agree(
            "cross_attention_dim of the unet",
            context == text.hidden_size,
            text.hidden_size.to_string(),
            context,
        )?;
        agree(
            "out_channels of the unet",
            unet.out_channels == latent,
            latent.to_string(),
            unet.out_channels,
        )?;
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
        let Some(folder) = &self.folder else { return self::read(&self.path, read) };
        let path = || self.path.join(component.name()).join(component.config_name());
        read(&folder.config(component)?).map_err(|source| PipelineError::Config { path: path(), source })
    }

    /// The network of a component, its tensors read and frozen.
    fn network<M>(
        &self,
        component: Component,
        rules: &Rules,
        build: impl FnOnce(&mut Scope<'_>) -> TensorResult<M>,
    ) -> Result<M, PipelineError> {
        let weights = match &self.folder {
            Some(folder) => folder.weights(component, self.dtype)?,
            None => Weights::open_for(&self.path, Some(self.dtype))?,
        };
        Ok(load(&weights, self.dtype, &self.device, rules, build)?)
    }
}

/// The `config.json` of one component's folder.
fn read<C>(folder: &Path, read: impl FnOnce(&str) -> Result<C, ConfigError>) -> Result<C, PipelineError> {
    let path = folder.join("config.json");
    let text = std::fs::read_to_string(&path);
    let text = text.map_err(|source| PipelineError::Io { path: path.clone(), source })?;
    read(&text).map_err(|source| PipelineError::Config { path, source })
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
