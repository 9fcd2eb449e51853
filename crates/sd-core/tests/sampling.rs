//! Every sampler against diffusers, step for step (`tools/parity/samplers.py` made what is compared with).
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Result, Tensor};
use sd_core::rng::mt19937::TorchCpu;
use sd_core::sampling::{Precision, Sampler, SamplerKind, Schedule, SchedulerConfig, Spacing, State};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sha2::{Digest, Sha256};

const SHAPE: (usize, usize, usize, usize) = (2, 1, 2, 4);
const COUNT: usize = 16;

struct Goldens {
    tensors: HashMap<String, Tensor>,
    metadata: HashMap<String, String>,
}

impl Goldens {
    fn open() -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/sampling.safetensors");
        let bytes = std::fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let mut header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let metadata = serde_json::from_value(header["__metadata__"].take()).unwrap();
        Self { tensors: candle_core::safetensors::load(path, &Device::Cpu).unwrap(), metadata }
    }

    fn list<T: DeserializeOwned>(&self, name: &str) -> Vec<T> {
        serde_json::from_str(&self.metadata[name]).unwrap()
    }
}

#[derive(Debug, Deserialize)]
struct Case {
    steps: usize,
    seed: u64,
    kind: String,
    config: usize,
    timesteps: Vec<f64>,
    init_noise_sigma: f64,
    begin: Option<usize>,
    #[serde(default)]
    eta: f64,
}

impl Case {
    fn precision(&self) -> Precision {
        if self.kind == "double" { Precision::Double } else { Precision::Single }
    }

    fn dtype(&self) -> DType {
        if self.kind == "single" { DType::F32 } else { DType::F64 }
    }
}

/// The largest difference, relative to the largest of the expected numbers where that is above 1.
fn error(ours: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(ours.len(), expected.len());
    let size = expected.iter().fold(1.0_f64, |size, x| size.max(x.abs()));
    ours.iter().zip(expected).fold(0.0, |worst, (a, b)| {
        let error = (a - b).abs() / size;
        if error <= worst { worst } else { error }
    })
}

fn numbers(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// The run that the script made, with our sampler: every sample of it.
fn trajectory(sampler: &Sampler, case: &Case) -> Result<Vec<Tensor>> {
    let mut generator = TorchCpu::new(case.seed);
    let mut draw = || {
        Tensor::from_vec(generator.normals_f32(COUNT), SHAPE, &Device::Cpu).unwrap().to_dtype(case.dtype())
    };
    let begin = case.begin.unwrap_or(0);
    let mut x = match case.begin {
        Some(begin) => sampler.add_noise(&draw()?, &draw()?, begin)?,
        None => (draw()? * sampler.init_noise_sigma())?,
    };
    let (mut state, mut seen) = (State::new(), vec![x.clone()]);
    for i in begin..sampler.evaluations() {
        let (answer, noise) = (draw()?, draw()?);
        let output = ((sampler.scale_model_input(&x, i)? * 0.3)? + (answer * 0.5)?)?;
        let noise = sampler.takes_noise(i).then_some(&noise);
        x = sampler.step(&mut state, &output, i, &x, noise)?;
        seen.push(x.clone());
    }
    Ok(seen)
}

#[test]
fn every_step_is_that_of_diffusers() {
    let goldens = Goldens::open();
    let (configs, cases): (Vec<String>, Vec<Case>) = (goldens.list("configs"), goldens.list("cases"));
    let (mut faults, mut worst, mut same) = (Vec::new(), HashMap::<String, f64>::new(), [0, 0]);
    for (number, case) in cases.iter().enumerate() {
        let config = SchedulerConfig::from_json(&configs[case.config]).unwrap();
        let sampler =
            Sampler::with_eta(config.settings(), case.steps, case.precision(), case.eta).unwrap();
        let expected: Vec<Vec<f64>> =
            goldens.tensors[&format!("case.{number:03}")].to_dtype(DType::F64).unwrap().to_vec2().unwrap();
        let ours: Vec<Vec<f64>> = trajectory(&sampler, case).unwrap().iter().map(numbers).collect();
        assert_eq!(ours.len(), expected.len(), "{case:?}");
        let error = ours.iter().zip(&expected).fold(0.0_f64, |worst, (a, b)| worst.max(error(a, b)));
        let tolerance = if case.kind == "single" { 1e-5 } else { 1e-10 };
        let key = format!("{} {}", config.kind(), case.kind);
        let entry = worst.entry(key).or_default();
        *entry = entry.max(error);
        if case.kind == "single" {
            same[usize::from(error == 0.0)] += 1;
        }
        if !(error <= tolerance) {
            faults.push(format!("{number}: {error:e} {} {}", case.kind, configs[case.config]));
        }
    }
    assert!(cases.len() > 200);
    if std::env::var_os("DIFFLAB_SHOW").is_some() { panic!("{worst:#?} {same:?} {}", faults.join("\n")); }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn timesteps_and_the_first_deviation_are_those_of_diffusers() {
    let goldens = Goldens::open();
    let (configs, cases): (Vec<String>, Vec<Case>) = (goldens.list("configs"), goldens.list("cases"));
    for case in &cases {
        let config = SchedulerConfig::from_json(&configs[case.config]).unwrap();
        let sampler = Sampler::new(config.settings(), case.steps, case.precision()).unwrap();
        // Karras's timesteps are interpolated in logarithms, whose float32 rounding depends on the library.
        let fractional = case.timesteps.iter().any(|t| t.fract() != 0.0);
        let karras = configs[case.config].contains("\"use_karras_sigmas\":true") && fractional;
        let tolerance = match (karras, case.precision()) {
            (false, _) => 0.0,
            (true, Precision::Single) => 1e-6,
            (true, Precision::Double) => 1e-12,
        };
        let found = error(sampler.timesteps(), &case.timesteps);
        assert!(found <= tolerance, "{found:e} {case:?} {:?}", sampler.timesteps());
        assert_eq!(sampler.init_noise_sigma(), case.init_noise_sigma, "{case:?}");
    }
}

#[test]
fn every_number_of_steps_visits_the_timesteps_of_diffusers() {
    #[derive(Deserialize)]
    struct All {
        config: String,
        sha256: String,
    }
    for All { config, sha256 } in Goldens::open().list::<All>("timesteps") {
        let settings = *SchedulerConfig::from_json(&config).unwrap().settings();
        let mut digest = Sha256::new();
        for steps in 1..1000 {
            // Tables do not matter here and are the slow part of making a sampler.
            let sampler = Sampler::new(&settings, steps, Precision::Single).unwrap();
            sampler.timesteps().iter().for_each(|t| digest.update(t.to_le_bytes()));
        }
        let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, sha256, "{config}");
    }
}

#[test]
fn tables_are_those_of_diffusers_bit_for_bit() {
    let goldens = Goldens::open();
    let mut settings = sd_core::sampling::ScheduleSettings::stable_diffusion();
    let scaled = settings;
    settings.zero_terminal_snr = true;
    let zero = settings;
    let linear = sd_core::sampling::ScheduleSettings {
        beta: sd_core::sampling::Beta::Linear,
        beta_start: 1e-4,
        beta_end: 0.02,
        ..scaled
    };
    let cosine = sd_core::sampling::ScheduleSettings { beta: sd_core::sampling::Beta::Cosine, ..scaled };
    let short = sd_core::sampling::ScheduleSettings { train_steps: 37, ..scaled };
    let tables = [
        ("scaled_linear", scaled),
        ("linear", linear),
        ("cosine", cosine),
        ("scaled_linear_zero_snr", zero),
        ("short", short),
    ];
    for (name, settings) in tables {
        for (kind, precision) in [("single", Precision::Single), ("double", Precision::Double)] {
            let expected = numbers(&goldens.tensors[&format!("table.{name}.{kind}")]);
            let schedule = Schedule::new(&settings, precision).unwrap();
            let worst = schedule
                .alphas_cumprod()
                .iter()
                .zip(&expected)
                .fold(0.0_f64, |worst, (a, b)| worst.max((a - b).abs() / b.abs().max(1e-30)));
            let tolerance = if precision == Precision::Single { 0.0 } else { 1e-12 };
            assert!(worst <= tolerance, "{name} {kind}: {worst:e}");
        }
    }
}

#[test]
fn a_folder_s_scheduler_becomes_another_as_in_diffusers() {
    #[derive(Deserialize)]
    struct Conversion {
        of: String,
        given: String,
        class: String,
        written: String,
        timesteps: Vec<f64>,
        init_noise_sigma: f64,
    }
    let conversions: Vec<Conversion> = Goldens::open().list("conversions");
    assert_eq!(conversions.len(), 18);
    for Conversion { of, given, class, written, timesteps, init_noise_sigma } in conversions {
        let kind = *SamplerKind::ALL.iter().find(|kind| kind.class() == class).unwrap();
        let folder = SchedulerConfig::from_json(&given).unwrap();
        let ours = folder.convert(kind).unwrap();
        assert_eq!(SchedulerConfig::from_json_as(&given, kind).unwrap(), ours);
        let theirs = SchedulerConfig::from_json(&written).unwrap();
        assert_eq!(ours.settings(), theirs.settings(), "{of} to {class}");
        let fields: Value = serde_json::from_str(&written.replace("-Infinity", "null")).unwrap();
        let mut fields = fields.as_object().unwrap().clone();
        // Minus infinity has no JSON, and is the default.
        fields.remove("lambda_min_clipped");
        assert_eq!(ours.to_json().as_object().unwrap(), &fields, "{of} to {class}");
        let sampler = Sampler::new(ours.settings(), 10, Precision::Single).unwrap();
        assert_eq!(sampler.timesteps(), timesteps);
        assert_eq!(sampler.init_noise_sigma(), init_noise_sigma);
        assert_ne!(ours.settings().spacing, Spacing::Trailing);
    }
}
