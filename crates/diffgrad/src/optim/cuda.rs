//! What an optimiser step does on a CUDA device: one launch of `optimiser.cu` over all parameters, two for the variants 3 to 5.
//!
//! The program depends on the rule, the hyper-parameters other than the learning rate, and the parameters' lengths; it is made once.
//! [`chunks`] and [`lengths`] go to the device once too. What changes from step to step, the learning rate and each parameter's
//! count of steps, is in [`scalars`], three numbers a parameter. ξ is not counted on a device.

#[cfg(feature = "cuda")]
pub(super) mod device;

use candle_core::{Result, bail};
use sd_core::cuda::{Arg, Buffer, Element, Program, Source};

use super::config::{Epsilon, Hyper, OptimiserConfig, RuleName};
use super::laws::Scalars;

/// `optimiser.cu`.
pub static SOURCE: Source = Source {
    name: "optimiser",
    path: "crates/diffgrad/src/optim/optimiser.cu",
    text: include_str!("optimiser.cu"),
    kernels: &[
        "optimiser_magnitudes",
        "optimiser_sgd",
        "optimiser_adagrad",
        "optimiser_rmsprop",
        "optimiser_adadelta",
        "optimiser_adam",
        "optimiser_adam_inside",
        "optimiser_halved",
        "optimiser_amsgrad",
        "optimiser_diffgrad",
        "optimiser_diffgrad1",
        "optimiser_diffgrad2",
        "optimiser_spread",
    ],
    stack_limit: 0,
};

/// Elements of a block: `CHUNK` of `optimiser.cu`.
const CHUNK: usize = 1 << 15;
const THREADS: u32 = 512;

/// The table of blocks for parameters of these lengths: parameter, chunk of it, first block of the parameter, its blocks.
#[must_use]
pub fn chunks(lengths: &[usize]) -> Vec<u32> {
    let mut table = Vec::new();
    for (tensor, length) in lengths.iter().enumerate() {
        let (first, count) = (table.len() / 4, length.div_ceil(CHUNK));
        table.extend((0..count).flat_map(|chunk| [tensor, chunk, first, count].map(|number| number as u32)));
    }
    table
}

/// The lengths as the device takes them.
#[must_use]
pub fn lengths(lengths: &[usize]) -> Vec<i64> {
    lengths.iter().map(|length| *length as i64).collect()
}

/// What differs between parameters and steps, for the steps `t` (from 1) that the parameters are about to do: minus the step, the
/// bias correction beside √v, and 1 where ξ is σ(|g|) at this step.
#[must_use]
pub fn scalars(config: &OptimiserConfig, t: &[u64]) -> Vec<f32> {
    let hyper = config.hyper();
    let of_one = |t: &u64| {
        let (step, bias2) = Scalars::new(hyper, *t).step_and_bias();
        let first = hyper.rule == RuleName::DiffGradAsRun && *t == 1;
        [-step as f32, bias2 as f32, f32::from(u8::from(first))]
    };
    t.iter().flat_map(of_one).collect()
}

/// (chunks, lengths, scalars, every gradient; every θ, every first state buffer, every second, every third) with the last
/// four updated in place.
///
/// # Errors
/// If the configuration is not valid or there is nothing to step.
pub fn step(config: &OptimiserConfig, lengths: &[usize]) -> Result<Program> {
    config.validate().map_err(candle_core::Error::wrap)?;
    let blocks: usize = lengths.iter().map(|length| length.div_ceil(CHUNK)).sum();
    let Some(grid) = u32::try_from(blocks).ok().filter(|blocks| (1..=0x7fff_ffff).contains(blocks)) else {
        bail!("optimiser on CUDA: {blocks} blocks of {CHUNK} elements; expected 1 to 2³¹ − 1");
    };
    let mut program = Program::new(format!("optimiser {}", config.rule.name()));
    let buffers = Buffers::new(&mut program, config.rule, lengths, blocks);
    let hyper = config.hyper();
    let mut args = buffers.numbers(&hyper);
    if let Some(variant) = variant(hyper.rule) {
        let triples = program.scratch(Element::F32, 3 * blocks);
        let of_magnitudes = buffers.magnitudes(&hyper, triples);
        program.launch(&SOURCE, "optimiser_magnitudes", [grid, 1, 1], [THREADS, 1, 1], 0, of_magnitudes);
        args.extend([Arg::I32(variant), Arg::Buffer(triples)]);
    }
    args.extend([Arg::Pointers(buffers.theta), Arg::Pointers(buffers.gradient)]);
    args.extend(buffers.states.into_iter().map(Arg::Pointers));
    program.launch(&SOURCE, kernel(&hyper), [grid, 1, 1], [THREADS, 1, 1], 0, args);
    Ok(program)
}

struct Buffers {
    chunks: Buffer,
    lengths: Buffer,
    scalars: Buffer,
    gradient: Vec<Buffer>,
    theta: Vec<Buffer>,
    states: Vec<Vec<Buffer>>,
}

impl Buffers {
    fn new(program: &mut Program, rule: RuleName, lengths: &[usize], blocks: usize) -> Self {
        let chunks = program.input(Element::U32, 4 * blocks);
        let table = program.input(Element::I64, lengths.len());
        let scalars = program.input(Element::F32, 3 * lengths.len());
        let gradient = lengths.iter().map(|length| program.input(Element::F32, *length)).collect();
        let mut updated = || lengths.iter().map(|length| program.in_out(Element::F32, *length)).collect();
        let theta = updated();
        let states = rule.buffers().iter().map(|_| updated()).collect();
        Self { chunks, lengths: table, scalars, gradient, theta, states }
    }

    /// What every rule's kernel takes first.
    fn numbers(&self, hyper: &Hyper) -> Vec<Arg> {
        let mut args = vec![Arg::Buffer(self.chunks), Arg::Buffer(self.lengths), Arg::Buffer(self.scalars)];
        let Hyper { decay, beta2, eps, weight_decay, .. } = *hyper;
        let numbers = [decay, 1.0 - decay, beta2, 1.0 - beta2, eps, weight_decay];
        args.extend(numbers.map(|number| Arg::F32(number as f32)));
        args.push(Arg::I32(i32::from(hyper.epsilon == Epsilon::Modern)));
        args
    }

    fn magnitudes(&self, hyper: &Hyper, triples: Buffer) -> Vec<Arg> {
        vec![
            Arg::Buffer(self.chunks),
            Arg::Buffer(self.lengths),
            Arg::F32(hyper.weight_decay as f32),
            Arg::Pointers(self.theta.clone()),
            Arg::Pointers(self.gradient.clone()),
            Arg::Buffer(triples),
        ]
    }
}

/// Which variant of diffGrad needs mean and deviation of |g|.
fn variant(rule: RuleName) -> Option<i32> {
    match rule {
        RuleName::DiffGrad3 => Some(3),
        RuleName::DiffGrad4 => Some(4),
        RuleName::DiffGrad5 => Some(5),
        _ => None,
    }
}

fn kernel(hyper: &Hyper) -> &'static str {
    match hyper.rule {
        RuleName::Sgd => "optimiser_sgd",
        RuleName::AdaGrad => "optimiser_adagrad",
        RuleName::AdaDelta => "optimiser_adadelta",
        RuleName::RmsProp => "optimiser_rmsprop",
        RuleName::Adam if hyper.epsilon == Epsilon::Inside => "optimiser_adam_inside",
        RuleName::Adam => "optimiser_adam",
        RuleName::AmsGrad => "optimiser_amsgrad",
        RuleName::DiffGradAsRun | RuleName::HalfStep => "optimiser_halved",
        RuleName::DiffGrad => "optimiser_diffgrad",
        RuleName::DiffGrad1 => "optimiser_diffgrad1",
        RuleName::DiffGrad2 => "optimiser_diffgrad2",
        RuleName::DiffGrad3 | RuleName::DiffGrad4 | RuleName::DiffGrad5 => "optimiser_spread",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn chunks_cover_every_parameter_once() {
        let table = chunks(&[1, 0, CHUNK, CHUNK + 1, 3 * CHUNK]);
        let expected = [
            [0, 0, 0, 1],
            [2, 0, 1, 1],
            [3, 0, 2, 2],
            [3, 1, 2, 2],
            [4, 0, 4, 3],
            [4, 1, 4, 3],
            [4, 2, 4, 3],
        ];
        assert_eq!(table, expected.concat());
    }

    #[test]
    fn no_rule_takes_more_than_two_launches() {
        for rule in RuleName::ALL {
            let program = step(&OptimiserConfig::new(rule, 1e-3), &[5, 40_000]).unwrap();
            assert_eq!(program.steps.len(), if variant(rule).is_some() { 2 } else { 1 }, "{}", rule.name());
        }
        assert!(step(&OptimiserConfig::new(RuleName::Sgd, 1e-3), &[]).is_err());
    }
}
