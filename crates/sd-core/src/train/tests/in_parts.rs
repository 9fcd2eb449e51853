//! Steps whose batch is cut into parts.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Result;

use super::{
    BTreeMap, Conv2d, DType, Device, Linear, LogRow, Parameters, Scope, Sgd, Tensor, bits, normal, small_run,
};
use crate::train::{Task, run_in_parts};

/// A network without buffers: parts would change them in any order.
struct Plain {
    conv: Conv2d,
    linear: Linear,
}

fn model() -> (Parameters, Plain) {
    let mut parameters = Parameters::default();
    let mut scope = Scope::root(&mut parameters, 7, DType::F32, &Device::Cpu);
    let conv = Conv2d::with_bias(&mut scope.child("conv"), [2, 3], 3, 1, 1).unwrap();
    let linear = Linear::new(&mut scope.child("linear"), 3, 3).unwrap();
    (parameters, Plain { conv, linear })
}

fn loss(model: &Plain, step: u64) -> Result<Tensor> {
    let x = normal(2 * step, &[4, 2, 6, 6]).to_dtype(DType::F32)?;
    let y = normal(2 * step + 1, &[4, 3]).to_dtype(DType::F32)?;
    let features = model.conv.forward(&x)?.flatten_from(2)?.mean(2)?;
    (model.linear.forward(&features)? - y)?.sqr()?.mean_all()
}

/// Part p of a step is the loss of step `parts·k + p`.
struct Cut {
    model: Plain,
    parts: usize,
    prepared: AtomicUsize,
    /// Fails at this step.
    fails_at: Option<u64>,
}

impl Task for Cut {
    fn prepare(&mut self) -> Result<()> {
        self.prepared.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn parts(&self) -> usize {
        self.parts
    }

    fn loss(&self, step: u64, part: usize) -> Result<Tensor> {
        if self.fails_at == Some(step) {
            candle_core::bail!("part {part} of step {step} fails");
        }
        loss(&self.model, step * self.parts as u64 + part as u64)
    }
}

/// Trains with `parts` parts on `threads` threads: the weights, the log, and how often it was prepared.
fn trained(folder: &Path, parts: usize, threads: usize) -> (BTreeMap<String, Vec<u32>>, Vec<LogRow>, usize) {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| {
        let (parameters, model) = model();
        let mut optimiser = Sgd::new(&parameters);
        let mut task = Cut { model, parts, prepared: AtomicUsize::new(0), fails_at: None };
        let run = small_run(&parameters, &mut optimiser, &folder.join("training.safetensors"));
        let trained = run_in_parts(run, &mut task, &mut ()).unwrap();
        (bits(&parameters.state().unwrap()), trained.log, task.prepared.into_inner())
    })
}

#[test]
fn threads_change_no_bit_of_a_step_in_parts() {
    let folders: Vec<tempfile::TempDir> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let one = trained(folders[0].path(), 3, 1);
    for (folder, threads) in folders[1..].iter().zip([2, 3, 5]) {
        assert_eq!(trained(folder.path(), 3, threads), one, "{threads} threads");
    }
    assert_eq!(one.2, 1, "prepared once");
}

#[test]
fn one_part_is_the_whole_step_to_the_bit() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (weights, log, _) = trained(folder.path(), 1, 2);
    let (parameters, model) = model();
    let mut optimiser = Sgd::new(&parameters);
    let run = small_run(&parameters, &mut optimiser, &other.path().join("training.safetensors"));
    let whole = crate::train::run(run, &mut |step| loss(&model, step), &mut ()).unwrap();
    assert_eq!(weights, bits(&parameters.state().unwrap()));
    assert_eq!(log, whole.log);
}

/// The gradient of a mean is the mean of the gradients, but for rounding.
#[test]
fn parts_are_averaged() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, log, _) = trained(folder.path(), 4, 2);
    let (parameters, model) = model();
    let mut optimiser = Sgd::new(&parameters);
    let run = small_run(&parameters, &mut optimiser, &other.path().join("training.safetensors"));
    let mut mean = |step: u64| -> Result<Tensor> {
        let parts: Vec<Tensor> = (0..4).map(|part| loss(&model, 4 * step + part)).collect::<Result<_>>()?;
        Tensor::stack(&parts, 0)?.mean_all()
    };
    let whole = crate::train::run(run, &mut mean, &mut ()).unwrap();
    for (row, expected) in log.iter().zip(&whole.log) {
        assert!(
            (row.loss - expected.loss).abs() < 1e-5 * expected.loss.abs().max(1.0),
            "{row:?} {expected:?}"
        );
        let off = (row.gradient_norm - expected.gradient_norm).abs();
        assert!(off < 1e-4 * expected.gradient_norm.max(1.0), "{row:?} {expected:?}");
    }
}

#[test]
fn a_part_that_fails_ends_the_run_with_its_error_and_a_done_run_prepares_nothing() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(trained(folder.path(), 2, 2).2, 1);
    assert_eq!(trained(folder.path(), 2, 2).2, 0, "no step is left");
    let (parameters, model) = model();
    let mut optimiser = Sgd::new(&parameters);
    let other = tempfile::tempdir().unwrap();
    let run = small_run(&parameters, &mut optimiser, &other.path().join("training.safetensors"));
    let mut task = Cut { model, parts: 2, prepared: AtomicUsize::new(0), fails_at: Some(3) };
    let error = run_in_parts(run, &mut task, &mut ()).unwrap_err();
    let told = format!("{error} {:?}", std::error::Error::source(&error).map(ToString::to_string));
    assert!(told.contains("step 3"), "{told}");
}
