//! The sizes of the networks, as diffusers and transformers write them.

use candle_core::Result;
use sd_core::models::clip::TextConfig;
use sd_core::models::{unet, vae};
use sd_core::nn::Specification;
use sd_core::ops::activation::Activation;
use sd_core::sampling::{SchedulerConfig, Settings};

use crate::recipe::{Recipe, TextRecipe};
use crate::tokenizer::Vocabulary;

/// Groups of all group norms.
pub const GROUPS: usize = 8;
/// Channels of a latent.
pub const LATENT_CHANNELS: usize = 4;

/// The text encoder.
#[must_use]
pub fn text_encoder(recipe: &TextRecipe, vocabulary: &Vocabulary) -> TextConfig {
    TextConfig {
        vocab_size: vocabulary.tokens.len(),
        hidden_size: recipe.width,
        intermediate_size: 4 * recipe.width,
        projection_dim: recipe.width,
        num_hidden_layers: recipe.layers,
        num_attention_heads: recipe.heads,
        max_position_embeddings: recipe.positions,
        hidden_act: Activation::QuickGelu,
        layer_norm_eps: 1e-5,
        pad_token_id: vocabulary.end() as i64,
        bos_token_id: vocabulary.begin() as i64,
        eos_token_id: vocabulary.end() as i64,
        projected: false,
    }
}

/// The autoencoder; `scaling_factor` is one over the root mean square of its latents' means.
#[must_use]
pub fn autoencoder(recipe: &Recipe, scaling_factor: f64) -> vae::Config {
    vae::Config {
        in_channels: 3,
        out_channels: 3,
        block_out_channels: recipe.vae.channels.clone(),
        layers_per_block: recipe.vae.layers,
        latent_channels: LATENT_CHANNELS,
        norm_num_groups: GROUPS,
        sample_size: recipe.side,
        scaling_factor,
        force_upcast: false,
        use_quant_conv: true,
        use_post_quant_conv: true,
        mid_block_add_attention: true,
    }
}

/// The denoiser: Stable Diffusion 1.x's topology.
#[must_use]
pub fn denoiser(recipe: &Recipe) -> unet::Config {
    let factor = 1 << (recipe.vae.channels.len() - 1);
    let level = |index: usize, channels| unet::Level {
        attends: index < 3,
        channels,
        heads: recipe.unet.heads,
        context: recipe.text.width,
        layers: 2,
        transformer_layers: 1,
    };
    unet::Config {
        sample_size: Some(recipe.side / factor),
        in_channels: LATENT_CHANNELS,
        out_channels: LATENT_CHANNELS,
        flip_sin_to_cos: true,
        freq_shift: 0.0,
        levels: recipe
            .unet
            .channels
            .into_iter()
            .enumerate()
            .map(|(index, channels)| level(index, channels))
            .collect(),
        up_attends: vec![false, true, true, true],
        downsample_padding: 1,
        norm_num_groups: GROUPS,
        norm_eps: 1e-5,
        use_linear_projection: false,
        upcast_attention: false,
    }
}

/// Stable Diffusion's schedule of noise, sampled by DDIM.
#[must_use]
pub fn scheduler() -> SchedulerConfig {
    SchedulerConfig::new(&Settings::stable_diffusion_ddim())
}

/// Scalars in the parameters of (text encoder, autoencoder, denoiser).
///
/// # Errors
/// Where the sizes make no network.
pub fn counts(recipe: &Recipe, vocabulary: &Vocabulary) -> Result<[usize; 3]> {
    use sd_core::models::{clip::TextModel, unet::UNet2DConditionModel, vae::AutoencoderKL};
    let text = Specification::of(|scope| TextModel::new(scope, &text_encoder(&recipe.text, vocabulary)))?;
    let vae = Specification::of(|scope| AutoencoderKL::new(scope, &autoencoder(recipe, 1.0)))?;
    let unet = Specification::of(|scope| UNet2DConditionModel::new(scope, &denoiser(recipe)))?;
    Ok([text.count(), vae.count(), unet.count()])
}
