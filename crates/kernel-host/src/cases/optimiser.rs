//! Optimiser steps: every rule and place of ε, parameters of one element and of more than a block, each at its own step.

use candle_core::Result;
use diffgrad::optim::cuda;
use diffgrad::optim::reference::{self, State};
use diffgrad::optim::{Epsilon, OptimiserConfig, RuleName};
use sd_core::cuda::Element;

use super::{Case, Job, Work, normals};
use crate::{Data, Expected};

const OP: &str = "optimiser";

/// Tails after whole packs, several blocks of 32768.
const SMALL: [usize; 5] = [1, 31, 257, 4096, 33_027];
/// A ResNet-50's worth in one tensor.
const LARGE: [usize; 1] = [23_500_000];
/// Steps that the parameters are about to do.
const STEPS: [u64; 5] = [1, 2, 7, 1000, 3];

pub(super) fn cases() -> Vec<Case> {
    let small = configs().map(|config| Case::new(OP, named(&config, &SMALL), move || step(&config, &SMALL)));
    let timed = [RuleName::Adam, RuleName::DiffGrad, RuleName::DiffGrad3].map(|rule| {
        let config = OptimiserConfig::new(rule, 1e-3);
        let work = work(rule);
        Case::new(OP, named(&config, &LARGE), move || step(&config, &LARGE)).timed(work)
    });
    small.chain(timed).collect()
}

/// Each rule with a weight decay, and Adam's family with ε elsewhere.
fn configs() -> impl Iterator<Item = OptimiserConfig> {
    let decayed = |rule| OptimiserConfig { weight_decay: 0.01, ..OptimiserConfig::new(rule, 0.05) };
    let elsewhere = [
        (RuleName::Adam, Epsilon::Inside),
        (RuleName::Adam, Epsilon::Modern),
        (RuleName::AmsGrad, Epsilon::Modern),
        (RuleName::DiffGrad, Epsilon::Modern),
    ];
    let elsewhere =
        elsewhere.map(|(rule, epsilon)| OptimiserConfig { epsilon: Some(epsilon), ..decayed(rule) });
    RuleName::ALL.map(decayed).into_iter().chain(elsewhere)
}

fn named(config: &OptimiserConfig, lengths: &[usize]) -> String {
    let epsilon = config.epsilon.map(|epsilon| format!(" {epsilon:?}")).unwrap_or_default();
    format!("{}{epsilon} {lengths:?}", config.rule.name())
}

/// θ, g and the state are read, θ and the state written.
fn work(rule: RuleName) -> Work {
    let moved = 2 * (1 + rule.buffers().len()) + 1;
    Work { bytes: (4 * moved * LARGE[0]) as u64, flop: 0 }
}

/// Before the first step the state is zero; later the averages of squares are positive.
fn state(rule: RuleName, parameter: usize, length: usize) -> State {
    let t = STEPS[parameter] - 1;
    let buffer = |(index, name): (usize, &&str)| {
        let values = normals(1000 + (10 * parameter + index) as u64, length, Element::F32);
        let of_squares = ["v", "max_v", "sum", "square_avg", "acc_delta"].contains(name);
        values
            .into_iter()
            .map(|x| {
                if t == 0 {
                    0.0
                } else if of_squares {
                    f64::from((x * x) as f32)
                } else {
                    x
                }
            })
            .collect()
    };
    State { t, buffers: rule.buffers().iter().enumerate().map(buffer).collect() }
}

fn step(config: &OptimiserConfig, lengths: &[usize]) -> Result<Job> {
    let single = |values: &Vec<f64>| Data::from_f64(Element::F32, values);
    let of = |stream: u64| {
        let numbered = lengths.iter().zip(stream..);
        numbered.map(|(length, stream)| normals(stream, *length, Element::F32)).collect::<Vec<_>>()
    };
    let (gradients, mut thetas) = (of(100), of(200));
    let mut states: Vec<State> = lengths
        .iter()
        .enumerate()
        .map(|(parameter, length)| state(config.rule, parameter, *length))
        .collect();
    let buffers = config.rule.buffers().len();
    let by_buffer = |states: &[State]| -> Vec<Vec<f64>> {
        (0..buffers)
            .flat_map(|buffer| states.iter().map(move |state| state.buffers[buffer].clone()))
            .collect()
    };
    let tables = [
        Data::from_u32(&cuda::chunks(lengths)),
        Data::from_i64(&cuda::lengths(lengths)),
        Data::from_f64(
            Element::F32,
            &cuda::scalars(config, &STEPS[..lengths.len()]).iter().map(|x| f64::from(*x)).collect::<Vec<_>>(),
        ),
    ];
    let given = gradients.iter().chain(&thetas).map(single);
    let inputs = tables.into_iter().chain(given).chain(by_buffer(&states).iter().map(single)).collect();
    for ((theta, gradient), state) in thetas.iter_mut().zip(&gradients).zip(&mut states) {
        reference::step(config, theta, gradient, state);
    }
    let theta = thetas.into_iter().map(|values| Expected::new("theta", Element::F32, values));
    let state = by_buffer(&states).into_iter().map(|values| Expected::new("state", Element::F32, values));
    Ok(Job { program: cuda::step(config, lengths)?, inputs, expected: theta.chain(state).collect() })
}
