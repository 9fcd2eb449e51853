//! Every sampler against diffusers, step for step (`tools/parity/samplers.py` made what is compared with).
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Result, Tensor};
use sd_core::rng::mt19937::TorchCpu;
use sd_core::sampling::{
    Beta, Precision, Sampler, SamplerKind, Schedule, ScheduleSettings, SchedulerConfig, Spacing, State,
};
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

    /// With correctly rounded square roots the bits are the same; PyTorch's own are up to 0.75 units of the last place off.
    fn tolerance(&self) -> f64 {
        match self.kind.as_str() {
            "single" => 1e-5,
            "rounded" => 0.0,
            _ => 1e-10,
        }
    }

    fn dtype(&self) -> DType {
        if self.kind == "double" { DType::F64 } else { DType::F32 }
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
    let mut faults = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let config = SchedulerConfig::from_json(&configs[case.config]).unwrap();
        let sampler = Sampler::with_eta(config.settings(), case.steps, case.precision(), case.eta).unwrap();
        let stored = goldens.tensors[&format!("case.{number:03}")].to_dtype(DType::F64).unwrap();
        let expected: Vec<Vec<f64>> = stored.to_vec2().unwrap();
        let ours: Vec<Vec<f64>> = trajectory(&sampler, case).unwrap().iter().map(numbers).collect();
        assert_eq!(ours.len(), expected.len(), "{case:?}");
        for (step, (ours, expected)) in ours.iter().zip(&expected).enumerate() {
            let found = error(ours, expected);
            if !(found <= case.tolerance()) {
                faults.push(format!("{} step {step}: {found:e}, {}", case.kind, configs[case.config]));
            }
        }
    }
    assert!(cases.len() > 300);
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
        let found = error(&[sampler.init_noise_sigma()], &[case.init_noise_sigma]);
        assert!(found <= case.tolerance(), "{found:e} {case:?} {}", configs[case.config]);
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
        for steps in 1..999 {
            // Tables do not matter here and are the slow part of making a sampler.
            let sampler = Sampler::new(&settings, steps, Precision::Single).unwrap();
            sampler.timesteps().iter().for_each(|t| digest.update(t.to_le_bytes()));
        }
        let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(found, sha256, "{config}");
    }
}

#[test]
fn tables_are_those_of_diffusers() {
    let goldens = Goldens::open();
    let scaled = ScheduleSettings::stable_diffusion();
    let linear = ScheduleSettings { beta: Beta::Linear, beta_start: 1e-4, beta_end: 0.02, ..scaled };
    let tables = [
        ("scaled_linear", scaled),
        ("linear", linear),
        ("cosine", ScheduleSettings { beta: Beta::Cosine, ..scaled }),
        ("scaled_linear_zero_snr", ScheduleSettings { zero_terminal_snr: true, ..scaled }),
        ("short", ScheduleSettings { train_steps: 37, ..scaled }),
    ];
    for (name, settings) in tables {
        let rounded_roots = if settings.zero_terminal_snr { 1e-5 } else { 0.0 };
        let kinds = [
            ("single", Precision::Single, rounded_roots),
            ("rounded", Precision::Single, 0.0),
            ("double", Precision::Double, 1e-12),
        ];
        for (kind, precision, tolerance) in kinds {
            let expected = numbers(&goldens.tensors[&format!("table.{name}.{kind}")]);
            let schedule = Schedule::new(&settings, precision).unwrap();
            for (t, (&ours, expected)) in schedule.alphas_cumprod().iter().zip(expected).enumerate() {
                let error = (ours - expected).abs();
                assert!(error <= tolerance * expected, "{name} {kind} {t}: {ours:e} and {expected:e}");
            }
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
