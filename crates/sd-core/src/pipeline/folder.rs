//! The components of a diffusers folder, each opened by itself.

use std::path::{Path, PathBuf};
use std::{fs, io};

use candle_core::{DType, Device};
use serde_json::Value;

use super::{PipelineError, StableDiffusion};
use crate::models::clip::{TextConfig, TextModel, Tokenizer, VisionConfig, VisionModel};
use crate::models::config::ConfigError;
use crate::models::unet::{self, UNet2DConditionModel};
use crate::models::vae::{self, AutoencoderKL};
use crate::nn::Scope;
use crate::sampling::{SamplerKind, SchedulerConfig};
use crate::weights::{Rules, Weights, load};

/// diffusers' pipelines whose parts are those of a [`StableDiffusion`].
const CLASSES: [&str; 3] =
    ["StableDiffusionPipeline", "StableDiffusionInpaintPipeline", "StableDiffusionImg2ImgPipeline"];

/// A diffusers folder, and in what and where its networks will compute.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    dtype: DType,
    device: Device,
}

impl Folder {
    /// The folder `path` (`unet/`, `vae/`, `text_encoder/`, `tokenizer/`, `scheduler/`); nothing is read yet.
    #[must_use]
    pub fn new(path: &Path, dtype: DType, device: &Device) -> Self {
        Self { path: path.to_owned(), dtype, device: device.clone() }
    }

    /// The denoiser.
    ///
    /// # Errors
    /// Where a file is absent or broken, the configuration cannot be followed, or the tensors do not fit it.
    pub fn unet(&self) -> Result<UNet2DConditionModel, PipelineError> {
        let config = self.config("unet", unet::Config::from_json)?;
        self.network("unet", &Rules::strict(), |scope| UNet2DConditionModel::new(scope, &config))
    }

    /// The autoencoder.
    ///
    /// # Errors
    /// As [`Self::unet`].
    pub fn vae(&self) -> Result<AutoencoderKL, PipelineError> {
        let config = self.config("vae", vae::Config::from_json)?;
        self.network("vae", &Rules::vae(), |scope| AutoencoderKL::new(scope, &config))
    }

    /// The text encoder.
    ///
    /// # Errors
    /// As [`Self::unet`].
    pub fn text_encoder(&self) -> Result<TextModel, PipelineError> {
        let config = self.config("text_encoder", TextConfig::from_json)?;
        self.network("text_encoder", &Rules::clip_text(), |scope| TextModel::new(scope, &config))
    }

    /// The image encoder, which Stable Diffusion itself does not use: image prompts and CLIP-Score do.
    ///
    /// # Errors
    /// As [`Self::unet`].
    pub fn image_encoder(&self) -> Result<VisionModel, PipelineError> {
        let config = self.config("image_encoder", VisionConfig::from_json)?;
        self.network("image_encoder", &Rules::clip_vision(), |scope| VisionModel::new(scope, &config))
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// Where its files are absent or broken.
    pub fn tokenizer(&self) -> Result<Tokenizer, PipelineError> {
        Ok(Tokenizer::open(&self.path.join("tokenizer"))?)
    }
}

impl Folder {
    /// The sampler's settings, corrected for latents as diffusers' pipelines correct them, for `kind` where one is given and the
    /// folder's own sampler otherwise.
    ///
    /// # Errors
    /// Where the file is absent or broken, or the sampler is not supported.
    pub fn scheduler(&self, kind: Option<SamplerKind>) -> Result<SchedulerConfig, PipelineError> {
        let read = |json: &str| match kind {
            None => SchedulerConfig::from_json(json)?.for_latents(),
            Some(kind) => SchedulerConfig::from_json_as(json, kind)?.for_latents(),
        };
        self.file("scheduler/scheduler_config.json", read)
    }

    /// Everything that makes pictures.
    ///
    /// # Errors
    /// Where the folder is no Stable Diffusion of a supported kind, a component is absent or broken, or they do not belong together.
    pub fn pipeline(&self, kind: Option<SamplerKind>) -> Result<StableDiffusion, PipelineError> {
        self.check_class()?;
        // What is small comes first: a fault there is told before gigabytes are read.
        let (scheduler, tokenizer) = (self.scheduler(kind)?, self.tokenizer()?);
        self.check_configurations(&tokenizer)?;
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

    /// Whether `model_index.json` names a pipeline whose parts are used here as there.
    fn check_class(&self) -> Result<(), PipelineError> {
        let read = |json: &str| {
            let value: Value = serde_json::from_str(json)
                .map_err(|error| ConfigError::NotAnObject { found: error.to_string() })?;
            match value.get("_class_name").and_then(Value::as_str) {
                Some(class) if CLASSES.contains(&class) => Ok(()),
                class => Err(ConfigError::Class {
                    expected: CLASSES.join(" or "),
                    found: class.unwrap_or("none").to_owned(),
                }),
            }
        };
        self.file("model_index.json", read)
    }

    fn check_configurations(&self, tokenizer: &Tokenizer) -> Result<(), PipelineError> {
        let text = self.config("text_encoder", TextConfig::from_json)?;
        let unet = self.config("unet", unet::Config::from_json)?;
        let vae = self.config("vae", vae::Config::from_json)?;
        let latent = vae.latent_channels;
        let context = unet.levels.first().map_or(0, |level| level.context);
        self.agree("size of the text's vectors in unet and text_encoder", context, text.hidden_size)?;
        self.agree("channels of what the unet gives and of the vae's latents", unet.out_channels, latent)?;
        self.agree_on("tokens in tokenizer and text_encoder", tokenizer.vocabulary() <= text.vocab_size, || {
            (format!("at most {}", text.vocab_size), tokenizer.vocabulary())
        })?;
        self.agree_on("length of a prompt", tokenizer.length() <= text.max_position_embeddings, || {
            (format!("at most {}", text.max_position_embeddings), tokenizer.length())
        })?;
        self.agree_on("input channels of the unet", [latent, 2 * latent + 1].contains(&unet.in_channels), || {
            (format!("{latent}, or {} for inpainting", 2 * latent + 1), unet.in_channels)
        })
    }

    fn agree(&self, what: &'static str, one: usize, other: usize) -> Result<(), PipelineError> {
        self.agree_on(what, one == other, || (one.to_string(), other))
    }

    fn agree_on(
        &self,
        what: &'static str,
        agrees: bool,
        faults: impl FnOnce() -> (String, usize),
    ) -> Result<(), PipelineError> {
        if agrees {
            return Ok(());
        }
        let (expected, found) = faults();
        Err(PipelineError::Mismatch { path: self.path.clone(), what, expected, found: found.to_string() })
    }

    /// The configuration of a component.
    fn config<C>(
        &self,
        component: &str,
        read: impl FnOnce(&str) -> Result<C, ConfigError>,
    ) -> Result<C, PipelineError> {
        self.file(&format!("{component}/config.json"), read)
    }

    fn file<C>(&self, name: &str, read: impl FnOnce(&str) -> Result<C, ConfigError>) -> Result<C, PipelineError> {
        let path = self.path.join(name);
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(source) => return Err(self.absent(path, source)),
        };
        read(&text).map_err(|source| PipelineError::Config { path, source })
    }

    fn absent(&self, path: PathBuf, source: io::Error) -> PipelineError {
        if source.kind() != io::ErrorKind::NotFound {
            return PipelineError::Io { path, source };
        }
        PipelineError::Absent { path, found: names_in(&self.path) }
    }

    /// The network of a component, its tensors read and frozen.
    fn network<M>(
        &self,
        component: &str,
        rules: &Rules,
        build: impl FnOnce(&mut Scope<'_>) -> candle_core::Result<M>,
    ) -> Result<M, PipelineError> {
        let weights = Weights::open_for(&self.path.join(component), Some(self.dtype))?;
        Ok(load(&weights, self.dtype, &self.device, rules, build)?)
    }
}

/// What a folder holds, for a message.
fn names_in(folder: &Path) -> String {
    let Ok(entries) = fs::read_dir(folder) else { return "no such folder".to_owned() };
    let names = entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()));
    let mut names: Vec<String> = names.take(20).collect();
    names.sort();
    if names.is_empty() { "an empty folder".to_owned() } else { names.join(", ") }
}

impl StableDiffusion {
    /// The pipeline in the diffusers folder `path`, its networks computing in `dtype` on `device`, with its own sampler.
    ///
    /// # Errors
    /// As [`Folder::pipeline`].
    pub fn open(path: &Path, dtype: DType, device: &Device) -> Result<Self, PipelineError> {
        Folder::new(path, dtype, device).pipeline(None)
    }
}
