//! Every activation and the gradient of small models; what the published ones consist of.

use std::collections::BTreeMap;

use candle_core::{Tensor, Var};
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::super::{Clip, ClipConfig, TextConfig, TextModel, VisionConfig, VisionModel};
use super::{both_config, filled, prompts, text_config, text_model, vision_config, vision_model};
use crate::models::testing::{Against, golden, torch_randn};
use crate::nn::{Scope, Specification};
use crate::taps::NoTap;

/// Relative to an activation's root mean square.
const TOLERANCE: f64 = 1e-5;
const OF_GRADIENTS: f64 = 1e-4;

/// The sites that a pass came by are those that construction names, in the same order.
fn check_sites(seen: &[String], new: impl FnOnce(&mut Scope<'_>) -> candle_core::Result<()>) {
    let sites = Specification::of(new).unwrap().sites;
    assert_eq!(seen, sites.iter().map(ToString::to_string).collect::<Vec<_>>());
}

#[test]
fn text_encoders_are_transformers_at_every_site() {
    for name in ["sd1", "sd2", "projected"] {
        let golden = &golden("clip.json")[&format!("text {name}")];
        let model = text_model(name);
        let mut tap = Against::new(golden, TOLERANCE);
        let output = model.forward(&prompts(name), &mut tap).unwrap();
        let outputs = ["last_hidden_state", "pooled", "projected", "skip 1", "gradient"];
        tap.finish(&outputs);
        check_sites(&tap.seen, |scope| TextModel::new(scope, &text_config(name)).map(drop));
        golden["last_hidden_state"].check(name, &output.last_hidden_state, TOLERANCE);
        golden["skip 1"].check(name, &model.skip(&output, 1).unwrap(), TOLERANCE);
        match &output.projected {
            None => golden["pooled"].check(name, &output.pooled, TOLERANCE),
            Some(projected) => golden["projected"].check(name, projected, TOLERANCE),
        }
        assert_eq!(output.projected.is_some(), name == "projected");
    }
}

#[test]
fn gradients_of_token_embeddings_are_pytorchs() {
    for name in ["sd1", "sd2", "projected"] {
        let model = text_model(name);
        let ids = prompts(name);
        let leaf = Var::from_tensor(&model.embed(&ids).unwrap()).unwrap();
        let output = model.forward_embedded(&leaf, &ids, &mut NoTap).unwrap().last_hidden_state;
        let loss = (&output * torch_randn(5, output.dims())).unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        let gradient: &Tensor = gradients.get(&leaf).unwrap();
        golden("clip.json")[&format!("text {name}")]["gradient"].check(name, gradient, OF_GRADIENTS);
    }
}

#[test]
fn image_encoders_are_transformers_at_every_site() {
    let pixels = torch_randn(3, &[2, 3, 30, 30]);
    for (name, projected) in [("vision", false), ("vision projected", true)] {
        let golden = &golden("clip.json")[name];
        let mut tap = Against::new(golden, TOLERANCE);
        let output = vision_model(projected).forward(&pixels, &mut tap).unwrap();
        tap.finish(&["last_hidden_state", "pooled", "projected"]);
        check_sites(&tap.seen, |scope| VisionModel::new(scope, &vision_config(projected)).map(drop));
        golden["last_hidden_state"].check(name, &output.last_hidden_state, TOLERANCE);
        match &output.projected {
            None => golden["pooled"].check(name, &output.pooled, TOLERANCE),
            Some(value) => golden["projected"].check(name, value, TOLERANCE),
        }
    }
}

#[test]
fn both_encoders_together_are_transformers() {
    let golden = &golden("clip.json")["both"];
    let model = filled(4, candle_core::DType::F32, |scope| Clip::new(scope, &both_config()));
    let mut tap = Against::new(golden, TOLERANCE);
    let compared = model.forward(&prompts("sd2"), &torch_randn(3, &[2, 3, 30, 30]), &mut tap).unwrap();
    tap.finish(&["text", "image", "logits"]);
    check_sites(&tap.seen, |scope| Clip::new(scope, &both_config()).map(drop));
    golden["text"].check("text", &compared.text, TOLERANCE);
    golden["image"].check("image", &compared.image, TOLERANCE);
    golden["logits"].check("logits", &compared.logits, TOLERANCE);
    let cosines = super::values(&compared.cosines);
    assert!(cosines.iter().all(|cosine| cosine.abs() <= 1.0 + 1e-6), "{cosines:?}");
}

/// What a published model consists of, from transformers' model of the same configuration.
#[derive(Deserialize)]
struct Size {
    config: Value,
    parameters: usize,
    keys: usize,
    sha256: String,
}

fn check_size(size: &Size, specification: &Specification) {
    assert_eq!(specification.count(), size.parameters);
    let keys: BTreeMap<_, _> = specification.parameters.iter().map(|(name, shape)| (name, shape)).collect();
    assert_eq!((keys.len(), specification.buffers.len()), (size.keys, 0));
    let listing: String = keys
        .iter()
        .map(|(name, shape)| format!("{name} {}\n", serde_json::to_string(shape).unwrap().replace(',', ", ")))
        .collect();
    let digest: String = Sha256::digest(&listing).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(digest, size.sha256, "{listing}");
}

#[test]
fn full_sizes_have_the_published_keys_and_counts() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/clip_sizes.json");
    let sizes: BTreeMap<String, Size> =
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let counts = BTreeMap::from([
        ("text encoder of 1.x", 123_060_480),
        ("text encoder of 2.x", 340_387_840),
        ("text encoder of 1.x, projected", 123_650_304),
        ("image encoder ViT-L/14, projected", 303_966_208),
        ("CLIP ViT-L/14", 427_616_513),
    ]);
    assert_eq!(sizes.len(), counts.len());
    for (name, size) in &sizes {
        assert_eq!(size.parameters, counts[name.as_str()], "{name}");
        let json = size.config.to_string();
        let specification = match name.as_str() {
            "CLIP ViT-L/14" => {
                Specification::of(|scope| Clip::new(scope, &ClipConfig::from_json(&json).unwrap()))
            }
            "image encoder ViT-L/14, projected" => {
                Specification::of(|scope| VisionModel::new(scope, &VisionConfig::from_json(&json).unwrap()))
            }
            _ => Specification::of(|scope| TextModel::new(scope, &TextConfig::from_json(&json).unwrap())),
        };
        check_size(size, &specification.unwrap());
    }
}
