//! `unet/config.json`.

use serde::Deserialize;
use serde_json::{Value, json};

use crate::models::config::{ConfigError, Fields};

/// diffusers' name of the class.
pub const CLASS: &str = "UNet2DConditionModel";

/// What a level of the UNet is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Whether a transformer stands behind each residual block (`CrossAttnDownBlock2D`, `CrossAttnUpBlock2D`).
    pub attends: bool,
    /// Channels.
    pub channels: usize,
    /// Heads of attention. diffusers' field `attention_head_dim` means the number of heads.
    pub heads: usize,
    /// Size of the text's vectors.
    pub context: usize,
    /// Residual blocks on the way down; one more on the way up.
    pub layers: usize,
    /// Transformer blocks in each transformer.
    pub transformer_layers: usize,
}

/// The sizes of a UNet; see the documentation of diffusers' `UNet2DConditionModel` for the fields of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Side of the latents the model was trained on.
    pub sample_size: Option<usize>,
    /// Channels of the input: 4, or 9 for inpainting (latents, mask, latents of the masked picture).
    pub in_channels: usize,
    /// Channels of the output.
    pub out_channels: usize,
    /// Whether the time embedding is [cos, sin] instead of [sin, cos].
    pub flip_sin_to_cos: bool,
    /// What is taken from the number of frequencies in the exponent's denominator.
    pub freq_shift: f64,
    /// Levels from fine to coarse, as on the way down.
    pub levels: Vec<Level>,
    /// Whether each level attends on the way up, from coarse to fine.
    pub up_attends: Vec<bool>,
    /// Padding of the down-sampling convolutions.
    pub downsample_padding: usize,
    /// Groups of the group norms.
    pub norm_num_groups: usize,
    /// ε of the group norms of residual blocks and of the output.
    pub norm_eps: f64,
    /// Linear layers (2.x) instead of 1×1 convolutions (1.x) around the transformers.
    pub use_linear_projection: bool,
    /// Kept for the file: attention's products and softmax are always in `f32` or better.
    pub upcast_attention: bool,
}

/// A value for all levels, or one for each.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Each<T> {
    One(T),
    All(Vec<T>),
}

impl Each<usize> {
    /// One for each level; a fault where there are others.
    fn levels(self, name: &str, count: usize, fields: &mut Fields) -> Vec<usize> {
        match self {
            Self::One(value) => vec![value; count],
            Self::All(values) if values.len() == count => values,
            Self::All(values) => {
                let found = values.len();
                fields.fault(format!(
                    "field `{name}`: expected one value, or one for each of {count} levels, found {found}"
                ));
                vec![1; count]
            }
        }
    }
}

impl Config {
    /// Reads the file's text. Fields that are absent have diffusers' defaults.
    ///
    /// # Errors
    /// Where the text is no configuration of this class, or one of its fields is not supported: all of them are named.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        let mut fields = Fields::parse(json, CLASS)?;
        let config = Self::read(&mut fields);
        refuse(&mut fields);
        fields.finish()?;
        Ok(config)
    }

    fn read(fields: &mut Fields) -> Self {
        let levels = levels(fields);
        let up_attends = up(fields, &levels);
        Self {
            sample_size: fields.take("sample_size", None),
            in_channels: fields.take("in_channels", 4),
            out_channels: fields.take("out_channels", 4),
            flip_sin_to_cos: fields.take("flip_sin_to_cos", true),
            freq_shift: fields.take("freq_shift", 0.0),
            downsample_padding: fields.take("downsample_padding", 1),
            norm_num_groups: groups(fields, &levels),
            norm_eps: fields.take("norm_eps", 1e-5),
            use_linear_projection: fields.take("use_linear_projection", false),
            upcast_attention: fields.take("upcast_attention", false),
            levels,
            up_attends,
        }
    }

    /// What diffusers would write.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let each = |of: fn(&Level) -> usize| self.levels.iter().map(of).collect::<Vec<_>>();
        let kind = |attends, way: &str| format!("{}{way}Block2D", if attends { "CrossAttn" } else { "" });
        let down: Vec<String> = self.levels.iter().map(|level| kind(level.attends, "Down")).collect();
        let up: Vec<String> = self.up_attends.iter().map(|attends| kind(*attends, "Up")).collect();
        json!({
            "_class_name": CLASS,
            "sample_size": self.sample_size,
            "in_channels": self.in_channels,
            "out_channels": self.out_channels,
            "flip_sin_to_cos": self.flip_sin_to_cos,
            "freq_shift": self.freq_shift,
            "down_block_types": down,
            "mid_block_type": "UNetMidBlock2DCrossAttn",
            "up_block_types": up,
            "block_out_channels": each(|level| level.channels),
            "layers_per_block": each(|level| level.layers),
            "downsample_padding": self.downsample_padding,
            "mid_block_scale_factor": 1,
            "act_fn": "silu",
            "norm_num_groups": self.norm_num_groups,
            "norm_eps": self.norm_eps,
            "cross_attention_dim": each(|level| level.context),
            "transformer_layers_per_block": each(|level| level.transformer_layers),
            "attention_head_dim": each(|level| level.heads),
            "use_linear_projection": self.use_linear_projection,
            "upcast_attention": self.upcast_attention,
        })
    }
}

/// Way of the block types: `CrossAttn…` or not; a fault for every other.
fn attends(fields: &mut Fields, name: &str, way: &str, default: [bool; 4]) -> Vec<bool> {
    let types: Option<Vec<String>> = fields.take(name, None);
    let Some(types) = types else { return default.to_vec() };
    let (plain, cross) = (format!("{way}Block2D"), format!("CrossAttn{way}Block2D"));
    for other in types.iter().filter(|kind| **kind != plain && **kind != cross) {
        fields.fault(format!("field `{name}`: expected {plain} or {cross}, found {other}: not supported"));
    }
    types.iter().map(|kind| *kind == cross).collect()
}

fn levels(fields: &mut Fields) -> Vec<Level> {
    let channels: Vec<usize> = fields.take("block_out_channels", vec![320, 640, 1280, 1280]);
    let down = attends(fields, "down_block_types", "Down", [true, true, true, false]);
    let count = channels.len();
    if down.len() != count || count == 0 {
        fields.fault(format!(
            "field `down_block_types`: expected one for each of the {count} `block_out_channels`, found {}",
            down.len()
        ));
        return Vec::new();
    }
    let mut each =
        |name: &str, default: usize| fields.take(name, Each::One(default)).levels(name, count, fields);
    let (layers, heads) = (each("layers_per_block", 2), each("attention_head_dim", 8));
    let (context, depth) = (each("cross_attention_dim", 1280), each("transformer_layers_per_block", 1));
    let level = |i: usize| Level {
        attends: down[i],
        channels: channels[i],
        heads: heads[i],
        context: context[i],
        layers: layers[i],
        transformer_layers: depth[i],
    };
    let levels: Vec<Level> = (0..count).map(level).collect();
    check_heads(fields, &levels);
    check_sizes(fields, &levels);
    levels
}

/// Sizes beyond any network: listing its parts would take all memory.
fn check_sizes(fields: &mut Fields, levels: &[Level]) {
    const CHANNELS: usize = 1 << 20;
    const LAYERS: usize = 1 << 10;
    for level in levels {
        let Level { channels, context, layers, transformer_layers, .. } = *level;
        if channels.max(context) > CHANNELS || layers.max(transformer_layers) > LAYERS {
            fields.fault(format!(
                "field `block_out_channels`, `cross_attention_dim`, `layers_per_block` or `transformer_layers_per_block`: expected at most \
                 {CHANNELS} channels and {LAYERS} layers, found {channels}, {context}, {layers} and {transformer_layers}"
            ));
        }
    }
}

fn check_heads(fields: &mut Fields, levels: &[Level]) {
    for level in levels {
        if level.heads == 0 || !level.channels.is_multiple_of(level.heads) {
            let Level { heads, channels, .. } = level;
            fields.fault(format!(
                "field `attention_head_dim` (the number of heads): {channels} channels cannot be split into {heads} heads"
            ));
        }
    }
}

fn up(fields: &mut Fields, levels: &[Level]) -> Vec<bool> {
    let up = attends(fields, "up_block_types", "Up", [false, true, true, true]);
    if up.len() != levels.len() && !levels.is_empty() {
        fields.fault(format!(
            "field `up_block_types`: expected {} of them, found {}",
            levels.len(),
            up.len()
        ));
    }
    up
}

fn groups(fields: &mut Fields, levels: &[Level]) -> usize {
    let groups: usize = fields.take("norm_num_groups", 32);
    if let Some(level) = levels.iter().find(|level| groups == 0 || !level.channels.is_multiple_of(groups)) {
        let channels = level.channels;
        fields.fault(format!(
            "field `norm_num_groups`: {channels} channels cannot be split into {groups} groups"
        ));
    }
    groups
}

/// Fields whose other values would be another network.
fn refuse(fields: &mut Fields) {
    let (null, no) = (Value::Null, json!(false));
    fields.neutral("mid_block_type", &[json!("UNetMidBlock2DCrossAttn")]);
    fields.neutral("act_fn", &[json!("silu"), json!("swish")]);
    fields.neutral("mid_block_scale_factor", &[json!(1)]);
    fields.neutral("resnet_out_scale_factor", &[json!(1)]);
    fields.neutral("resnet_time_scale_shift", &[json!("default")]);
    fields.neutral("time_embedding_type", &[json!("positional")]);
    fields.neutral("attention_type", &[json!("default")]);
    fields.neutral("conv_in_kernel", &[json!(3)]);
    fields.neutral("conv_out_kernel", &[json!(3)]);
    for name in
        ["center_input_sample", "only_cross_attention", "dual_cross_attention", "class_embeddings_concat"]
    {
        fields.neutral(name, std::slice::from_ref(&no));
    }
    fields.neutral("resnet_skip_time_act", std::slice::from_ref(&no));
    fields.neutral("mid_block_only_cross_attention", &[null.clone(), no]);
    for name in [
        "reverse_transformer_layers_per_block",
        "encoder_hid_dim",
        "encoder_hid_dim_type",
        "num_attention_heads",
        "class_embed_type",
        "addition_embed_type",
        "addition_time_embed_dim",
        "num_class_embeds",
        "time_embedding_dim",
        "time_embedding_act_fn",
        "timestep_post_act",
        "time_cond_proj_dim",
        "projection_class_embeddings_input_dim",
        "cross_attention_norm",
    ] {
        fields.neutral(name, std::slice::from_ref(&null));
    }
    fields.ignored("dropout");
    fields.ignored("addition_embed_type_num_heads");
}
