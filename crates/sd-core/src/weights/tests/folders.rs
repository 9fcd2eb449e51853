//! Pipelines: folders read, refused and written.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor, bail};
use half::f16;
use serde_json::{Value, json};

use super::{assert_says, save};
use crate::weights::{
    Component, Folder, FolderWriter, Pipeline, Planned, Weights, write_streamed, write_tensors,
};

fn tensor(values: &[f32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

fn one(name: &str, value: Tensor) -> BTreeMap<String, Tensor> {
    BTreeMap::from([(name.to_owned(), value)])
}

/// A whole pipeline of one number a component.
fn write(path: &Path) {
    let mut writer = FolderWriter::create(path, Pipeline::TextToImage).unwrap();
    writer
        .model(Component::Unet, &json!({"_class_name": "UNet2DConditionModel"}), &one("u", tensor(&[1.0])))
        .unwrap();
    writer
        .model(Component::Vae, &json!({"_class_name": "AutoencoderKL"}), &one("v", tensor(&[2.0])))
        .unwrap();
    writer
        .model(
            Component::TextEncoder,
            &json!({"architectures": ["CLIPTextModel"]}),
            &one("t", tensor(&[3.0])),
        )
        .unwrap();
    writer.scheduler(&json!({"_class_name": "DDIMScheduler"})).unwrap();
    writer.tokenizer("CLIPTokenizer", [("vocab.json", &b"{}"[..]), ("merges.txt", b"")]).unwrap();
    writer.finish().unwrap();
}

/// A whole pipeline with its index changed.
fn with_index(change: impl FnOnce(&mut Value)) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let path = folder.path().join("model_index.json");
    let mut index: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    change(&mut index);
    std::fs::write(path, index.to_string()).unwrap();
    folder
}

#[test]
fn what_is_written_is_read() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("not/yet");
    write(&path);
    let folder = Folder::open(&path).unwrap();
    assert_eq!(folder.pipeline(), Pipeline::TextToImage);
    folder.require(&Component::ALL).unwrap();
    assert_eq!(folder.class_of(Component::Scheduler), Some("DDIMScheduler"));
    assert_says(&folder.config(Component::TextEncoder).unwrap(), &["CLIPTextModel"]);
    let weights = folder.weights(Component::Vae, DType::F32).unwrap();
    assert_eq!(weights.metadata()["format"], "pt");
    assert_eq!(weights.tensor("v", DType::F32, &Device::Cpu).unwrap().to_vec1::<f32>().unwrap(), [2.0]);
    let left: Vec<String> = walk(&path).into_iter().filter(|name| name.contains("incomplete")).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn walk(path: &Path) -> Vec<String> {
    std::fs::read_dir(path)
        .unwrap()
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path) } else { vec![path.display().to_string()] }
        })
        .collect()
}

#[test]
fn parts_that_are_not_used_are_noted() {
    let folder = with_index(|index| {
        index["safety_checker"] = json!(["stable_diffusion", "StableDiffusionSafetyChecker"]);
        index["feature_extractor"] = json!(["transformers", "CLIPImageProcessor"]);
    });
    let folder = Folder::open(folder.path()).unwrap();
    assert_eq!(folder.unused(), ["feature_extractor", "safety_checker"]);
}

#[test]
fn all_three_pipelines_are_known_and_others_refused_by_name() {
    for pipeline in [Pipeline::TextToImage, Pipeline::ImageToImage, Pipeline::Inpaint] {
        let folder = with_index(|index| index["_class_name"] = json!(pipeline.class()));
        assert_eq!(Folder::open(folder.path()).unwrap().pipeline(), pipeline);
    }
    let folder = with_index(|index| index["_class_name"] = json!("FluxPipeline"));
    let message = Folder::open(folder.path()).unwrap_err().to_string();
    assert_says(
        &message,
        &["model_index.json", "`_class_name`", "StableDiffusionPipeline or", "found FluxPipeline"],
    );
    let folder = with_index(|index| index["unet"] = json!(["diffusers", "UNet2DModel"]));
    let message = Folder::open(folder.path()).unwrap_err().to_string();
    assert_says(&message, &["`unet`", "expected UNet2DConditionModel", "found UNet2DModel"]);
}

#[test]
fn what_is_missing_is_told_with_what_is_there() {
    let folder = with_index(|index| index["vae"] = json!([null, null]));
    std::fs::remove_dir_all(folder.path().join("unet")).unwrap();
    let opened = Folder::open(folder.path()).unwrap();
    let message = opened.require(&Component::ALL).unwrap_err().to_string();
    assert_says(
        &message,
        &["the pipeline's unet, vae", "model_index.json, scheduler, text_encoder, tokenizer, vae", "fetch"],
    );
    assert!(opened.weights(Component::Unet, DType::F32).is_err());
    std::fs::remove_file(folder.path().join("scheduler/scheduler_config.json")).unwrap();
    let message = opened.config(Component::Scheduler).unwrap_err().to_string();
    assert_says(&message, &["scheduler: expected scheduler_config.json", "an empty folder", "fetch"]);
    std::fs::remove_file(folder.path().join("text_encoder/model.safetensors")).unwrap();
    let message = opened.weights(Component::TextEncoder, DType::F32).unwrap_err().to_string();
    assert_says(&message, &["text_encoder", "found config.json"]);
}

#[test]
fn what_is_no_pipeline_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &Path| Folder::open(path).unwrap_err().to_string();
    assert_says(&refused(folder.path()), &["model_index.json", "an empty folder", "unet/"]);
    assert_says(&refused(&folder.path().join("none")), &["none", "no such folder"]);
    std::fs::write(folder.path().join("config.json"), "{}").unwrap();
    assert_says(&refused(folder.path()), &["the folder of one component: give the folder around it"]);
    let file = save(folder.path(), "v1-5.safetensors", &[]);
    assert_says(&refused(&file), &["found a file", "from_single_file"]);
    std::fs::write(folder.path().join("model_index.json"), "{\"_class_name\":").unwrap();
    assert_says(&refused(folder.path()), &["model_index.json: line 1 column"]);
    std::fs::write(folder.path().join("model_index.json"), "[]").unwrap();
    assert_says(&refused(folder.path()), &["a JSON object of components"]);
}

#[test]
fn two_models_do_not_mix_and_half_a_pipeline_is_none() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let message = FolderWriter::create(folder.path(), Pipeline::Inpaint).unwrap_err().to_string();
    assert_says(&message, &["a new or empty folder", "model_index.json"]);
    let folder = tempfile::tempdir().unwrap();
    let mut writer = FolderWriter::create(folder.path(), Pipeline::Inpaint).unwrap();
    assert!(writer.scheduler(&json!({})).unwrap_err().to_string().contains("_class_name"));
    assert!(writer.model(Component::Tokenizer, &json!({}), &BTreeMap::new()).is_err());
    assert!(writer.tokenizer("CLIPTokenizer", [("../x", &b""[..])]).is_err());
    assert_says(
        &writer.finish().unwrap_err().to_string(),
        &["unet, vae, text_encoder, tokenizer, scheduler"],
    );
    assert!(!folder.path().join("model_index.json").exists());
}

#[test]
fn every_dtype_and_layout_is_written_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let base = Tensor::arange(0f32, 12., &Device::Cpu).unwrap().reshape((3, 4)).unwrap();
    let mut tensors = one("turned", base.t().unwrap());
    tensors.insert("part".to_owned(), base.narrow(1, 1, 2).unwrap());
    tensors.insert("spread".to_owned(), tensor(&[7.0]).broadcast_as((2, 3)).unwrap());
    tensors.insert("none".to_owned(), Tensor::zeros((0, 2), DType::F32, &Device::Cpu).unwrap());
    for dtype in
        [DType::F16, DType::BF16, DType::F64, DType::U8, DType::U32, DType::I16, DType::I32, DType::I64]
    {
        tensors.insert(format!("{dtype:?}"), base.to_dtype(dtype).unwrap());
    }
    write_tensors(&path, &tensors).unwrap();
    let weights = Weights::open(&path).unwrap();
    let reference = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
    assert_eq!(weights.names().count(), tensors.len());
    for (name, expected) in &tensors {
        let wide = |tensor: &Tensor| {
            tensor.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap()
        };
        let read = weights.tensor(name, weights.dtype(name).unwrap(), &Device::Cpu).unwrap();
        assert_eq!((read.dims(), read.dtype()), (expected.dims(), expected.dtype()), "{name}");
        assert_eq!(wide(&read), wide(expected), "{name}");
        assert_eq!(wide(&reference[name]), wide(expected), "{name}, by another reader");
    }
}

#[test]
fn a_tensor_at_a_time_is_asked_for_and_must_be_as_planned() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let plan = || {
        let planned = |name: &str, dtype| Planned { name: name.to_owned(), dtype, shape: vec![2] };
        vec![planned("b", DType::F16), planned("a", DType::F32)]
    };
    let mut asked = Vec::new();
    let given = |name: &str, asked: &mut Vec<String>| {
        asked.push(name.to_owned());
        let dtype = if name == "a" { DType::F32 } else { DType::F16 };
        tensor(&[1.0, 2.0]).to_dtype(dtype)
    };
    write_streamed(&path, plan(), |name| given(name, &mut asked)).unwrap();
    assert_eq!(asked, ["a", "b"]);
    let before = std::fs::read(&path).unwrap();
    assert_eq!(before.len() % 2, 0);
    assert_eq!(&before[before.len() - 4..], [f16::ONE, f16::from_f32(2.0)].map(f16::to_le_bytes).concat());
    let wrong = |given: &dyn Fn() -> candle_core::Result<Tensor>| {
        write_streamed(&path, plan(), |_| given()).unwrap_err().to_string()
    };
    assert_says(&wrong(&|| Ok(tensor(&[1.0]))), &["x.safetensors", "`a`: expected F32 [2], found F32 [1]"]);
    assert_says(&wrong(&|| bail!("broke off")), &["broke off"]);
    let twice = write_streamed(&path, [plan(), plan()].concat(), |_| Ok(tensor(&[1.0, 2.0]))).unwrap_err();
    assert_says(&twice.to_string(), &["`a` stands there twice"]);
    // What failed left nothing, and took nothing away.
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(walk(folder.path()).len(), 1);
}
