//! What the models' tests share: PyTorch's random weights made anew, and fingerprints of activations to hold ours against.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use crate::nn::{Init, Source};
use crate::rng::mt19937::TorchCpu;
use crate::taps::{Action, Site, Tap};

/// `torch.randn(shape, generator=torch.Generator().manual_seed(seed))` in `f32`.
pub(crate) fn torch_randn(seed: u64, shape: &[usize]) -> Tensor {
    let values = TorchCpu::new(seed).normals_f32(shape.iter().product());
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// A model's weights by the rule of `tools/parity/common.py::fill`: the i-th name in sorted order from the seed `seed + i`.
pub(crate) fn torch_state(parameters: &[(String, Vec<usize>)], seed: u64) -> BTreeMap<String, Tensor> {
    let sorted: BTreeMap<&String, &Vec<usize>> =
        parameters.iter().map(|(name, shape)| (name, shape)).collect();
    let fill = |(i, (name, shape)): (usize, (&&String, &&Vec<usize>))| {
        ((*name).clone(), fill(name, shape, seed + i as u64))
    };
    sorted.iter().enumerate().map(fill).collect()
}

fn fill(name: &str, shape: &[usize], seed: u64) -> Tensor {
    let values = TorchCpu::new(seed).normals_f32(shape.iter().product());
    let fan_in: usize = shape.iter().skip(1).product();
    let rule: Box<dyn Fn(f32) -> f32> =
        if name.contains("embedding.weight") || name.ends_with("class_embedding") {
            Box::new(|x| x * 0.5)
        } else if name.ends_with("logit_scale") {
            Box::new(|x| x * 0.1 + 2.0)
        } else if shape.len() >= 2 {
            let factor = (0.8 / (fan_in as f64).sqrt()) as f32;
            Box::new(move |x| x * factor)
        } else if name.ends_with("weight") {
            Box::new(|x| x * 0.1 + 1.0)
        } else {
            Box::new(|x| x * 0.1)
        };
    Tensor::from_vec(values.into_iter().map(rule).collect::<Vec<f32>>(), shape, &Device::Cpu).unwrap()
}

/// Frozen tensors by name.
pub(crate) struct State {
    tensors: BTreeMap<String, Tensor>,
    device: Device,
    dtype: DType,
}

impl State {
    pub(crate) fn new(tensors: BTreeMap<String, Tensor>, dtype: DType) -> Self {
        Self { tensors, device: Device::Cpu, dtype }
    }
}

impl Source for State {
    fn parameter(&mut self, path: &str, shape: &[usize], _: Init) -> candle_core::Result<Tensor> {
        let tensor = &self.tensors[path];
        assert_eq!(tensor.dims(), shape, "{path}");
        tensor.to_dtype(self.dtype)
    }

    fn buffer(&mut self, path: &str, _: &[usize], _: f64) -> candle_core::Result<candle_core::Var> {
        candle_core::Var::from_tensor(&self.tensors[path].to_dtype(self.dtype)?)
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn dtype(&self) -> DType {
        self.dtype
    }
}

/// What is kept of an activation: every element counts in the projections, and a few are kept as they are.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Fingerprint {
    shape: Vec<usize>,
    rms: f64,
    /// Σ ±x over a few choices of signs.
    projections: Vec<f64>,
    /// Evenly spaced elements, the first and the last among them.
    values: Vec<f64>,
}

/// How far the error of one element may stand out from that of all.
const SINGLE: f64 = 5.0;

/// Fingerprints by name.
pub(crate) type Golden = BTreeMap<String, Fingerprint>;

/// The file `name` of `tests/goldens`, written by `tools/parity`.
pub(crate) fn golden(name: &str) -> BTreeMap<String, Golden> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/goldens").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Fingerprint {
    /// Holds `value` against it to `tolerance` in the norm: ‖found − expected‖ over ‖expected‖, of which every projection is an estimate
    /// from all elements (the square of a sum with random signs is on average the sum of squares) and the samples are one from some. A
    /// single sample may be off by [`SINGLE`] times as much, relative to the root mean square.
    pub(crate) fn check(&self, name: &str, value: &Tensor, tolerance: f64) {
        assert_eq!(value.dims(), self.shape, "{name}");
        let x: Vec<f64> = value.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap();
        let mut squares = 0.0;
        for (i, (j, expected)) in places(x.len(), self.values.len()).zip(&self.values).enumerate() {
            let error = (x[j] - expected).abs() / self.rms;
            let found = x[j];
            assert!(
                error <= SINGLE * tolerance,
                "{name}: sample {i}: expected {expected}, found {found} ({error:e})"
            );
            squares += error * error / self.values.len() as f64;
        }
        assert!(squares.sqrt() <= tolerance, "{name}: the samples are off by {:e}", squares.sqrt());
        let scale = self.rms * (x.len() as f64).sqrt();
        for (p, expected) in self.projections.iter().enumerate() {
            let found: f64 = x.iter().enumerate().map(|(j, x)| sign(j, p) * x).sum();
            let error = (found - expected).abs() / scale;
            assert!(
                error <= tolerance,
                "{name}: projection {p}: expected {expected}, found {found} ({error:e})"
            );
        }
    }
}

/// `count` evenly spaced indices of 0..n.
fn places(n: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| if count < 2 { 0 } else { i * (n - 1) / (count - 1) })
}

/// The sign of element j in projection p: the lowest bit of SplitMix64's output for the state 8j + p.
pub(crate) fn sign(j: usize, p: usize) -> f64 {
    let mut z = ((8 * j + p) as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    if (z ^ (z >> 31)) & 1 == 0 { 1.0 } else { -1.0 }
}

/// Holds every activation of a pass against fingerprints, by its site's name, and counts the visits.
pub(crate) struct Against<'a> {
    golden: &'a Golden,
    tolerance: f64,
    /// Names in the order of the pass.
    pub(crate) seen: Vec<String>,
}

impl<'a> Against<'a> {
    pub(crate) fn new(golden: &'a Golden, tolerance: f64) -> Self {
        Self { golden, tolerance, seen: Vec::new() }
    }

    /// Fails where the goldens hold an activation that no site gave; those of `others` are the outputs, held elsewhere.
    pub(crate) fn finish(&self, others: &[&str]) {
        for name in self.golden.keys() {
            assert!(self.seen.contains(name) || others.contains(&name.as_str()), "no site gave {name}");
        }
    }
}

impl Tap for Against<'_> {
    fn wants(&self, _: &Site) -> bool {
        true
    }

    fn visit(&mut self, site: &Site, value: &Tensor) -> candle_core::Result<Action> {
        let name = site.to_string();
        let fingerprint = self.golden.get(&name).unwrap_or_else(|| panic!("the goldens have no {name}"));
        fingerprint.check(&name, value, self.tolerance);
        assert!(!self.seen.contains(&name), "{name} came by twice");
        self.seen.push(name);
        Ok(Action::Keep)
    }
}
