//! A small network, a small optimiser, and what the tests of a run do with them.
#![allow(clippy::unwrap_used)]

mod in_parts;
mod parts;
mod refusals;
mod resume;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var, bail};

use super::{Decay, Ema, LogRow, Optimiser, Progress, Run, Schedule, TrainError, Trained, Watch, run};
use crate::nn::{BatchNorm2d, Conv2d, GroupNorm, Linear, Parameters, Scope};
use crate::ops::testing::normal;

/// SGD with momentum: b ← 0.9·b + g, θ ← θ − lr·b.
struct Sgd {
    lr: f64,
    slots: Vec<(String, Var, Var)>,
}

impl Sgd {
    fn new(parameters: &Parameters) -> Self {
        let slot = |(name, var): (&str, &Var)| {
            (name.to_owned(), var.clone(), Var::from_tensor(&var.zeros_like().unwrap()).unwrap())
        };
        Self { lr: 0.0, slots: parameters.named().map(slot).collect() }
    }
}

impl Optimiser for Sgd {
    fn step(&mut self, gradients: &GradStore) -> Result<()> {
        for (_, var, momentum) in &self.slots {
            let Some(gradient) = gradients.get(var) else { continue };
            momentum.set(&((momentum.as_detached_tensor() * 0.9)? + gradient)?)?;
            var.set(&(var.as_detached_tensor() - (momentum.as_detached_tensor() * self.lr)?)?)?;
        }
        Ok(())
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        self.slots.iter().map(|(name, _, momentum)| Ok((name.clone(), momentum.copy()?))).collect()
    }

    fn restore(&mut self, state: BTreeMap<String, Tensor>) -> Result<()> {
        for (name, _, momentum) in &self.slots {
            let Some(saved) = state.get(name) else { bail!("`{name}` is missing") };
            momentum.set(saved)?;
        }
        Ok(())
    }
}

/// Two norms, one of them with buffers, between a convolution and a linear layer.
struct Small {
    conv: Conv2d,
    norm: GroupNorm,
    batch_norm: BatchNorm2d,
    out: Linear,
}

impl Small {
    fn new(scope: &mut Scope<'_>) -> Result<Self> {
        Ok(Self {
            conv: Conv2d::with_bias(&mut scope.child("conv"), [2, 8], 3, 1, 1)?,
            norm: GroupNorm::new(&mut scope.child("norm"), 4, 8, 1e-5)?,
            batch_norm: BatchNorm2d::new(&mut scope.child("batch_norm"), 8)?,
            out: Linear::new(&mut scope.child("out"), 8, 3)?,
        })
    }

    fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.batch_norm.forward(&self.norm.forward_silu(&self.conv.forward(x)?)?, true)?;
        self.out.forward(&x.mean((2, 3))?)
    }
}

fn model() -> (Parameters, Small) {
    let mut parameters = Parameters::default();
    let model = Small::new(&mut Scope::root(&mut parameters, 7, DType::F32, &Device::Cpu)).unwrap();
    (parameters, model)
}

/// The batch of step k is a function of k.
fn loss(model: &Small, step: u64) -> Result<Tensor> {
    let x = normal(2 * step, &[4, 2, 6, 6]).to_dtype(DType::F32)?;
    let y = normal(2 * step + 1, &[4, 3]).to_dtype(DType::F32)?;
    (model.forward(&x)? - y)?.sqr()?.mean_all()
}

const STEPS: u64 = 40;

fn schedule() -> Schedule {
    Schedule { peak: 0.05, warmup: 5, decay: Decay::Cosine, steps: STEPS, floor: 0.1 }
}

/// A run with settings of every kind, its log written at intervals that no stop falls on.
fn small_run<'a>(parameters: &'a Parameters, optimiser: &'a mut Sgd, checkpoint: &Path) -> Run<'a> {
    Run {
        parameters,
        optimiser,
        schedule: schedule(),
        ema: Some(0.9),
        clip: Some(0.5),
        checkpoint: checkpoint.to_owned(),
        checkpoint_every: Duration::from_secs(3600),
        log_every: 7,
        configuration: "model: small\nlr: 0.05\n".to_owned(),
    }
}

/// Stops after so many steps, and keeps what it was told.
#[derive(Default)]
struct StopAfter {
    steps: Option<u64>,
    seen: Vec<u64>,
    rows: Vec<LogRow>,
}

impl Watch for StopAfter {
    fn logged(&mut self, row: &LogRow, progress: &Progress) {
        assert_eq!(row.step, progress.step);
        assert!(progress.seconds_left >= 0.0 && progress.seconds_per_step >= 0.0);
        self.rows.push(*row);
    }

    fn stop(&mut self) -> bool {
        self.steps.is_some_and(|steps| self.seen.len() as u64 >= steps)
    }

    fn after_step(&mut self, step: u64, ema: Option<&Ema>) -> Result<()> {
        assert_eq!(ema.unwrap().updates(), step);
        self.seen.push(step);
        Ok(())
    }
}

/// Everything anew, as a process that was just started; returns the parameters too.
fn sitting(
    checkpoint: &Path,
    watch: &mut dyn Watch,
) -> std::result::Result<(Trained, BTreeMap<String, Tensor>), TrainError> {
    sitting_with(checkpoint, watch, |_| {}, |loss, _| Ok(loss))
}

fn sitting_with(
    checkpoint: &Path,
    watch: &mut dyn Watch,
    change: impl FnOnce(&mut Run<'_>),
    bend: impl Fn(Tensor, u64) -> Result<Tensor>,
) -> std::result::Result<(Trained, BTreeMap<String, Tensor>), TrainError> {
    let (parameters, model) = model();
    let mut optimiser = Sgd::new(&parameters);
    let mut settings = small_run(&parameters, &mut optimiser, checkpoint);
    change(&mut settings);
    let trained = run(settings, &mut |step| bend(loss(&model, step)?, step), watch)?;
    Ok((trained, parameters.state().unwrap()))
}

/// The bits of every tensor, as f32.
fn bits(state: &BTreeMap<String, Tensor>) -> BTreeMap<String, Vec<u32>> {
    let of = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let of = |tensor: &Tensor| of(tensor).into_iter().map(f32::to_bits).collect();
    state.iter().map(|(name, tensor)| (name.clone(), of(tensor))).collect()
}
