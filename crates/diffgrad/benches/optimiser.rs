//! One optimiser step, by rule and by shape. `cargo bench -p diffgrad --bench optimiser`.
//!
//! Throughput is in bytes that a step must move: θ, the gradient and the state read once, θ and the state written once.
//! Every case is first checked against the plain reference.
#![allow(clippy::unwrap_used, missing_docs)]

use std::hint::black_box;

use candle_core::{DType, Device, Tensor, Var};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use diffgrad::optim::{Optimiser, OptimiserConfig, RuleName, reference};
use sd_core::rng::Rng;

/// Shapes of ResNet50's parameters in number and size, about, and one large tensor.
fn shapes() -> [(&'static str, Vec<Vec<usize>>); 2] {
    let mut resnet50 = vec![vec![64, 64, 3, 3]; 60];
    resnet50.extend(vec![vec![256, 256, 3, 3]; 30]);
    resnet50.extend(vec![vec![256]; 71]);
    [("resnet50", resnet50), ("flat10m", vec![vec![10_000_000]])]
}

fn random(purpose: &str, index: usize, shape: &[usize]) -> Tensor {
    let mut rng = Rng::new(0, purpose, index as u64);
    let values: Vec<f32> = (0..shape.iter().product()).map(|_| rng.uniform_f32() - 0.5).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

struct Problem {
    vars: Vec<Var>,
    gradients: Vec<Option<Tensor>>,
    optimiser: Optimiser,
}

impl Problem {
    fn new(config: &OptimiserConfig, shapes: &[Vec<usize>]) -> Self {
        let fill = |purpose: &'static str| {
            shapes.iter().enumerate().map(move |(i, shape)| random(purpose, i, shape))
        };
        let vars: Vec<Var> = fill("theta").map(|tensor| Var::from_tensor(&tensor).unwrap()).collect();
        let optimiser = Optimiser::new(vars.clone(), config).unwrap();
        Self { vars, gradients: fill("gradient").map(Some).collect(), optimiser }
    }

    fn step(&mut self) {
        self.optimiser.step_tensors(black_box(&self.gradients)).unwrap();
    }
}

fn wide(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

/// Three steps on the smallest parameters against the reference: what computes wrong values is not timed.
fn validate(config: &OptimiserConfig) {
    let mut problem = Problem::new(config, &[vec![257], vec![3, 4, 3, 3]]);
    let mut thetas: Vec<Vec<f64>> = problem.vars.iter().map(|var| wide(var)).collect();
    let mut states = vec![reference::State::default(); thetas.len()];
    for _ in 0..3 {
        problem.step();
        for ((theta, state), gradient) in thetas.iter_mut().zip(&mut states).zip(&problem.gradients) {
            reference::step(config, theta, &wide(gradient.as_ref().unwrap()), state);
        }
    }
    let ours = problem.vars.iter().flat_map(|var| wide(var));
    let worst = ours.zip(thetas.concat()).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst < 1e-6, "{} is off by {worst}", config.rule.name());
}

fn steps(criterion: &mut Criterion) {
    for (label, shapes) in shapes() {
        let mut group = criterion.benchmark_group(format!("step/f32/{label}"));
        group.sample_size(10);
        for rule in RuleName::ALL {
            let config = OptimiserConfig::new(rule, 1e-3);
            validate(&config);
            let elements: usize = shapes.iter().map(|shape| shape.iter().product::<usize>()).sum();
            group.throughput(Throughput::Bytes(4 * (3 + 2 * rule.buffers().len() as u64) * elements as u64));
            let mut problem = Problem::new(&config, &shapes);
            group.bench_function(BenchmarkId::from_parameter(rule.name()), |b| b.iter(|| problem.step()));
        }
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
