//! `config.json` of CLIP's models, in transformers' fields.

use serde_json::{Value, json};

use crate::models::config::{ConfigError, Fields};
use crate::ops::activation::Activation;

pub(super) const TEXT: &str = "CLIPTextModel";
pub(super) const TEXT_PROJECTED: &str = "CLIPTextModelWithProjection";
pub(super) const VISION: &str = "CLIPVisionModel";
pub(super) const VISION_PROJECTED: &str = "CLIPVisionModelWithProjection";
pub(super) const BOTH: &str = "CLIPModel";

/// transformers' names of the activations that can be followed.
const ACTIVATIONS: [(&str, Activation); 4] = [
    ("quick_gelu", Activation::QuickGelu),
    ("gelu", Activation::Gelu),
    ("gelu_pytorch_tanh", Activation::GeluTanh),
    ("gelu_new", Activation::GeluTanh),
];

/// Fields that transformers has written into every model's configuration at one time or another, and that change nothing in a
/// forward pass of CLIP: training, text generation, bookkeeping.
const WITHOUT_EFFECT: [&str; 62] = [
    "attention_dropout",
    "dropout",
    "initializer_factor",
    "initializer_range",
    "torch_dtype",
    "dtype",
    "return_dict",
    "output_attentions",
    "output_hidden_states",
    "add_cross_attention",
    "bad_words_ids",
    "begin_suppress_tokens",
    "chunk_size_feed_forward",
    "cross_attention_hidden_size",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "id2label",
    "is_decoder",
    "is_encoder_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_return_sequences",
    "num_labels",
    "prefix",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tie_word_embeddings",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torchscript",
    "typical_p",
    "use_bfloat16",
    "use_cache",
    "gradient_checkpointing",
    "attn_implementation",
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_attn_implementation_internal",
    "name_or_path",
    "output_scores",
    "is_composition",
];

/// Sizes of a text encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct TextConfig {
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Channels of the residual stream, and of the vectors given.
    pub hidden_size: usize,
    /// Channels between the two layers of a feed-forward.
    pub intermediate_size: usize,
    /// Size of the projected vector.
    pub projection_dim: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of attention; they divide `hidden_size`.
    pub num_attention_heads: usize,
    /// Rows of the position embedding: the longest prompt.
    pub max_position_embeddings: usize,
    /// Between the two layers of a feed-forward.
    pub hidden_act: Activation,
    /// ε of the layer norms.
    pub layer_norm_eps: f64,
    /// Id of the padding; kept for the file.
    pub pad_token_id: i64,
    /// Id of begin-of-text; kept for the file.
    pub bos_token_id: i64,
    /// Id of end-of-text. 2, which older files say wrongly, means the highest id of a prompt.
    pub eos_token_id: i64,
    /// Whether the model has a projection (`CLIPTextModelWithProjection`).
    pub projected: bool,
}

/// Sizes of an image encoder.
#[derive(Clone, Debug, PartialEq)]
pub struct VisionConfig {
    /// Channels of the residual stream.
    pub hidden_size: usize,
    /// Channels between the two layers of a feed-forward.
    pub intermediate_size: usize,
    /// Size of the projected vector.
    pub projection_dim: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// Heads of attention; they divide `hidden_size`.
    pub num_attention_heads: usize,
    /// Channels of a picture.
    pub num_channels: usize,
    /// Side of a picture.
    pub image_size: usize,
    /// Side of the squares that a picture is cut into; divides `image_size`.
    pub patch_size: usize,
    /// Between the two layers of a feed-forward.
    pub hidden_act: Activation,
    /// ε of the layer norms.
    pub layer_norm_eps: f64,
    /// Whether the model has a projection (`CLIPVisionModelWithProjection`).
    pub projected: bool,
}

/// Sizes of both encoders together.
#[derive(Clone, Debug, PartialEq)]
pub struct ClipConfig {
    /// The text encoder.
    pub text: TextConfig,
    /// The image encoder.
    pub vision: VisionConfig,
    /// Size of the vectors that are compared.
    pub projection_dim: usize,
    /// What the logarithm of the scale starts from in training.
    pub logit_scale_init_value: f64,
}

impl TextConfig {
    /// Reads the file's text; that of a whole CLIP gives its text encoder. Fields that are absent have transformers' defaults.
    ///
    /// # Errors
    /// Where the text is no configuration of this class, or one of its fields is not supported: all of them are named.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        let value = part(parse(json)?, "text_config");
        let projected = named(&value, TEXT_PROJECTED);
        Ok(Self { projected, ..Self::of(value, &[TEXT, TEXT_PROJECTED, BOTH])? })
    }

    fn of(value: Value, classes: &[&str]) -> Result<Self, ConfigError> {
        let mut fields = Fields::of(value, classes)?;
        let config = Self::read(&mut fields);
        neutral(&mut fields, "clip_text_model");
        check_heads(&mut fields, config.hidden_size, config.num_attention_heads);
        let sizes = [
            config.vocab_size,
            config.intermediate_size,
            config.projection_dim,
            config.max_position_embeddings,
        ];
        check_sizes(&mut fields, &sizes);
        fields.finish()?;
        Ok(config)
    }

    fn read(fields: &mut Fields) -> Self {
        Self {
            vocab_size: fields.take("vocab_size", 49408),
            hidden_size: fields.take("hidden_size", 512),
            intermediate_size: fields.take("intermediate_size", 2048),
            projection_dim: fields.take("projection_dim", 512),
            num_hidden_layers: fields.take("num_hidden_layers", 12),
            num_attention_heads: fields.take("num_attention_heads", 8),
            max_position_embeddings: fields.take("max_position_embeddings", 77),
            hidden_act: activation(fields),
            layer_norm_eps: fields.take("layer_norm_eps", 1e-5),
            pad_token_id: fields.take("pad_token_id", 1),
            bos_token_id: fields.take("bos_token_id", 49406),
            eos_token_id: fields.take("eos_token_id", 49407),
            projected: false,
        }
    }

    /// What transformers would write.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "architectures": [if self.projected { TEXT_PROJECTED } else { TEXT }],
            "model_type": "clip_text_model",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "projection_dim": self.projection_dim,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "max_position_embeddings": self.max_position_embeddings,
            "hidden_act": activation_name(self.hidden_act),
            "layer_norm_eps": self.layer_norm_eps,
            "attention_dropout": 0.0,
            "dropout": 0.0,
            "initializer_factor": 1.0,
            "initializer_range": 0.02,
            "pad_token_id": self.pad_token_id,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": self.eos_token_id,
        })
    }
}

impl VisionConfig {
    /// Reads the file's text; that of a whole CLIP gives its image encoder. Fields that are absent have transformers' defaults.
    ///
    /// # Errors
    /// Where the text is no configuration of this class, or one of its fields is not supported: all of them are named.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        let value = part(parse(json)?, "vision_config");
        let projected = named(&value, VISION_PROJECTED);
        Ok(Self { projected, ..Self::of(value, &[VISION, VISION_PROJECTED, BOTH])? })
    }

    fn of(value: Value, classes: &[&str]) -> Result<Self, ConfigError> {
        let mut fields = Fields::of(value, classes)?;
        let config = Self::read(&mut fields);
        neutral(&mut fields, "clip_vision_model");
        check_heads(&mut fields, config.hidden_size, config.num_attention_heads);
        check_sizes(&mut fields, &[config.intermediate_size, config.projection_dim, config.num_channels]);
        let (image, patch) = (config.image_size, config.patch_size);
        if image == 0 || patch == 0 || !image.is_multiple_of(patch) {
            fields.fault(format!(
                "field `patch_size`: expected a divisor of `image_size` {image}, found {patch}"
            ));
        }
        fields.finish()?;
        Ok(config)
    }

    fn read(fields: &mut Fields) -> Self {
        Self {
            hidden_size: fields.take("hidden_size", 768),
            intermediate_size: fields.take("intermediate_size", 3072),
            projection_dim: fields.take("projection_dim", 512),
            num_hidden_layers: fields.take("num_hidden_layers", 12),
            num_attention_heads: fields.take("num_attention_heads", 12),
            num_channels: fields.take("num_channels", 3),
            image_size: fields.take("image_size", 224),
            patch_size: fields.take("patch_size", 32),
            hidden_act: activation(fields),
            layer_norm_eps: fields.take("layer_norm_eps", 1e-5),
            projected: false,
        }
    }

    /// What transformers would write.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "architectures": [if self.projected { VISION_PROJECTED } else { VISION }],
            "model_type": "clip_vision_model",
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "projection_dim": self.projection_dim,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_channels": self.num_channels,
            "image_size": self.image_size,
            "patch_size": self.patch_size,
            "hidden_act": activation_name(self.hidden_act),
            "layer_norm_eps": self.layer_norm_eps,
            "attention_dropout": 0.0,
            "initializer_factor": 1.0,
            "initializer_range": 0.02,
        })
    }

    /// Squares that a picture is cut into.
    #[must_use]
    pub fn patches(&self) -> usize {
        (self.image_size / self.patch_size).pow(2)
    }
}

impl ClipConfig {
    /// Reads the file's text. Fields that are absent have transformers' defaults.
    ///
    /// # Errors
    /// Where the text is no configuration of this class, or one of its fields is not supported: all of one part are named.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        let value = parse(json)?;
        let text = TextConfig::of(inner(&value, "text_config"), &[TEXT])?;
        let vision = VisionConfig::of(inner(&value, "vision_config"), &[VISION])?;
        let mut fields = Fields::of(value, &[BOTH])?;
        let projection_dim = fields.take("projection_dim", 512);
        let logit_scale_init_value = fields.take("logit_scale_init_value", 2.6592);
        neutral(&mut fields, "clip");
        check_sizes(&mut fields, &[projection_dim]);
        ["text_config", "text_config_dict", "vision_config", "vision_config_dict"]
            .iter()
            .for_each(|name| fields.ignored(name));
        fields.finish()?;
        Ok(Self { text, vision, projection_dim, logit_scale_init_value })
    }

    /// What transformers would write.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({
            "architectures": [BOTH],
            "model_type": "clip",
            "projection_dim": self.projection_dim,
            "logit_scale_init_value": self.logit_scale_init_value,
            "initializer_factor": 1.0,
            "text_config": self.text.to_json(),
            "vision_config": self.vision.to_json(),
        })
    }
}

fn parse(json: &str) -> Result<Value, ConfigError> {
    serde_json::from_str(json).map_err(|error| ConfigError::NotAnObject { found: error.to_string() })
}

/// The part `name` where the value is a whole CLIP's, else the value.
fn part(value: Value, name: &str) -> Value {
    let whole = value.get("model_type").and_then(Value::as_str) == Some("clip");
    if whole { inner(&value, name) } else { value }
}

/// A part of a whole CLIP's configuration. Where the older `…_dict` is there too, transformers goes by it.
fn inner(value: &Value, name: &str) -> Value {
    let older = value.get(format!("{name}_dict")).filter(|value| !value.is_null());
    let part = older.or_else(|| value.get(name)).filter(|value| !value.is_null());
    part.cloned().unwrap_or_else(|| json!({}))
}

fn named(value: &Value, class: &str) -> bool {
    value.get("architectures").and_then(|list| list.get(0)).and_then(Value::as_str) == Some(class)
}

fn neutral(fields: &mut Fields, model_type: &str) {
    fields.neutral("model_type", &[json!(model_type)]);
    fields.neutral("pruned_heads", &[json!({}), Value::Null]);
    WITHOUT_EFFECT.iter().for_each(|name| fields.ignored(name));
}

fn activation(fields: &mut Fields) -> Activation {
    let name = fields.take("hidden_act", "quick_gelu".to_owned());
    let known = ACTIVATIONS.iter().find(|(known, _)| *known == name).map(|(_, activation)| *activation);
    known.unwrap_or_else(|| {
        let expected = ACTIVATIONS.map(|(known, _)| known).join(", ");
        fields.fault(format!("field `hidden_act`: expected one of {expected}, found {name}: not supported"));
        Activation::QuickGelu
    })
}

fn activation_name(activation: Activation) -> &'static str {
    ACTIVATIONS.iter().find(|(_, known)| *known == activation).map_or("quick_gelu", |(name, _)| name)
}

fn check_heads(fields: &mut Fields, size: usize, heads: usize) {
    if size == 0 || heads == 0 || !size.is_multiple_of(heads) {
        fields.fault(format!(
            "field `num_attention_heads`: expected a divisor of `hidden_size` {size}, found {heads}"
        ));
    }
}

fn check_sizes(fields: &mut Fields, sizes: &[usize]) {
    if sizes.contains(&0) {
        fields.fault("a size is 0; expected 1 or more for each".to_owned());
    }
}
