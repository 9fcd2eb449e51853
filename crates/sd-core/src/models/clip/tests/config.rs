//! Configurations as they are met with, as they are written, and as they are refused.

use serde_json::{Value, json};

use super::super::{ClipConfig, Preprocessor, TextConfig, VisionConfig};
use super::{both_config, text_config, vision_config};
use crate::ops::activation::Activation;

/// `text_encoder/config.json` of Stable Diffusion 1.x: an old file, with the wrong id of end-of-text.
fn old_text() -> Value {
    json!({
        "_name_or_path": "openai/clip-vit-large-patch14", "architectures": ["CLIPTextModel"], "attention_dropout": 0.0,
        "bos_token_id": 0, "dropout": 0.0, "eos_token_id": 2, "hidden_act": "quick_gelu", "hidden_size": 768,
        "initializer_factor": 1.0, "initializer_range": 0.02, "intermediate_size": 3072, "layer_norm_eps": 1e-05,
        "max_position_embeddings": 77, "model_type": "clip_text_model", "num_attention_heads": 12, "num_hidden_layers": 12,
        "pad_token_id": 1, "projection_dim": 768, "torch_dtype": "float32", "transformers_version": "4.22.0.dev0",
        "vocab_size": 49408,
    })
}

fn with(mut value: Value, key: &str, other: Value) -> String {
    value[key] = other;
    value.to_string()
}

#[test]
fn published_configurations_are_read() {
    let first = TextConfig::from_json(&old_text().to_string()).unwrap();
    assert_eq!((first.hidden_size, first.eos_token_id, first.projected), (768, 2, false));
    let mut second = old_text();
    for (key, value) in
        [("hidden_act", json!("gelu")), ("hidden_size", json!(1024)), ("num_hidden_layers", json!(23))]
    {
        second[key] = value;
    }
    let second = TextConfig::from_json(&with(second, "num_attention_heads", json!(16))).unwrap();
    assert_eq!((second.hidden_act, second.num_hidden_layers), (Activation::Gelu, 23));
    let bare = TextConfig::from_json("{}").unwrap();
    assert_eq!((bare.vocab_size, bare.hidden_size, bare.eos_token_id), (49408, 512, 49407));
}

#[test]
fn a_whole_clip_gives_its_parts() {
    // The older `…_dict` goes before the part itself.
    let whole = json!({
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": 768, "logit_scale_init_value": 2.6592,
        "text_config": {"hidden_size": 64, "num_attention_heads": 4, "architectures": null, "bad_words_ids": null, "top_k": 50},
        "text_config_dict": {"hidden_size": 96, "num_attention_heads": 6},
        "vision_config": {"hidden_size": 128, "num_attention_heads": 8, "patch_size": 14},
        "vision_config_dict": null, "torch_dtype": "float32", "transformers_version": null,
    });
    let both = ClipConfig::from_json(&whole.to_string()).unwrap();
    assert_eq!((both.text.hidden_size, both.vision.hidden_size, both.projection_dim), (96, 128, 768));
    assert_eq!(TextConfig::from_json(&whole.to_string()).unwrap(), both.text);
    assert_eq!(VisionConfig::from_json(&whole.to_string()).unwrap(), both.vision);
}

#[test]
fn what_is_written_is_read_back() {
    for name in ["sd1", "sd2", "projected"] {
        let config = text_config(name);
        assert_eq!(TextConfig::from_json(&config.to_json().to_string()).unwrap(), config);
    }
    for projected in [false, true] {
        let config = vision_config(projected);
        assert_eq!(VisionConfig::from_json(&config.to_json().to_string()).unwrap(), config);
    }
    assert_eq!(ClipConfig::from_json(&both_config().to_json().to_string()).unwrap(), both_config());
    let usual = Preprocessor::default();
    assert_eq!(Preprocessor::from_json(&usual.to_json().to_string()).unwrap(), usual);
}

#[track_caller]
fn refused<T>(result: Result<T, crate::models::config::ConfigError>, parts: &[&str]) {
    let message = result.err().unwrap().to_string();
    parts.iter().for_each(|part| assert!(message.contains(part), "no {part:?} in {message}"));
}

#[test]
fn what_cannot_be_followed_is_refused_by_name() {
    let text = |key: &str, value: Value| TextConfig::from_json(&with(old_text(), key, value));
    refused(text("architectures", json!(["BertModel"])), &["BertModel", "CLIPTextModelWithProjection"]);
    refused(text("model_type", json!("bert")), &["model_type", "bert"]);
    refused(text("hidden_act", json!("relu")), &["hidden_act", "relu", "quick_gelu"]);
    refused(text("use_rotary", json!(true)), &["use_rotary", "unknown"]);
    refused(text("num_attention_heads", json!(7)), &["num_attention_heads", "divisor", "7"]);
    refused(text("eos_token_id", json!([1, 2])), &["eos_token_id"]);
    refused(text("pruned_heads", json!({"0": [1]})), &["pruned_heads"]);
    refused(text("vocab_size", json!(0)), &["size is 0"]);
    refused(TextConfig::from_json("nonsense"), &["JSON object"]);
    let vision =
        |key: &str, value: Value| VisionConfig::from_json(&with(vision_config(true).to_json(), key, value));
    refused(vision("patch_size", json!(7)), &["patch_size", "divisor"]);
    refused(vision("image_size", json!([30, 30])), &["image_size"]);
    refused(vision("architectures", json!(["CLIPTextModel"])), &["CLIPTextModel", "CLIPVisionModel"]);
    let two = with(serde_json::from_str(&with(old_text(), "a", json!(1))).unwrap(), "b", json!(2));
    refused(TextConfig::from_json(&two), &["`a`", "`b`"]);
}

#[test]
fn preprocessing_in_both_ways_of_writing_it() {
    let old = json!({
        "crop_size": 224, "do_center_crop": true, "do_normalize": true, "do_resize": true, "resample": 3, "size": 224,
        "feature_extractor_type": "CLIPFeatureExtractor", "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    });
    assert_eq!(Preprocessor::from_json(&old.to_string()).unwrap(), Preprocessor::default());
    let changed = |key: &str, value: Value| Preprocessor::from_json(&with(old.clone(), key, value));
    refused(changed("resample", json!(2)), &["resample"]);
    refused(changed("do_resize", json!(false)), &["do_resize"]);
    refused(changed("size", json!({"height": 3, "width": 4})), &["size", "3×4"]);
    refused(changed("crop_size", json!(300)), &["crop_size", "224"]);
    refused(changed("image_std", json!([1, 0, 1])), &["image_std"]);
    refused(changed("feature_extractor_type", json!("ViTFeatureExtractor")), &["ViTFeatureExtractor"]);
}
