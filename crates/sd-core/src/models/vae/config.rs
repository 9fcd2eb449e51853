//! `vae/config.json`.

use serde_json::{Value, json};

use crate::models::config::{ConfigError, Fields};

/// diffusers' name of the class.
pub const CLASS: &str = "AutoencoderKL";
/// Each level halves the resolution: beyond these there is no picture left.
const MOST_LEVELS: usize = 16;

/// The sizes of an autoencoder; see the documentation of diffusers' `AutoencoderKL` for the fields of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Channels of the pictures that are encoded.
    pub in_channels: usize,
    /// Channels of the pictures that are decoded.
    pub out_channels: usize,
    /// Channels of every level, from fine to coarse; each level but the last halves the resolution.
    pub block_out_channels: Vec<usize>,
    /// Residual blocks a level of the encoder has; one of the decoder has one more.
    pub layers_per_block: usize,
    /// Channels of a latent.
    pub latent_channels: usize,
    /// Groups of all group norms.
    pub norm_num_groups: usize,
    /// Side of the pictures that the model was trained on; changes nothing here.
    pub sample_size: usize,
    /// What latents are multiplied by before the UNet sees them, and divided by before they are decoded; a pipeline's business.
    pub scaling_factor: f64,
    /// Whether half precision overflows in this model, so that a pipeline should run it in `f32`.
    pub force_upcast: bool,
    /// Whether a 1×1 convolution follows the encoder.
    pub use_quant_conv: bool,
    /// Whether a 1×1 convolution precedes the decoder.
    pub use_post_quant_conv: bool,
    /// Whether the middle of encoder and decoder attends.
    pub mid_block_add_attention: bool,
}

impl Config {
    /// Reads the file's text. Fields that are absent have diffusers' defaults.
    ///
    /// # Errors
    /// Where the text is no configuration of this class, or one of its fields is not supported: all of them are named.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        let mut fields = Fields::parse(json, CLASS)?;
        let config = Self::read(&mut fields);
        config.check(&mut fields);
        block_types(&mut fields, "down_block_types", "DownEncoderBlock2D", config.block_out_channels.len());
        block_types(&mut fields, "up_block_types", "UpDecoderBlock2D", config.block_out_channels.len());
        fields.neutral("act_fn", &[json!("silu"), json!("swish")]);
        for name in ["shift_factor", "latents_mean", "latents_std"] {
            fields.neutral(name, &[Value::Null]);
        }
        fields.finish()?;
        Ok(config)
    }

    fn read(fields: &mut Fields) -> Self {
        Self {
            in_channels: fields.take("in_channels", 3),
            out_channels: fields.take("out_channels", 3),
            block_out_channels: fields.take("block_out_channels", vec![64]),
            layers_per_block: fields.take("layers_per_block", 1),
            latent_channels: fields.take("latent_channels", 4),
            norm_num_groups: fields.take("norm_num_groups", 32),
            sample_size: fields.take("sample_size", 32),
            scaling_factor: fields.take("scaling_factor", 0.18215),
            force_upcast: fields.take("force_upcast", true),
            use_quant_conv: fields.take("use_quant_conv", true),
            use_post_quant_conv: fields.take("use_post_quant_conv", true),
            mid_block_add_attention: fields.take("mid_block_add_attention", true),
        }
    }

    /// Sizes of which no network can be made.
    fn check(&self, fields: &mut Fields) {
        let groups = self.norm_num_groups;
        if self.block_out_channels.is_empty() {
            fields.fault("field `block_out_channels`: expected one number a level, found none".to_owned());
        }
        if self.block_out_channels.len() > MOST_LEVELS {
            let found = self.block_out_channels.len();
            fields.fault(format!(
                "field `block_out_channels`: expected at most {MOST_LEVELS} levels, found {found}"
            ));
        }
        for channels in &self.block_out_channels {
            if groups == 0 || *channels == 0 || !channels.is_multiple_of(groups) {
                fields.fault(format!(
                    "field `norm_num_groups`: {channels} channels cannot be split into {groups} groups"
                ));
            }
        }
        let sizes = [
            ("in_channels", self.in_channels),
            ("out_channels", self.out_channels),
            ("latent_channels", self.latent_channels),
            ("layers_per_block", self.layers_per_block),
        ];
        for (name, _) in sizes.iter().filter(|(_, size)| *size == 0) {
            fields.fault(format!("field `{name}`: expected at least 1, found 0"));
        }
        if !(self.scaling_factor.is_finite() && self.scaling_factor != 0.0) {
            fields.fault(format!(
                "field `scaling_factor`: expected a number other than 0, found {}",
                self.scaling_factor
            ));
        }
    }

    /// What diffusers would write.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let levels = self.block_out_channels.len();
        json!({
            "_class_name": CLASS,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "down_block_types": vec!["DownEncoderBlock2D"; levels],
            "up_block_types": vec!["UpDecoderBlock2D"; levels],
            "block_out_channels": self.block_out_channels,
            "layers_per_block": self.layers_per_block,
            "act_fn": "silu",
            "latent_channels": self.latent_channels,
            "norm_num_groups": self.norm_num_groups,
            "sample_size": self.sample_size,
            "scaling_factor": self.scaling_factor,
            "shift_factor": null,
            "latents_mean": null,
            "latents_std": null,
            "force_upcast": self.force_upcast,
            "use_quant_conv": self.use_quant_conv,
            "use_post_quant_conv": self.use_post_quant_conv,
            "mid_block_add_attention": self.mid_block_add_attention,
        })
    }

    /// Pixels of a picture along the side of one pixel of its latent: 8 for Stable Diffusion.
    #[must_use]
    pub fn scale(&self) -> usize {
        1 << self.block_out_channels.len().saturating_sub(1)
    }
}

/// `levels` blocks, all of the one kind that there is.
fn block_types(fields: &mut Fields, name: &str, kind: &str, levels: usize) {
    let types: Vec<String> = fields.take(name, vec![kind.to_owned()]);
    for other in types.iter().filter(|found| *found != kind) {
        fields.fault(format!("field `{name}`: expected {kind}, found {other}: not supported"));
    }
    if types.len() != levels {
        fields.fault(format!(
            "field `{name}`: expected one for each of the {levels} `block_out_channels`, found {}",
            types.len()
        ));
    }
}
