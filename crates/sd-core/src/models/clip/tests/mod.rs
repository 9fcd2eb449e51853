//! CLIP held against transformers 5.23.0 (`tools/parity/clip.py`) and against itself.
#![allow(clippy::unwrap_used)]

mod config;
mod goldens;
mod identities;
mod pixels;

use candle_core::{DType, Device, Result, Tensor};
use serde_json::json;

use super::{ClipConfig, TextConfig, TextModel, VisionConfig, VisionModel};
use crate::models::testing::{State, torch_state};
use crate::nn::{Scope, Specification};

/// The small models of the script, by its names.
fn text_config(name: &str) -> TextConfig {
    let (sizes, layers, act, eos) = match name {
        "sd1" => ([48, 112, 4, 512], 3, "quick_gelu", 2),
        "sd2" => ([64, 128, 2, 512], 2, "gelu", 99),
        _ => ([32, 64, 4, 20], 2, "gelu", 99),
    };
    let class = if name == "projected" { "CLIPTextModelWithProjection" } else { "CLIPTextModel" };
    let json = json!({
        "architectures": [class], "model_type": "clip_text_model", "vocab_size": 100, "max_position_embeddings": 13,
        "hidden_size": sizes[0], "intermediate_size": sizes[1], "num_attention_heads": sizes[2], "projection_dim": sizes[3],
        "num_hidden_layers": layers, "hidden_act": act, "eos_token_id": eos, "bos_token_id": 98, "pad_token_id": 0,
    });
    TextConfig::from_json(&json.to_string()).unwrap()
}

fn vision_config(projected: bool) -> VisionConfig {
    let class = if projected { "CLIPVisionModelWithProjection" } else { "CLIPVisionModel" };
    let json = json!({
        "architectures": [class], "model_type": "clip_vision_model", "hidden_size": 40, "intermediate_size": 96,
        "num_hidden_layers": 2, "num_attention_heads": 5, "image_size": 30, "patch_size": 10, "hidden_act": "quick_gelu",
        "projection_dim": 24,
    });
    VisionConfig::from_json(&json.to_string()).unwrap()
}

fn both_config() -> ClipConfig {
    let json = json!({
        "architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": 28,
        "text_config": TextConfig { projected: false, ..text_config("sd2") }.to_json(),
        "vision_config": vision_config(false).to_json(),
    });
    ClipConfig::from_json(&json.to_string()).unwrap()
}

/// The model that `new` makes, with the script's weights from `seed`.
fn filled<M>(seed: u64, dtype: DType, new: impl Fn(&mut Scope<'_>) -> Result<M>) -> M {
    let specification = Specification::of(&new).unwrap();
    let mut state = State::new(torch_state(&specification.parameters, seed), dtype);
    new(&mut Scope::of(&mut state)).unwrap()
}

fn text_model(name: &str) -> TextModel {
    filled(1, DType::F32, |scope| TextModel::new(scope, &text_config(name)))
}

fn vision_model(projected: bool) -> VisionModel {
    filled(2, DType::F32, |scope| VisionModel::new(scope, &vision_config(projected)))
}

/// Two prompts of different lengths, padded with end-of-text as in 1.x, or with 0 as in 2.x.
fn prompts(name: &str) -> Tensor {
    let pad = if name == "sd1" { 99 } else { 0 };
    let first = [98, 5, 17, 60, 3, 99, pad, pad, pad, pad, pad, pad, pad];
    let second = [98, 97, 1, 42, 42, 8, 77, 64, 21, 30, 99, pad, pad];
    Tensor::new(&[first, second], &Device::Cpu).unwrap().to_dtype(DType::U32).unwrap()
}

fn values(x: &Tensor) -> Vec<f32> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}
