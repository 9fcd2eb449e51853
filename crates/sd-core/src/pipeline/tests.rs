//! A tiny pipeline, whole: what a request leads to, and what is refused.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use tempfile::TempDir;

use super::tiny::{self, Family};
use super::*;
use crate::sampling::SamplerKind;
use crate::taps::{Choice, CopyRows, Kind, NoTap, Record, Site, Tap, sites};

fn folder(family: Family) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    tiny::write(folder.path(), family, 1).unwrap();
    folder
}

fn open(folder: &Path) -> Result<StableDiffusion, PipelineError> {
    StableDiffusion::open(folder, DType::F32, &Device::Cpu)
}

fn model(family: Family) -> StableDiffusion {
    open(folder(family).path()).unwrap()
}

/// Small and quick.
fn request() -> Request {
    Request { steps: 3, height: Some(32), width: Some(48), seed: 5, ..Request::new("a red fox") }
}

fn numbers(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1().unwrap()
}

fn generate(model: &StableDiffusion, request: &Request) -> Pictures {
    model.generate(request, &mut Unwatched).unwrap()
}

fn refused(model: &StableDiffusion, request: &Request) -> String {
    model.generate(request, &mut Unwatched).unwrap_err().to_string()
}

#[test]
fn the_same_request_gives_the_same_bits_and_every_setting_counts() {
    let model = model(Family::One);
    let first = generate(&model, &request());
    assert_eq!(first.pixels.dims(), [1, 32, 48, 3]);
    assert_eq!(first.latents.dims(), [1, 4, 4, 6]);
    assert_eq!(numbers(&first.latents), numbers(&generate(&model, &request()).latents));
    let others = [
        Request { seed: 6, ..request() },
        Request { steps: 4, ..request() },
        Request { guidance: 2.0, ..request() },
        Request { guidance: 1.0, ..request() },
        Request { negative: "fog".into(), ..request() },
        Request { prompts: vec!["a blue fox".into()], ..request() },
        Request { sampler: Some(SamplerKind::Euler), ..request() },
    ];
    for other in others {
        assert_ne!(numbers(&first.latents), numbers(&generate(&model, &other).latents), "{other:?}");
    }
}

#[test]
fn every_sampler_makes_pictures_for_both_families() {
    for family in [Family::One, Family::Two] {
        let model = model(family);
        for sampler in SamplerKind::ALL.into_iter().filter(|kind| *kind != SamplerKind::DdimInverse) {
            let pictures = generate(&model, &Request { sampler: Some(sampler), steps: 5, ..request() });
            let bytes = numbers(&pictures.pixels);
            let spread = bytes.iter().fold(0f32, |most, byte| most.max((byte - bytes[0]).abs()));
            assert!(spread > 0.0, "{family:?} {sampler}: a picture of one colour");
        }
    }
}

/// Rows share one draw of noise and do not see each other: the first row of a batch is the picture alone.
#[test]
fn a_batch_is_one_draw_of_noise() {
    let model = model(Family::One);
    let alone = generate(&model, &request());
    let batch = generate(&model, &Request { prompts: vec!["a red fox".into(); 3], ..request() });
    assert_eq!(batch.pixels.dims(), [3, 32, 48, 3]);
    let rows: Vec<Vec<f32>> = (0..3).map(|row| numbers(&batch.latents.get(row).unwrap())).collect();
    assert_eq!(rows[0], numbers(&alone.latents));
    assert!(rows[0] != rows[1] && rows[1] != rows[2]);
    let count = 4 * 4 * 6;
    let noise = numbers(&Noise::new(5, DType::F32, &Device::Cpu).draw(&[3, 4, 4, 6]).unwrap());
    let sampler = model.sampler(&request()).unwrap();
    let latents = model.latents(3, [32, 48], &sampler, &mut Noise::new(5, DType::F32, &Device::Cpu)).unwrap();
    assert_eq!(numbers(&latents)[count..], noise[count..], "PNDM starts from noise as it is drawn");
}

#[test]
fn the_prompts_of_a_batch_may_differ_and_each_is_encoded_once() {
    let model = model(Family::One);
    let prompts = ["a", "b", "a"].map(str::to_owned);
    let together = model.encode(&prompts, &mut NoTap).unwrap();
    assert_eq!(together.dims(), [3, 77, 32]);
    let mut record = Record::new(Choice::All);
    model.encode(&prompts, &mut record).unwrap();
    assert!(record.seen.iter().all(|(_, value)| value.dims()[0] == 2));
    let rows: Vec<Vec<f32>> = (0..3).map(|row| numbers(&together.get(row).unwrap())).collect();
    assert!(rows[0] == rows[2] && rows[0] != rows[1]);
}

/// Counts steps, keeps one activation of the last, and may stop.
struct Watcher {
    record: Record,
    steps: Vec<(usize, usize, f64)>,
    stop_after: Option<usize>,
}

impl Watcher {
    fn new(stop_after: Option<usize>) -> Self {
        let site = Site::new("conv_out", Kind::Feature);
        Self { record: Record::new(Choice::These(vec![site])), steps: Vec::new(), stop_after }
    }
}

impl Watch for Watcher {
    fn tap(&mut self, index: usize) -> Option<&mut dyn Tap> {
        (index == 1).then_some(&mut self.record)
    }

    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        self.steps.push((step.index, step.count, step.timestep));
        if self.stop_after == Some(step.index) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

#[test]
fn a_watcher_sees_each_step_and_taps_the_one_it_wants() {
    let model = model(Family::Two);
    let mut watcher = Watcher::new(None);
    model.generate(&request(), &mut watcher).unwrap();
    let sampler = model.sampler(&request()).unwrap();
    let expected: Vec<_> = sampler.timesteps().iter().enumerate().map(|(i, t)| (i, 3, *t)).collect();
    assert_eq!(watcher.steps, expected);
    assert_eq!(watcher.record.seen.len(), 1);
    assert_eq!(watcher.record.seen[0].1.dims(), [2, 4, 4, 6], "both halves of the guidance");
}

/// Copies the last transformer's output from the clean row to the other, in the half with the prompt, at every step.
struct Restore(CopyRows);

impl Watch for Restore {
    fn tap(&mut self, _: usize) -> Option<&mut dyn Tap> {
        Some(&mut self.0)
    }
}

/// Behind the last transformer nothing knows the text: restored there, a picture is the clean one, bit for bit (identity I2 of causal
/// tracing). By induction over the steps, for equal latents make equal predictions without the prompt.
#[test]
fn a_tap_that_restores_the_last_transformer_gives_the_clean_picture() {
    let model = model(Family::One);
    let prompts = vec!["a red fox".to_owned(), "a green boat".to_owned()];
    let request = Request { prompts, guidance: 4.0, ..request() };
    let sampler = model.sampler(&request).unwrap();
    let context = model.context(&request).unwrap();
    let latents = |watch: &mut dyn Watch| {
        let mut noise = Noise::new(1, DType::F32, &Device::Cpu);
        let one = model.latents(1, [32, 48], &sampler, &mut noise).unwrap();
        let plan = Plan { request: &request, sampler: &sampler, context: &context, extra: None };
        let both = model.denoise(&plan, Tensor::cat(&[&one, &one], 0).unwrap(), &mut noise, watch).unwrap();
        [0, 1].map(|row| numbers(&both.get(row).unwrap()))
    };
    let [clean, other] = latents(&mut Unwatched);
    assert!(clean != other, "the prompts count");
    let all = sites(model.unet.config()).unwrap();
    let of_transformer = |site: &&Site| {
        let name = site.path().rsplit_once('.').map_or("", |(module, _)| module);
        site.kind() == Kind::Stream && name.ends_with(".attentions")
    };
    let last = all.iter().rfind(of_transformer).unwrap();
    let mut copy = CopyRows::default();
    copy.add(last, 2, 3);
    let [kept, restored] = latents(&mut Restore(copy));
    assert!(kept == clean && restored == clean);
}

#[test]
fn a_watcher_can_stop_between_steps() {
    let mut watcher = Watcher::new(Some(1));
    let error = model(Family::Two).generate(&request(), &mut watcher).unwrap_err();
    assert_eq!(watcher.steps.len(), 2);
    assert!(error.is_failure() && error.to_string().contains("stopped after step 2 of 3"), "{error}");
}

#[test]
fn numbers_that_are_none_are_told_with_their_step() {
    let mut model = model(Family::One);
    let mut parameters = crate::nn::Parameters::default();
    let mut scope = crate::nn::Scope::root(&mut parameters, 0, DType::F32, &Device::Cpu);
    model.unet = UNet2DConditionModel::new(&mut scope, &Family::One.unet()).unwrap();
    let bias = parameters.named().find(|(name, _)| *name == "conv_out.bias").unwrap().1.clone();
    bias.set(&Tensor::full(f32::NAN, 4, &Device::Cpu).unwrap()).unwrap();
    let error = model.generate(&request(), &mut Unwatched).unwrap_err();
    let said = error.to_string();
    assert!(error.is_failure() && said.starts_with("step 1 of 4 (timestep 667)"), "{said}");
}

#[test]
fn a_request_that_cannot_be_followed_is_refused_before_anything_is_computed() {
    let model = model(Family::One);
    let said = refused(&model, &Request { width: Some(100), ..request() });
    assert!(said.contains("width 100") && said.contains("96 and 104"), "{said}");
    assert!(refused(&model, &Request { steps: 0, ..request() }).contains("steps: expected at least 1"));
    assert!(refused(&model, &Request { steps: 2000, ..request() }).contains("at most 1000"));
    let said = refused(&model, &Request { eta: 0.5, ..request() });
    assert!(said.contains("eta 0.5"), "{said}");
}

fn inpaint(size: [usize; 2]) -> Inpaint {
    let [height, width] = size;
    let picture = Noise::new(3, DType::F32, &Device::Cpu).draw(&[1, 3, height, width]).unwrap();
    let mask: Vec<f32> = (0..height * width).map(|i| f32::from(u8::from(i % width >= width / 2))).collect();
    let mask = Tensor::from_vec(mask, (1, 1, height, width), &Device::Cpu).unwrap();
    Inpaint { picture: picture.clamp(-1.0, 1.0).unwrap(), mask }
}

#[test]
fn an_inpainting_model_needs_picture_and_mask_and_others_take_none() {
    let filling = model(Family::Inpaint);
    assert!(filling.inpaints());
    assert!(refused(&filling, &request()).contains("give the picture and a mask"));
    let whole = Request { inpaint: Some(inpaint([32, 48])), ..request() };
    assert!(refused(&model(Family::One), &whole).contains("does not fill in"));
    let first = numbers(&generate(&filling, &whole).latents);
    assert_eq!(first, numbers(&generate(&filling, &whole).latents));
    let mut other = whole.clone();
    other.inpaint.as_mut().unwrap().mask = Tensor::zeros((1, 1, 32, 48), DType::F32, &Device::Cpu).unwrap();
    assert_ne!(first, numbers(&generate(&filling, &other).latents));
    let small = Request { inpaint: Some(inpaint([32, 32])), ..request() };
    let said = refused(&filling, &small);
    assert!(said.contains("[1, 3, 32, 32]") && said.contains("3, 32, 48"), "{said}");
}

#[test]
fn a_folder_that_is_not_whole_is_refused_with_what_is_missing() {
    let folder = folder(Family::One);
    fs::remove_dir_all(folder.path().join("vae")).unwrap();
    let said = open(folder.path()).unwrap_err().to_string();
    assert!(said.contains("vae") && said.contains("text_encoder, tokenizer, unet"), "{said}");
    let said = open(&folder.path().join("nowhere")).unwrap_err().to_string();
    assert!(said.contains("nowhere") && said.contains("no such folder"), "{said}");
}

#[test]
fn a_truncated_file_of_weights_is_named() {
    let folder = folder(Family::One);
    let path = folder.path().join("unet/diffusion_pytorch_model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let said = open(folder.path()).unwrap_err().to_string();
    assert!(
        said.contains("unet/diffusion_pytorch_model.safetensors") && said.contains("truncated"),
        "{said}"
    );
}

#[test]
fn one_component_can_be_opened_by_its_own_folder_and_makes_no_pipeline() {
    let folder = folder(Family::One);
    let parts = Parts::open(&folder.path().join("unet"), DType::F32, &Device::Cpu).unwrap();
    assert_eq!(*parts.unet().unwrap().config(), Family::One.unet());
    assert!(
        parts.vae().unwrap_err().to_string().contains("expected AutoencoderKL, found UNet2DConditionModel")
    );
    let said = parts.pipeline(None).unwrap_err().to_string();
    assert!(said.contains("folder of one component"), "{said}");
}

#[test]
fn components_of_different_models_are_refused() {
    let folder = folder(Family::One);
    let path = folder.path().join("text_encoder/config.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("\"hidden_size\": 32", "\"hidden_size\": 48")).unwrap();
    let said = open(folder.path()).unwrap_err().to_string();
    assert!(said.contains("cross_attention_dim") && said.contains("expected 48, found 32"), "{said}");
}

#[test]
fn an_unknown_sampler_in_the_folder_can_be_replaced_by_name() {
    let folder = folder(Family::One);
    let path = folder.path().join("scheduler/scheduler_config.json");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("PNDMScheduler", "HeunDiscreteScheduler")).unwrap();
    let said = open(folder.path()).unwrap_err().to_string();
    assert!(said.contains("scheduler_config.json") && said.contains("HeunDiscreteScheduler"), "{said}");
    let parts = Parts::open(folder.path(), DType::F32, &Device::Cpu).unwrap();
    let model = parts.pipeline(Some(SamplerKind::Ddim)).unwrap();
    generate(&model, &request());
}

/// No clipping to ±1 may sneak in from a default: it would spoil latents.
#[test]
fn a_sampler_chosen_by_name_never_clips_latents() {
    let model = model(Family::One);
    let sampler = model.sampler(&Request { sampler: Some(SamplerKind::Ddim), ..request() }).unwrap();
    assert!(
        matches!(sampler.settings().method, crate::sampling::Method::Ddim { clip: None, .. }),
        "{:?}",
        sampler.settings()
    );
}

#[test]
fn a_model_in_double_precision_draws_and_computes_in_it() {
    let folder = folder(Family::One);
    let single = generate(&open(folder.path()).unwrap(), &request());
    let double = StableDiffusion::open(folder.path(), DType::F64, &Device::Cpu).unwrap();
    let drawn = Noise::new(5, DType::F64, &Device::Cpu).draw(&[16]).unwrap();
    assert_eq!(drawn.dtype(), DType::F64);
    let pictures = generate(&double, &request());
    assert_eq!((pictures.latents.dtype(), pictures.pixels.dims()), (DType::F64, single.pixels.dims()));
}
