//! One optimiser step over a network's parameters, and the copy that bounds it.

use anyhow::{Result, ensure};
use diffgrad::optim::fused::{self, Slices};
use diffgrad::optim::{OptimiserConfig, RuleName, reference};
use rayon::prelude::*;
use sd_core::rng::Rng;

use super::{Amount, Case, Work};

/// Numbers copied by one piece of work.
const PIECE: usize = 1 << 15;

/// Every case, in the order of the PyTorch program.
pub(super) fn all() -> Vec<Case> {
    sizes().into_iter().flat_map(|(label, lengths)| of_size(label, lengths)).collect()
}

/// Lengths of the parameters: about those of ResNet50 (19.9 M in 161 tensors), and 100 M in one.
fn sizes() -> Vec<(&'static str, Vec<usize>)> {
    let mut resnet50 = vec![64 * 64 * 9; 60];
    resnet50.extend([256 * 256 * 9; 30]);
    resnet50.extend([256; 71]);
    vec![("resnet50", resnet50), ("flat100m", vec![100_000_000])]
}

fn of_size(label: &str, lengths: Vec<usize>) -> [Case; 3] {
    let numbers: usize = lengths.iter().sum();
    let case = |op: &str, bytes_a_number: u64, prepare| Case {
        name: format!("{op}/f32/{label}/step"),
        work: Amount::Bytes(bytes_a_number * numbers as u64),
        prepare,
    };
    let other = lengths.clone();
    [
        // Five reads and four writes of four bytes; Adam keeps no gradient: four and three.
        case("diffgrad", 36, Box::new(move || step(RuleName::DiffGrad, &lengths))),
        case("adam", 28, Box::new(move || step(RuleName::Adam, &other))),
        case("copy", 8, Box::new(move || Ok(copy(numbers)))),
    ]
}

/// One fused step over parameters of these lengths, after a check that its values are right.
fn step(rule: RuleName, lengths: &[usize]) -> Result<Work> {
    let config = OptimiserConfig::new(rule, 1e-3);
    validate(&config)?;
    let mut parameters: Vec<Parameter> = lengths
        .iter()
        .enumerate()
        .map(|(index, length)| Parameter::new(rule, *length, index as u64))
        .collect();
    let mut t = 0;
    Ok(Box::new(move || {
        t += 1;
        let slices = parameters.iter_mut().map(|parameter| parameter.lend(t)).collect();
        // A step can only be refused for lengths and settings, which `validate` has seen pass.
        fused::step::<f32>(&config, slices, None).unwrap_or_else(|fault| unreachable!("{fault}"));
    }))
}

struct Parameter {
    theta: Vec<f32>,
    gradient: Vec<f32>,
    state: [Vec<f32>; 3],
}

impl Parameter {
    fn new(rule: RuleName, length: usize, index: u64) -> Self {
        let random = |purpose| {
            let mut rng = Rng::new(0, purpose, index);
            (0..length).map(|_| rng.uniform_f32() - 0.5).collect()
        };
        let used = rule.buffers().len();
        let state = std::array::from_fn(|i| if i < used { vec![0.0; length] } else { Vec::new() });
        Self { theta: random("bench theta"), gradient: random("bench gradient"), state }
    }

    fn lend(&mut self, t: u64) -> Slices<'_, f32> {
        let state = self.state.each_mut().map(Vec::as_mut_slice);
        Slices { theta: &mut self.theta, gradient: &self.gradient, state, t }
    }
}

/// Three steps of the timed code against the plain reference in f64: what computes wrong values is not timed.
fn validate(config: &OptimiserConfig) -> Result<()> {
    let mut fast = Parameter::new(config.rule, 1_000, 0);
    let mut slow: Vec<f64> = fast.theta.iter().map(|value| f64::from(*value)).collect();
    let gradient: Vec<f64> = fast.gradient.iter().map(|value| f64::from(*value)).collect();
    let mut state = reference::State::default();
    for t in 1..=3 {
        fused::step(config, vec![fast.lend(t)], None)?;
        reference::step(config, &mut slow, &gradient, &mut state);
    }
    let worst = fast.theta.iter().zip(&slow).map(|(f, s)| (f64::from(*f) - s).abs()).fold(0.0, f64::max);
    ensure!(worst <= 1e-6, "{:?}: values differ from the reference by {worst}: not timed", config.rule);
    Ok(())
}

fn copy(numbers: usize) -> Work {
    let from = vec![1.0f32; numbers];
    let mut to = vec![0.0f32; numbers];
    Box::new(move || {
        let pieces = to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE));
        pieces.for_each(|(to, from)| to.copy_from_slice(from));
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_is_timed_computes_what_the_reference_does() {
        for rule in [RuleName::DiffGrad, RuleName::Adam] {
            validate(&OptimiserConfig::new(rule, 1e-3)).unwrap();
        }
    }

    #[test]
    fn each_piece_of_work_runs() {
        copy(100_000)();
        step(RuleName::DiffGrad, &[10, 70_000]).unwrap()();
    }
}
