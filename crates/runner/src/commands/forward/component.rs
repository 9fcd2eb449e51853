//! The components by the names and tensors that diffusers and transformers give them.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use cli::Component;
use sd_core::models::clip::{TextModel, VisionModel};
use sd_core::models::unet::UNet2DConditionModel;
use sd_core::models::vae::AutoencoderKL;
use sd_core::pipeline::Parts;
use sd_core::taps::{Site, Tap, sites};

use super::inputs::{Numbers, Side, Takes};

const BATCH: Side = Side::Free("B");
const TOKENS: Side = Side::Free("T");
const HEIGHT: Side = Side::Free("H");
const WIDTH: Side = Side::Free("W");

/// A component with its weights.
pub(super) enum Network {
    Unet(UNet2DConditionModel),
    VaeEncoder(AutoencoderKL),
    VaeDecoder(AutoencoderKL),
    Text(TextModel),
    Image(VisionModel),
}

/// Tensors by name, the one that a cotangent belongs to first.
type Outputs = Vec<(&'static str, Tensor)>;

impl Network {
    pub(super) fn open(component: Component, folder: &Path, dtype: DType, device: &Device) -> Result<Self> {
        let parts = Parts::open(folder, dtype, device)?;
        Ok(match component {
            Component::Unet => Self::Unet(parts.unet()?),
            Component::VaeEncoder => Self::VaeEncoder(parts.vae()?),
            Component::VaeDecoder => Self::VaeDecoder(parts.vae()?),
            Component::TextEncoder => Self::Text(parts.text_encoder()?),
            Component::ImageEncoder => Self::Image(parts.image_encoder()?),
        })
    }

    /// As it is typed.
    pub(super) fn name(&self) -> &'static str {
        let component = match self {
            Self::Unet(_) => Component::Unet,
            Self::VaeEncoder(_) => Component::VaeEncoder,
            Self::VaeDecoder(_) => Component::VaeDecoder,
            Self::Text(_) => Component::TextEncoder,
            Self::Image(_) => Component::ImageEncoder,
        };
        component.name()
    }

    /// What goes in.
    pub(super) fn takes(&self) -> Vec<Takes> {
        let picture =
            |channels| Takes::new("sample", &[BATCH, Side::Fixed(channels), HEIGHT, WIDTH], Numbers::Real);
        match self {
            Self::Unet(unet) => {
                let context = Side::Fixed(unet.config().levels[0].context);
                vec![
                    picture(unet.config().in_channels),
                    Takes::new("timestep", &[], Numbers::Any).or(&[BATCH]),
                    Takes::new("encoder_hidden_states", &[BATCH, TOKENS, context], Numbers::Real),
                ]
            }
            Self::VaeEncoder(vae) => vec![picture(vae.config().in_channels)],
            Self::VaeDecoder(vae) => vec![picture(vae.config().latent_channels)],
            Self::Text(_) => vec![Takes::new("input_ids", &[BATCH, TOKENS], Numbers::Whole)],
            Self::Image(image) => {
                let (channels, side) = (image.config().num_channels, image.config().image_size);
                let shape = [BATCH, Side::Fixed(channels), Side::Fixed(side), Side::Fixed(side)];
                vec![Takes::new("pixel_values", &shape, Numbers::Real)]
            }
        }
    }

    /// The shape of the first output.
    pub(super) fn gives(&self) -> Vec<Side> {
        let sides = |channels| vec![BATCH, Side::Fixed(channels), HEIGHT, WIDTH];
        let smaller = |channels| vec![BATCH, Side::Fixed(channels), Side::Free("h"), Side::Free("w")];
        match self {
            Self::Unet(unet) => sides(unet.config().out_channels),
            Self::VaeEncoder(vae) => smaller(vae.config().latent_channels),
            Self::VaeDecoder(vae) => smaller(vae.config().out_channels),
            Self::Text(text) => vec![BATCH, TOKENS, Side::Fixed(text.config().hidden_size)],
            Self::Image(image) => vec![BATCH, TOKENS, Side::Fixed(image.config().hidden_size)],
        }
    }

    /// Its activations in the order of a pass.
    pub(super) fn sites(&self) -> Result<Vec<Site>> {
        let all = match self {
            Self::Unet(unet) => sites(unet.config()),
            Self::VaeEncoder(vae) | Self::VaeDecoder(vae) => sites(vae.config()),
            Self::Text(text) => sites(text.config()),
            Self::Image(image) => sites(image.config()),
        };
        let own = |site: &Site| match self {
            Self::VaeEncoder(_) => is_of_encoder(site),
            Self::VaeDecoder(_) => !is_of_encoder(site),
            _ => true,
        };
        Ok(all?.into_iter().filter(own).collect())
    }

    /// What comes out.
    pub(super) fn forward(&self, given: &BTreeMap<String, Tensor>, tap: &mut dyn Tap) -> Result<Outputs> {
        let input = |name: &str| &given[name];
        Ok(match self {
            Self::Unet(unet) => {
                let timesteps = input("timestep").flatten_all()?.to_vec1::<f64>()?;
                let output =
                    unet.forward(input("sample"), &timesteps, input("encoder_hidden_states"), tap)?;
                vec![("sample", output)]
            }
            Self::VaeEncoder(vae) => {
                let latents = vae.encode(input("sample"), tap)?;
                vec![("mean", latents.mean), ("logvar", latents.logvar)]
            }
            Self::VaeDecoder(vae) => vec![("sample", vae.decode(input("sample"), tap)?)],
            Self::Text(text) => {
                let output = text.forward(input("input_ids"), tap)?;
                encoded(output.last_hidden_state, output.pooled, ("text_embeds", output.projected))
            }
            Self::Image(image) => {
                let output = image.forward(input("pixel_values"), tap)?;
                encoded(output.last_hidden_state, output.pooled, ("image_embeds", output.projected))
            }
        })
    }
}

/// What one of CLIP's encoders gives, under transformers' names; the projection where it has one.
fn encoded(states: Tensor, pooled: Tensor, (name, projected): (&'static str, Option<Tensor>)) -> Outputs {
    let both = [("last_hidden_state", states), ("pooler_output", pooled)];
    both.into_iter().chain(projected.map(|embeds| (name, embeds))).collect()
}

/// Whether an autoencoder's activation comes about on the way to latents.
fn is_of_encoder(site: &Site) -> bool {
    site.path().starts_with("encoder.") || site.path() == "quant_conv"
}
