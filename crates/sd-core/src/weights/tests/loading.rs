//! A model filled from weights: what fits, what is called otherwise, and all that does not fit at once.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor};

use super::{assert_says, save};
use crate::models::clip::{TextConfig, TextModel};
use crate::nn::{Scope, Specification};
use crate::weights::{Rules, Weights, WeightsError, load};

/// A module of four tensors, one of them a buffer.
fn build(scope: &mut Scope<'_>) -> Result<Vec<Tensor>> {
    let mut attention = scope.child("attentions.0");
    let weight = attention.child("to_q").uniform("weight", &[2, 3], 1.0)?;
    let bias = attention.child("to_out.0").constant("bias", &[2], 0.0)?;
    let mean = attention.buffer("mean", &[2], 0.0)?;
    Ok(vec![weight, bias, mean.as_tensor().clone(), scope.normal("embedding", &[4], 1.0)?])
}

fn tensor(shape: &[usize]) -> Tensor {
    let count = shape.iter().product::<usize>() as u32;
    Tensor::arange(0, count, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap().reshape(shape).unwrap()
}

fn weights(of: &[(&str, &[usize])]) -> Weights {
    let map: BTreeMap<String, Tensor> =
        of.iter().map(|(name, shape)| ((*name).to_owned(), tensor(shape))).collect();
    Weights::from_tensors(map)
}

const NOW: [(&str, &[usize]); 4] = [
    ("attentions.0.to_q.weight", &[2, 3]),
    ("attentions.0.to_out.0.bias", &[2]),
    ("attentions.0.mean", &[2]),
    ("embedding", &[4]),
];

fn loaded(weights: &Weights, rules: &Rules) -> std::result::Result<Vec<Tensor>, WeightsError> {
    load(weights, DType::F32, &Device::Cpu, rules, build)
}

#[test]
fn a_model_gets_its_tensors_frozen() {
    let model = loaded(&weights(&NOW), &Rules::strict()).unwrap();
    assert_eq!(model[0].to_vec2::<f32>().unwrap(), [[0., 1., 2.], [3., 4., 5.]]);
    assert!(model[..2].iter().all(|tensor| !tensor.is_variable()));
    let half = load(&weights(&NOW), DType::BF16, &Device::Cpu, &Rules::strict(), build).unwrap();
    assert!(half.iter().all(|tensor| tensor.dtype() == DType::BF16));
}

#[test]
fn old_names_and_shapes_are_taken_where_the_rules_say_so() {
    let old = [
        ("attentions.0.query.weight", &[2, 3, 1, 1][..]),
        ("attentions.0.proj_attn.bias", &[2]),
        ("attentions.0.mean", &[2]),
        ("embedding", &[4]),
    ];
    let model = loaded(&weights(&old), &Rules::vae()).unwrap();
    assert_eq!(model[0].dims(), [2, 3]);
    let message = loaded(&weights(&old), &Rules::strict()).unwrap_err().to_string();
    assert_says(
        &message,
        &["missing (2): attentions.0.to_q.weight", "unexpected (2): attentions.0.proj_attn.bias"],
    );
}

#[test]
fn all_faults_are_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = [
        ("attentions.0.to_q.weight", tensor(&[3, 2])),
        ("attentions.0.mean", tensor(&[2])),
        ("embedding", tensor(&[4, 1])),
        ("head", tensor(&[1])),
    ];
    let path = save(folder.path(), "unet.safetensors", &wrong);
    let error = loaded(&Weights::open(&path).unwrap(), &Rules::strict()).unwrap_err();
    assert_says(
        &error.to_string(),
        &[
            "unet.safetensors: expected the model's 4 tensors",
            "missing (1): attentions.0.to_out.0.bias",
            "unexpected (1): head",
            "mis-shaped (2): attentions.0.to_q.weight (expected [2, 3], found [3, 2]), embedding (expected [4], found [4, 1])",
            "config.json",
        ],
    );
    let WeightsError::Misfit(misfit) = error else { panic!("{error}") };
    assert_eq!((misfit.missing.len(), misfit.unexpected.len(), misfit.misshaped.len()), (1, 1, 2));
}

#[test]
fn a_list_is_cut_where_nobody_would_read_on() {
    let names: Vec<String> = (0..50).map(|i| format!("other.{i:02}")).collect();
    let of: Vec<(&str, &[usize])> = names.iter().map(|name| (name.as_str(), &[1][..])).collect();
    let message = loaded(&weights(&of), &Rules::strict()).unwrap_err().to_string();
    assert_says(
        &message,
        &["unexpected (50): other.00", "other.19 and 30 more", "not one name is the model's"],
    );
    assert!(!message.contains("other.20"), "{message}");
}

#[test]
fn what_may_be_left_over_is_left() {
    let mut more = NOW.to_vec();
    more.push(("embeddings.position_ids", &[1, 77]));
    assert!(loaded(&weights(&more), &Rules::strict()).is_err());
    assert!(loaded(&weights(&more), &Rules::clip_text()).is_ok());
}

#[test]
fn a_prefix_may_be_there_or_not() {
    let names: Vec<String> = NOW.iter().map(|(name, _)| format!("text_model.{name}")).collect();
    let of: Vec<(&str, &[usize])> =
        names.iter().zip(NOW).map(|(name, (_, shape))| (name.as_str(), shape)).collect();
    assert!(loaded(&weights(&of), &Rules::clip_text()).is_ok());
    assert!(loaded(&weights(&of), &Rules::clip_vision()).is_err());
    let build_below = |scope: &mut Scope<'_>| build(&mut scope.child("text_model"));
    load(&weights(&NOW), DType::F32, &Device::Cpu, &Rules::clip_text(), build_below).unwrap();
}

#[test]
fn elements_that_cannot_be_read_are_told_with_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let json = r#"{"attentions.0.to_q.weight":{"dtype":"F8_E5M2","shape":[2,3],"data_offsets":[0,6]}}"#;
    std::fs::write(&path, super::file_of(json, &[0; 6])).unwrap();
    let message = loaded(&Weights::open(&path).unwrap(), &Rules::strict()).unwrap_err().to_string();
    assert_says(&message, &["unreadable (1): ", "F8_E5M2", "missing (3)"]);
}

#[test]
fn a_model_that_cannot_be_built_says_why() {
    let build = |_: &mut Scope<'_>| -> Result<()> { candle_core::bail!("no such activation") };
    let error = load(&weights(&NOW), DType::F32, &Device::Cpu, &Rules::strict(), build).unwrap_err();
    assert_says(&error.to_string(), &["(in memory)", "no such activation"]);
}

/// A text encoder in each of the spellings that transformers has had: old files have positions, files of version 5 no prefix, and
/// a whole CLIP holds the other encoder too.
#[test]
fn a_text_encoder_is_found_in_every_spelling() {
    let config = r#"{"vocab_size": 20, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 2, "max_position_embeddings": 5}"#;
    let config = TextConfig::from_json(config).unwrap();
    let build = |scope: &mut Scope<'_>| TextModel::new(scope, &config);
    let own = Specification::of(build).unwrap().parameters;
    assert!(own.iter().all(|(name, _)| name.starts_with("text_model.")));
    let written = |spell: &dyn Fn(&str) -> String, more: &[(&str, &[usize])]| {
        let own = own.iter().map(|(name, shape)| (spell(name), tensor(shape)));
        let more = more.iter().map(|(name, shape)| ((*name).to_owned(), tensor(shape)));
        Weights::from_tensors(own.chain(more).collect())
    };
    let as_it_is = |name: &str| name.to_owned();
    let bare = |name: &str| name.replacen("text_model.", "", 1);
    let old: [(&str, &[usize]); 1] = [("text_model.embeddings.position_ids", &[1, 5])];
    let whole: [(&str, &[usize]); 3] = [
        ("vision_model.post_layernorm.bias", &[4]),
        ("logit_scale", &[1]),
        ("visual_projection.weight", &[2, 2]),
    ];
    for weights in [written(&as_it_is, &old), written(&bare, &[]), written(&as_it_is, &whole)] {
        load(&weights, DType::F32, &Device::Cpu, &Rules::clip_text(), build).unwrap();
    }
    let strange = written(&as_it_is, &[("text_model.encoder.layers.9.mlp.fc1.bias", &[12])]);
    assert!(load(&strange, DType::F32, &Device::Cpu, &Rules::clip_text(), build).is_err());
}
