//! Pipelines small enough for tests and demonstrations, with random weights: every part of a Stable Diffusion, a few hundred kilobytes.

use std::path::Path;

use candle_core::{DType, Device, Result as TensorResult};
use serde_json::json;

use super::PipelineError;
use super::error::doing;
use crate::models::clip::tokenizer::byte_letters;
use crate::models::clip::{TextConfig, TextModel};
use crate::models::unet::{self, Level, UNet2DConditionModel};
use crate::models::vae::{self, AutoencoderKL};
use crate::nn::{Parameters, Scope};
use crate::ops::activation::Activation;
use crate::sampling::{Method, Prediction, SchedulerConfig, Settings};
use crate::weights::{Component, FolderWriter, Pipeline};

/// Size of the text's vectors.
const CONTEXT: usize = 32;
/// Groups of all group norms.
const GROUPS: usize = 8;
const BEGIN: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// Which Stable Diffusion a pipeline is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// 1.x: predicts the noise, PNDM, 1×1 convolutions around the transformers.
    One,
    /// 2.x: predicts v, DDIM, linear layers around the transformers, heads per level, padded with `!`.
    Two,
    /// 1.x for inpainting: nine input channels.
    Inpaint,
    /// 1.x at its full size, 4 GB: what memory and time are measured on. Its vocabulary alone is the small one.
    FullSize,
}

impl Family {
    fn is_two(self) -> bool {
        self == Self::Two
    }

    /// The UNet: latents of 16 × 16, pictures of 128 × 128.
    #[must_use]
    pub fn unet(self) -> unet::Config {
        if self == Self::FullSize {
            return full_size_unet();
        }
        let level = |attends, channels, heads| Level {
            attends,
            channels,
            heads,
            context: CONTEXT,
            layers: 1,
            transformer_layers: 1,
        };
        let first_heads = if self.is_two() { 4 } else { 8 };
        unet::Config {
            sample_size: Some(16),
            in_channels: if self == Self::Inpaint { 9 } else { 4 },
            out_channels: 4,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            levels: vec![level(true, 32, first_heads), level(true, 64, 8), level(false, 64, 8)],
            up_attends: vec![false, true, true],
            downsample_padding: 1,
            norm_num_groups: GROUPS,
            norm_eps: 1e-5,
            use_linear_projection: self.is_two(),
            upcast_attention: self.is_two(),
        }
    }

    /// The autoencoder.
    #[must_use]
    pub fn vae(self) -> vae::Config {
        let is_full = self == Self::FullSize;
        vae::Config {
            in_channels: 3,
            out_channels: 3,
            block_out_channels: if is_full { vec![128, 256, 512, 512] } else { vec![16, 16, 32, 32] },
            layers_per_block: if is_full { 2 } else { 1 },
            latent_channels: 4,
            norm_num_groups: if is_full { 32 } else { GROUPS },
            sample_size: if is_full { 512 } else { 128 },
            scaling_factor: 0.18215,
            force_upcast: true,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
        }
    }

    /// The text encoder.
    #[must_use]
    pub fn text_encoder(self) -> TextConfig {
        let vocab_size = vocabulary().len();
        let is_full = self == Self::FullSize;
        let width = if is_full { 768 } else { CONTEXT };
        TextConfig {
            vocab_size,
            hidden_size: width,
            intermediate_size: if is_full { 3072 } else { 2 * CONTEXT },
            projection_dim: width,
            num_hidden_layers: if is_full { 12 } else { 2 },
            num_attention_heads: if is_full { 12 } else { 4 },
            max_position_embeddings: 77,
            hidden_act: if self.is_two() { Activation::Gelu } else { Activation::QuickGelu },
            layer_norm_eps: 1e-5,
            pad_token_id: if self.is_two() { 0 } else { vocab_size as i64 - 1 },
            bos_token_id: vocab_size as i64 - 2,
            eos_token_id: vocab_size as i64 - 1,
            projected: false,
        }
    }

    /// The sampler's settings.
    #[must_use]
    pub fn scheduler(self) -> SchedulerConfig {
        let pndm = Method::Pndm { skip_prk_steps: true, last_alpha_is_one: false };
        let settings = match self {
            Self::Two => Settings { prediction: Prediction::V, ..Settings::stable_diffusion_ddim() },
            _ => Settings::stable_diffusion(pndm),
        };
        SchedulerConfig::new(&settings)
    }
}

/// Stable Diffusion 1.x's own: 859,520,964 parameters.
fn full_size_unet() -> unet::Config {
    let level = |attends, channels| Level {
        attends,
        channels,
        heads: 8,
        context: 768,
        layers: 2,
        transformer_layers: 1,
    };
    unet::Config {
        sample_size: Some(64),
        levels: vec![level(true, 320), level(true, 640), level(true, 1280), level(false, 1280)],
        up_attends: vec![false, true, true, true],
        norm_num_groups: 32,
        ..Family::One.unet()
    }
}

/// Writes a pipeline like `family`, its weights drawn from `seed`, into the new or empty folder `path`: diffusers loads it as well.
///
/// # Errors
/// Where the folder holds something, or cannot be written.
pub fn write(path: &Path, family: Family, seed: u64) -> Result<(), PipelineError> {
    let kind = if family == Family::Inpaint { Pipeline::Inpaint } else { Pipeline::TextToImage };
    let mut folder = FolderWriter::create(path, kind)?;
    let (unet, vae, text) = (family.unet(), family.vae(), family.text_encoder());
    let drawn = random(seed, |scope| UNet2DConditionModel::new(scope, &unet))?;
    folder.model(Component::Unet, &unet.to_json(), &drawn)?;
    let drawn = random(seed, |scope| AutoencoderKL::new(scope, &vae))?;
    folder.model(Component::Vae, &vae.to_json(), &drawn)?;
    let drawn = random(seed, |scope| TextModel::new(scope, &text))?;
    folder.model(Component::TextEncoder, &text.to_json(), &drawn)?;
    folder.scheduler(&family.scheduler().to_json())?;
    write_tokenizer(&mut folder, family)?;
    Ok(folder.finish()?)
}

type Tensors = std::collections::BTreeMap<String, candle_core::Tensor>;

fn random<M>(
    seed: u64,
    build: impl FnOnce(&mut Scope<'_>) -> TensorResult<M>,
) -> Result<Tensors, PipelineError> {
    let mut parameters = Parameters::default();
    let made = build(&mut Scope::root(&mut parameters, seed, DType::F32, &Device::Cpu));
    doing("drawing the weights", made.and_then(|_| parameters.state()))
}

fn write_tokenizer(folder: &mut FolderWriter, family: Family) -> Result<(), PipelineError> {
    let ids: serde_json::Map<_, _> =
        vocabulary().into_iter().enumerate().map(|(id, token)| (token, json!(id))).collect();
    let pad = if family.is_two() { "!" } else { END };
    let settings = json!({
        "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": BEGIN, "eos_token": END,
        "unk_token": END, "pad_token": pad, "add_prefix_space": false, "do_lower_case": true, "errors": "replace",
    });
    let ids = serde_json::Value::Object(ids).to_string();
    let settings = settings.to_string();
    let files = [
        ("vocab.json", ids.as_bytes()),
        ("merges.txt", b"#version: 0.2\n".as_slice()),
        ("tokenizer_config.json", settings.as_bytes()),
    ];
    Ok(folder.tokenizer("CLIPTokenizer", files)?)
}

/// Each byte's letter, with and without the mark of a word's end, then the special tokens. No pair is ever merged.
fn vocabulary() -> Vec<String> {
    let letters = byte_letters();
    let inside = letters.iter().map(char::to_string);
    let last = letters.iter().map(|letter| format!("{letter}</w>"));
    inside.chain(last).chain([BEGIN.to_owned(), END.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_full_size_is_the_published_one() {
        use crate::nn::Specification;
        let unet = Family::FullSize.unet();
        let specification = Specification::of(|scope| UNet2DConditionModel::new(scope, &unet));
        assert_eq!(specification.map(|found| found.count()).ok(), Some(859_520_964));
    }

    #[test]
    fn every_byte_has_a_letter_of_its_own() {
        let mut tokens = vocabulary();
        assert_eq!((tokens.len(), tokens[0].as_str()), (514, "!"));
        tokens.sort();
        tokens.dedup();
        assert_eq!(tokens.len(), 514);
    }
}
