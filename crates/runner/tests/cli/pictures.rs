//! `generate` and `forward` on a tiny pipeline with random weights: what they write, and what they say where something is wrong.

use std::collections::BTreeMap;
use std::fs;
use std::io::BufReader;
use std::process::Command;

use candle_core::{Device, Tensor};
use sd_core::pipeline::tiny::{self, Family};
use sd_core::rng::mt19937::TorchCpu;
use sd_core::weights::{Weights, write_tensors};
use serde_json::Value;

use crate::support::{Scratch, check, succeed};

/// A scratch folder with a pipeline in `model`.
fn scratch(family: Family) -> Scratch {
    let scratch = Scratch::new();
    tiny::write(&scratch.path("model"), family, 1).unwrap();
    scratch
}

/// `generate` of something small, with further words.
fn generate(scratch: &Scratch, prompt: &str, words: &str) -> Command {
    let mut command = scratch.runner("generate");
    command.arg(prompt).args("--model model --steps 2 --width 32 --height 24".split(' '));
    command.args(words.split_whitespace());
    command
}

/// The picture's bytes, its size and its settings.
fn picture(scratch: &Scratch, name: &str) -> (Vec<u8>, (u32, u32), Value) {
    let file = BufReader::new(fs::File::open(scratch.path(name)).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
    reader.next_frame(&mut bytes).unwrap();
    let text = reader.info().utf8_text.iter().find(|text| text.keyword == "parameters").unwrap();
    let settings = serde_json::from_str(&text.get_text().unwrap()).unwrap();
    (bytes, reader.info().size(), settings)
}

#[test]
fn a_picture_has_its_size_and_its_settings() {
    let scratch = scratch(Family::One);
    let words = "--seed 18446744073709551615 --sampler euler --guidance 3 --negative fog -o fox.png";
    let said = succeed(generate(&scratch, "a \"red\" fox 狐", words));
    assert_eq!(said, "fox.png\n");
    let (_, size, settings) = picture(&scratch, "fox.png");
    assert_eq!(size, (32, 24));
    assert_eq!(settings["prompt"], "a \"red\" fox 狐");
    assert_eq!((&settings["seed"], &settings["sampler"]), (&Value::from(u64::MAX), &Value::from("euler")));
    assert_eq!((&settings["steps"], &settings["guidance"]), (&Value::from(2), &Value::from(3.0)));
    assert_eq!((&settings["dtype"], &settings["device"]), (&Value::from("f32"), &Value::from("cpu")));
    assert_eq!((&settings["model"], &settings["negative"]), (&Value::from("model"), &Value::from("fog")));
    assert_eq!((&settings["width"], &settings["height"]), (&Value::from(32), &Value::from(24)));
    let digest = settings["weights"]["unet/diffusion_pytorch_model.safetensors"].as_str().unwrap();
    assert!(digest.len() == 64 && settings["difflab"].is_string(), "{settings}");
    assert!(!scratch.files("").iter().any(|name| name.ends_with("tmp")));
}

#[test]
fn the_same_seed_gives_the_same_file_and_another_another() {
    let scratch = scratch(Family::Two);
    for (seed, name) in [(1, "a.png"), (1, "b.png"), (2, "c.png")] {
        succeed(generate(&scratch, "a red fox", &format!("--seed {seed} -o {name} --progress json")));
    }
    let read = |name: &str| fs::read(scratch.path(name)).unwrap();
    assert_eq!(read("a.png"), read("b.png"));
    assert_ne!(picture(&scratch, "a.png").0, picture(&scratch, "c.png").0);
}

#[test]
fn several_pictures_are_numbered_and_differ() {
    let scratch = scratch(Family::One);
    let said = succeed(generate(&scratch, "a red fox", "--batch 2"));
    assert_eq!(said, "out-1.png\nout-2.png\n");
    let (first, second) = (picture(&scratch, "out-1.png"), picture(&scratch, "out-2.png"));
    assert_ne!(first.0, second.0);
    assert_eq!((&first.2["picture"], &second.2["picture"]), (&Value::from(1), &Value::from(2)));
}

#[test]
fn the_size_is_the_models_own_where_none_is_asked_for() {
    let scratch = scratch(Family::One);
    succeed(scratch.runner("generate fox --model model --steps 1"));
    assert_eq!(picture(&scratch, "out.png").1, (128, 128));
}

#[test]
fn steps_are_counted_as_they_are_taken() {
    let scratch = scratch(Family::Two);
    let said = check(generate(&scratch, "fox", "--progress json"), 0, &[]);
    let events: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 2, "{said}");
    assert_eq!((&events[1]["done"], &events[1]["total"]), (&Value::from(2), &Value::from(2)));
    check(generate(&scratch, "fox", "--progress lines"), 0, &["[2/2]"]);
}

#[test]
fn a_prompt_of_ten_thousand_characters_is_cut_and_the_rest_is_shown() {
    let scratch = scratch(Family::One);
    let prompt = format!("a fox {}end", "very ".repeat(2000));
    let parts = ["warning: the prompt is longer than 77 tokens", "are left out", "end\" ("];
    let said = check(generate(&scratch, &prompt, ""), 0, &parts);
    assert!(said.len() < 2000, "{said}");
    check(
        generate(&scratch, "fox", &format!("--negative {}", "x".repeat(200))),
        0,
        &["the negative prompt is longer"],
    );
}

#[test]
fn settings_that_cannot_be_followed_are_refused_before_the_work() {
    let scratch = scratch(Family::One);
    let refused = |words: &str, parts: &[&str]| drop(check(generate(&scratch, "fox", words), 2, parts));
    let sized = |words: &str, parts: &[&str]| {
        drop(check(scratch.runner(&format!("generate fox --model model {words}")), 2, parts));
    };
    sized("--width 100", &["width 100", "multiple of 8", "96 and 104"]);
    sized("--height 1", &["height 1", "nearest are 8"]);
    sized("--steps 0", &["at least 1"]);
    sized("--steps 1001", &["1001", "at most 1000"]);
    refused("--sampler heun", &["heun", "ddim", "dpm++"]);
    refused("--eta 0.5 --sampler euler", &["eta 0.5"]);
    refused("--dtype f16", &["--dtype f16", "a CPU computes in f32"]);
    refused("--dtype bf16", &["--dtype bf16", "a CPU computes in f32"]);
    refused("--device cuda", &["--device cuda:0"]);
    refused("-o fox.jpg", &["fox.jpg", ".png"]);
    refused("-o no/fox.png", &["no/fox.png", "there is no folder no"]);
    assert!(!scratch.files("").iter().any(|name| name.ends_with("png")));
}

#[test]
fn a_model_that_is_not_whole_is_refused_by_the_file() {
    let scratch = scratch(Family::One);
    let weights = "model/unet/diffusion_pytorch_model.safetensors";
    let whole = fs::read(scratch.path(weights)).unwrap();
    scratch.write(weights, &whole[..whole.len() - 100]);
    check(generate(&scratch, "fox", ""), 2, &[weights, "truncated", "fetch it again"]);
    scratch.write(weights, b"PK\x03\x04 archive/data.pkl");
    check(generate(&scratch, "fox", ""), 2, &[weights, "pickled", "safetensors"]);
    fs::remove_dir_all(scratch.path("model/vae")).unwrap();
    check(generate(&scratch, "fox", ""), 2, &["model: ", "vae", "fetch the missing folders"]);
    fs::remove_file(scratch.path("model/model_index.json")).unwrap();
    check(generate(&scratch, "fox", ""), 2, &["model_index.json"]);
    assert!(!scratch.path("out.png").exists());
}

#[test]
fn a_model_that_is_not_here_may_not_be_fetched_offline() {
    let scratch = Scratch::new();
    check(scratch.runner("generate fox --model sd-v1-4"), 2, &["sd-v1-4", "HF_HUB_OFFLINE", "HF_HOME"]);
    check(scratch.runner("generate fox"), 2, &["sd-mini", "manifest.json", "come with the repository"]);
    check(scratch.runner("generate fox --model sd-v1-6"), 2, &["sd-v1-6", "did you mean"]);
    check(scratch.runner("generate fox --model ./none"), 2, &["./none"]);
    check(
        scratch.runner("generate fox --model clip-vit-large-patch14"),
        2,
        &["expected a pipeline", "CLIP ViT-L/14"],
    );
    assert!(!scratch.path("out.png").exists());
}

#[test]
fn an_inpainting_model_fills_in_and_says_what_it_needs() {
    let scratch = scratch(Family::Inpaint);
    check(generate(&scratch, "fox", ""), 2, &["9 input channels", "give the picture and a mask"]);
    let picture_of = |name: &str, width, height| {
        let picture =
            image::RgbImage::from_fn(width, height, |x, y| image::Rgb([x as u8 * 5, y as u8 * 5, 99]));
        picture.save(scratch.path(name)).unwrap();
    };
    picture_of("photo.png", 32, 24);
    picture_of("small.png", 16, 24);
    let mask = image::GrayImage::from_fn(32, 24, |x, _| image::Luma([if x < 16 { 0 } else { 255 }]));
    mask.save(scratch.path("mask.png")).unwrap();
    succeed(generate(&scratch, "fox", "--image photo.png --mask mask.png"));
    assert_eq!(picture(&scratch, "out.png").1, (32, 24));
    let words = "--image small.png --mask mask.png";
    check(generate(&scratch, "fox", words), 2, &["picture: expected", "3, 24, 32", "found [1, 3, 24, 16]"]);
    check(generate(&scratch, "fox", "--image no.png --mask mask.png"), 2, &["no.png: cannot read"]);
    scratch.write("text.png", "no picture");
    check(generate(&scratch, "fox", "--image text.png --mask mask.png"), 2, &["text.png: not a picture"]);
}

fn randn(seed: u64, shape: &[usize]) -> Tensor {
    let values = TorchCpu::new(seed).normals_f32(shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

fn inputs(scratch: &Scratch, tensors: &[(&str, Tensor)]) {
    let tensors: BTreeMap<String, Tensor> =
        tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
    write_tensors(&scratch.path("in.safetensors"), &tensors).unwrap();
}

fn forward(scratch: &Scratch, component: &str, words: &str) -> Command {
    let line = format!(
        "forward --model model --component {component} --inputs in.safetensors --output out.safetensors {words}"
    );
    scratch.runner(&line)
}

fn shapes(scratch: &Scratch) -> BTreeMap<String, Vec<usize>> {
    let weights = Weights::open(&scratch.path("out.safetensors")).unwrap();
    weights.names().map(|name| (name.to_owned(), weights.shape(name).unwrap().to_vec())).collect()
}

fn unet_inputs(scratch: &Scratch) {
    let timestep = Tensor::new(&[7i64, 900], &Device::Cpu).unwrap();
    let context = randn(2, &[2, 5, 32]);
    inputs(
        scratch,
        &[("sample", randn(1, &[2, 4, 9, 7])), ("timestep", timestep), ("encoder_hidden_states", context)],
    );
}

#[test]
fn forward_gives_each_component_s_outputs_under_their_names() {
    let scratch = scratch(Family::One);
    unet_inputs(&scratch);
    succeed(forward(&scratch, "unet", ""));
    assert_eq!(shapes(&scratch), [("sample".to_owned(), vec![2, 4, 9, 7])].into());
    inputs(&scratch, &[("sample", randn(3, &[1, 3, 40, 24]))]);
    succeed(forward(&scratch, "vae-encoder", "--dtype f64"));
    let latents = ["logvar", "mean"].map(|name| (name.to_owned(), vec![1, 4, 5, 3]));
    assert_eq!(shapes(&scratch), latents.into());
    inputs(&scratch, &[("sample", randn(4, &[1, 4, 5, 3]))]);
    succeed(forward(&scratch, "vae-decoder", ""));
    assert_eq!(shapes(&scratch), [("sample".to_owned(), vec![1, 3, 40, 24])].into());
    inputs(&scratch, &[("input_ids", Tensor::new(&[[512i64, 5, 6, 513]], &Device::Cpu).unwrap())]);
    succeed(forward(&scratch, "text-encoder", ""));
    assert_eq!(shapes(&scratch)["last_hidden_state"], [1, 4, 32]);
    assert_eq!(shapes(&scratch)["pooler_output"], [1, 32]);
}

#[test]
fn forward_writes_the_activations_that_are_asked_for() {
    let scratch = scratch(Family::One);
    unet_inputs(&scratch);
    succeed(forward(&scratch, "unet", "--taps *attn2#map"));
    let maps = shapes(&scratch);
    assert_eq!(maps["down_blocks.0.attentions.0.transformer_blocks.0.attn2#map"], [2, 8, 63, 5]);
    assert!(maps.keys().all(|name| name == "sample" || name.ends_with("attn2#map")), "{:?}", maps.keys());
    succeed(forward(&scratch, "unet", "--taps all"));
    assert!(shapes(&scratch).len() > 100);
    check(forward(&scratch, "unet", "--taps down_blocks.9*"), 2, &["--taps down_blocks.9*", "such as"]);
    inputs(&scratch, &[("sample", randn(4, &[1, 4, 5, 3]))]);
    succeed(forward(&scratch, "vae-decoder", "--taps all"));
    let names = shapes(&scratch);
    assert!(names.contains_key("decoder.mid_block") && !names.keys().any(|name| name.starts_with("encoder")));
}

/// The gradient of a sum of products is linear in the cotangent, and central differences agree with it.
#[test]
fn forward_gives_gradients() {
    let scratch = scratch(Family::One);
    let (latents, cotangent) = (randn(4, &[1, 4, 3, 2]), randn(5, &[1, 3, 24, 16]));
    inputs(&scratch, &[("sample", latents.clone()), ("cotangent", cotangent.clone())]);
    succeed(forward(&scratch, "vae-decoder", "--grad sample --dtype f64"));
    let read = |name: &str| {
        let weights = Weights::open(&scratch.path("out.safetensors")).unwrap();
        weights.tensor(name, candle_core::DType::F64, &Device::Cpu).unwrap()
    };
    let direction = randn(6, &[1, 4, 3, 2]).to_dtype(candle_core::DType::F64).unwrap();
    let sum = |tensor: Tensor| tensor.sum_all().unwrap().to_scalar::<f64>().unwrap();
    let slope = sum((read("grad.sample") * &direction).unwrap());
    let value = |step: f64| {
        let moved =
            (latents.to_dtype(candle_core::DType::F64).unwrap() + (&direction * step).unwrap()).unwrap();
        inputs(&scratch, &[("sample", moved)]);
        succeed(forward(&scratch, "vae-decoder", "--dtype f64"));
        sum((read("sample") * cotangent.to_dtype(candle_core::DType::F64).unwrap()).unwrap())
    };
    let difference = (value(1e-4) - value(-1e-4)) / 2e-4;
    assert!((slope - difference).abs() <= 1e-6 * difference.abs(), "{slope} {difference}");
}

#[test]
fn forward_lists_everything_wrong_with_its_inputs_at_once() {
    let scratch = scratch(Family::One);
    let timestep = Tensor::new(&[1f32, 2.0, 3.0], &Device::Cpu).unwrap();
    inputs(
        &scratch,
        &[("sample", randn(1, &[2, 4, 9, 7])), ("timestep", timestep), ("hint", randn(1, &[1]))],
    );
    let parts = [
        "in.safetensors",
        "timestep: found the shape [3], where B = 2",
        "encoder_hidden_states: missing",
        "hint: unexpected",
        "encoder_hidden_states (B,T,32), floating point",
    ];
    check(forward(&scratch, "unet", ""), 2, &parts);
    inputs(&scratch, &[("input_ids", randn(1, &[1, 4]))]);
    check(forward(&scratch, "text-encoder", ""), 2, &["input_ids: found F32", "whole numbers"]);
    check(forward(&scratch, "text-encoder", "--grad input_ids"), 2, &["--grad input_ids", "no gradient"]);
    check(forward(&scratch, "image-encoder", ""), 2, &["image_encoder"]);
    check(forward(&scratch, "unet", "--dtype f16"), 2, &["--dtype f16"]);
    scratch.write("in.safetensors", "not tensors");
    check(forward(&scratch, "unet", ""), 2, &["in.safetensors"]);
    fs::remove_file(scratch.path("in.safetensors")).unwrap();
    check(forward(&scratch, "unet", ""), 2, &["in.safetensors"]);
    inputs(&scratch, &[("input_ids", Tensor::new(&[[514i64, 5]], &Device::Cpu).unwrap())]);
    let said = check(forward(&scratch, "text-encoder", ""), 1, &[]);
    assert!(!said.contains("panicked"), "{said}");
    assert!(!scratch.path("out.safetensors").exists());
}
