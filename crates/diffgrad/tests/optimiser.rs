//! The fused pass against the plain reference, and what an optimiser promises: sizes, strides, reused buffers, missing and
//! broken gradients, any number of threads, saving and restoring.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use diffgrad::optim::fused::{self, PIECE, Slices};
use diffgrad::optim::reference::{self, sigmoid};
use diffgrad::optim::{Epsilon, OptimError, Optimiser, OptimiserConfig, Real, RuleName, XiStats};
use sd_core::rng::Rng;

/// Around the vector width, around a piece, and nothing.
const SIZES: [usize; 7] = [0, 1, 31, 33, 257, PIECE, 2 * PIECE + 5];

fn config(rule: RuleName, weight_decay: f64) -> OptimiserConfig {
    OptimiserConfig { weight_decay, ..OptimiserConfig::new(rule, 1e-2) }
}

fn normals(purpose: &str, index: usize, n: usize) -> Vec<f64> {
    let mut rng = Rng::new(5, purpose, index as u64);
    (0..n).map(|_| f64::from(rng.normal() as f32)).collect()
}

/// One parameter over plain buffers.
#[derive(Clone, PartialEq, Debug)]
struct Flat<T> {
    theta: Vec<T>,
    state: [Vec<T>; 3],
    t: u64,
}

impl<T: Real> Flat<T> {
    fn new(rule: RuleName, theta: &[f64]) -> Self {
        let buffer = |i: usize| vec![T::ZERO; if i < rule.buffers().len() { theta.len() } else { 0 }];
        Self { theta: theta.iter().map(|x| T::of(*x)).collect(), state: [0, 1, 2].map(buffer), t: 0 }
    }

    fn slices<'a>(&'a mut self, gradient: &'a [T]) -> Slices<'a, T> {
        self.t += 1;
        let state = self.state.each_mut().map(Vec::as_mut_slice);
        Slices { theta: &mut self.theta, gradient, state, t: self.t }
    }
}

/// All sizes at once for four steps; the largest error against the reference.
fn worst_against_reference<T: Real>(config: &OptimiserConfig) -> f64 {
    let mut ours: Vec<Flat<T>> =
        SIZES.iter().enumerate().map(|(k, n)| Flat::new(config.rule, &normals("theta", k, *n))).collect();
    let mut theirs: Vec<_> =
        ours.iter().map(|flat| flat.theta.iter().map(|x| x.wide()).collect::<Vec<_>>()).collect();
    let mut states = vec![reference::State::default(); SIZES.len()];
    for t in 0..4 {
        let gradients: Vec<Vec<f64>> =
            SIZES.iter().enumerate().map(|(k, n)| normals("gradient", 10 * t + k, *n)).collect();
        let typed: Vec<Vec<T>> = gradients.iter().map(|g| g.iter().map(|x| T::of(*x)).collect()).collect();
        let slices = ours.iter_mut().zip(&typed).map(|(flat, g)| flat.slices(g)).collect();
        fused::step(config, slices, None).unwrap();
        for k in 0..SIZES.len() {
            reference::step(config, &mut theirs[k], &gradients[k], &mut states[k]);
        }
    }
    let ours = ours.iter().flat_map(|flat| flat.theta.iter().map(|x| x.wide()));
    ours.zip(theirs.concat()).map(|(a, b)| distance(a, b)).fold(0.0, f64::max)
}

/// Absolute difference of values of order 1; NaN is infinitely far.
fn distance(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::INFINITY } else { (a - b).abs() }
}

#[test]
fn every_rule_agrees_with_the_reference_on_every_size() {
    for rule in RuleName::ALL {
        for weight_decay in [0.0, 0.1] {
            let config = config(rule, weight_decay);
            let (double, single) =
                (worst_against_reference::<f64>(&config), worst_against_reference::<f32>(&config));
            assert!(double < 1e-13, "{} f64 {double:e}", rule.name());
            assert!(single < 2e-6, "{} f32 {single:e}", rule.name());
        }
    }
}

#[test]
fn wherever_epsilon_stands_the_reference_agrees() {
    use Epsilon::{Classic, Inside, Modern};
    let mut ends = Vec::new();
    for (rule, epsilon) in [
        (RuleName::Adam, Classic),
        (RuleName::Adam, Modern),
        (RuleName::Adam, Inside),
        (RuleName::AmsGrad, Modern),
        (RuleName::DiffGrad, Modern),
        (RuleName::HalfStep, Modern),
    ] {
        // A large eps, so that its place shows.
        let config = OptimiserConfig { epsilon: Some(epsilon), eps: Some(0.1), ..config(rule, 0.1) };
        assert!(worst_against_reference::<f64>(&config) < 1e-13, "{rule:?} {epsilon:?}");
        assert!(worst_against_reference::<f32>(&config) < 2e-6, "{rule:?} {epsilon:?}");
        let (mut theta, mut state) = ([1.0], reference::State::default());
        reference::step(&config, &mut theta, &[0.5], &mut state);
        ends.push(theta[0]);
    }
    assert!(ends[0] != ends[1] && ends[1] != ends[2] && ends[0] != ends[2], "{ends:?}");
}

fn var(values: &[f64], dtype: DType) -> Var {
    Var::from_tensor(&Tensor::new(values, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

#[test]
fn a_strided_gradient_is_read_in_the_parameters_order() {
    let config = config(RuleName::DiffGrad, 0.0);
    let wide =
        Tensor::new(normals("strided", 0, 70).as_slice(), &Device::Cpu).unwrap().reshape((7, 10)).unwrap();
    let strided = wide.narrow(1, 2, 5).unwrap().t().unwrap();
    assert!(!strided.is_contiguous());
    let step = |gradient: Tensor| {
        let var = Var::zeros((5, 7), DType::F64, &Device::Cpu).unwrap();
        let mut optimiser = Optimiser::new(vec![var.clone()], &config).unwrap();
        optimiser.step_tensors(&[Some(gradient.clone())]).unwrap();
        optimiser.step_tensors(&[Some((gradient * 0.5).unwrap())]).unwrap();
        values(&var)
    };
    assert_eq!(step(strided.clone()), step(strided.force_contiguous().unwrap()));
}

/// The bug of the first public code cannot come back: the previous gradient is a copy.
#[test]
fn one_gradient_buffer_overwritten_in_place_gives_what_fresh_ones_give() {
    let config = config(RuleName::DiffGrad, 0.0);
    let run = |reuse: bool| {
        let theta = var(&normals("theta", 0, 33), DType::F64);
        let mut optimiser = Optimiser::new(vec![theta.clone()], &config).unwrap();
        let buffer = Var::zeros(33, DType::F64, &Device::Cpu).unwrap();
        for t in 0..5 {
            let fresh = Tensor::new(normals("gradient", t, 33).as_slice(), &Device::Cpu).unwrap();
            buffer.set(&fresh).unwrap();
            let gradient = if reuse { buffer.as_tensor().clone() } else { fresh };
            optimiser.step_tensors(&[Some(gradient)]).unwrap();
        }
        values(&theta)
    };
    assert_eq!(run(true), run(false));
    let as_run = {
        let theta = var(&normals("theta", 0, 33), DType::F64);
        let mut optimiser =
            Optimiser::new(vec![theta.clone()], &OptimiserConfig::new(RuleName::DiffGradAsRun, 1e-2))
                .unwrap();
        for t in 0..5 {
            let gradient = Tensor::new(normals("gradient", t, 33).as_slice(), &Device::Cpu).unwrap();
            optimiser.step_tensors(&[Some(gradient)]).unwrap();
        }
        values(&theta)
    };
    assert_ne!(run(true), as_run);
}

#[test]
fn a_parameter_without_gradient_is_left_alone_and_keeps_its_count() {
    let config = config(RuleName::DiffGrad, 0.1);
    let vars = [var(&[1.0, 2.0], DType::F64), var(&[1.0, 2.0], DType::F64)];
    let mut optimiser = Optimiser::new(vars.to_vec(), &config).unwrap();
    let gradient = |x: f64| Some(Tensor::new(&[x, -x], &Device::Cpu).unwrap());
    for t in 1..=4 {
        let before = values(&vars[1]);
        let second = if t % 2 == 0 { gradient(f64::from(t) / 2.0) } else { None };
        let skipped = second.is_none();
        optimiser.step_tensors(&[gradient(f64::from(t)), second]).unwrap();
        assert_eq!(values(&vars[1]) == before, skipped);
    }
    let (mut theta, mut state) = (vec![1.0, 2.0], reference::State::default());
    for x in [1.0, 2.0] {
        reference::step(&config, &mut theta, &[x, -x], &mut state);
    }
    for (a, b) in values(&vars[1]).iter().zip(&theta) {
        assert!(distance(*a, *b) < 1e-14, "{a} {b}");
    }
}

#[test]
fn a_broken_gradient_breaks_its_element_only() {
    for rule in RuleName::ALL.into_iter().filter(|rule| *rule < RuleName::DiffGrad3) {
        for broken in [f64::NAN, f64::INFINITY] {
            let theta = var(&[1.0; 40], DType::F32);
            let mut optimiser = Optimiser::new(vec![theta.clone()], &config(rule, 0.0)).unwrap();
            let mut gradient = vec![0.5; 40];
            gradient[17] = broken;
            let tensor =
                |g: &[f64]| Some(Tensor::new(g, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap());
            optimiser.step_tensors(&[tensor(&gradient)]).unwrap();
            optimiser.step_tensors(&[tensor(&[0.5; 40])]).unwrap();
            let bad: Vec<usize> =
                values(&theta).iter().enumerate().filter(|(_, x)| !x.is_finite()).map(|(i, _)| i).collect();
            assert_eq!(bad, [17], "{} {broken}", rule.name());
        }
    }
}

#[test]
fn the_bits_do_not_depend_on_the_number_of_threads() {
    for rule in [RuleName::DiffGrad, RuleName::DiffGrad3] {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut flat = Flat::<f32>::new(rule, &normals("theta", 0, 5 * PIECE + 3));
            let mut stats = XiStats::new(rule);
            for t in 0..3 {
                let gradient: Vec<f32> =
                    normals("gradient", t, flat.theta.len()).iter().map(|x| *x as f32).collect();
                let slices = vec![flat.slices(&gradient)];
                pool.install(|| fused::step(&config(rule, 0.1), slices, Some(&mut stats))).unwrap();
            }
            (flat, stats)
        };
        let one = run(1);
        assert!(one == run(2) && one == run(3), "{}", rule.name());
    }
}

#[test]
fn half_step_is_adam_with_half_the_rate() {
    let run = |config: &OptimiserConfig| {
        let mut flat = Flat::<f64>::new(config.rule, &normals("theta", 0, 100));
        for t in 0..50 {
            let gradient = normals("gradient", t, 100);
            fused::step(config, vec![flat.slices(&gradient)], None).unwrap();
        }
        flat.theta
    };
    let half = run(&OptimiserConfig::new(RuleName::HalfStep, 1e-3));
    let adam = run(&OptimiserConfig::new(RuleName::Adam, 5e-4));
    for (a, b) in half.iter().zip(&adam) {
        assert!(distance(*a, *b) < 1e-12, "{a} {b}");
    }
}

#[test]
fn the_first_step_is_between_half_the_rate_and_the_rate() {
    let config = OptimiserConfig { eps: Some(0.0), ..OptimiserConfig::new(RuleName::DiffGrad, 1e-3) };
    let gradient = normals("first", 0, 1000);
    let mut flat = Flat::<f64>::new(config.rule, &[0.0; 1000]);
    fused::step(&config, vec![flat.slices(&gradient)], None).unwrap();
    for (theta, g) in flat.theta.iter().zip(&gradient) {
        assert!(distance(*theta, -1e-3 * sigmoid(g.abs()) * g.signum()) < 1e-15);
        assert!((0.5e-3..1e-3).contains(&theta.abs()));
    }
}

#[test]
fn the_friction_counted_is_the_friction_used() {
    for rule in RuleName::ALL.into_iter().filter(|rule| rule.has_friction()) {
        let config = config(rule, 0.1);
        let n = PIECE + 700;
        let mut flat = Flat::<f64>::new(rule, &normals("theta", 0, n));
        let (mut theta, mut state) = (flat.theta.clone(), reference::State::default());
        for t in 0..3 {
            let gradient = normals("gradient", t, n);
            let mut stats = XiStats::new(rule);
            fused::step(&config, vec![flat.slices(&gradient)], Some(&mut stats)).unwrap();
            let mut xi = reference::step(&config, &mut theta, &gradient, &mut state);
            let mean = xi.iter().sum::<f64>() / n as f64;
            assert!(distance(stats.mean().unwrap(), mean) < 1e-12, "{} {mean}", rule.name());
            xi.sort_by(f64::total_cmp);
            let p99 = xi[(0.99 * n as f64).ceil() as usize - 1];
            let above = stats.p99().unwrap() - p99;
            assert!((0.0..=5.0 / 8192.0).contains(&above), "{} {above}", rule.name());
            assert_eq!(stats.count(), n as u64);
        }
        assert!(flat.theta.iter().zip(&theta).all(|(a, b)| distance(*a, *b) < 1e-13), "{}", rule.name());
    }
}

/// Section 2.6 of the specification: `mean(ξ) − 1/2 ≤ ‖g_t − g_{t−1}‖/(4√d)`.
#[test]
fn the_mean_friction_obeys_its_bound() {
    let config = config(RuleName::DiffGrad, 0.0);
    for scale in [1e-3, 0.1, 1.0] {
        let mut flat = Flat::<f64>::new(config.rule, &normals("theta", 0, 5000));
        let mut previous = vec![0.0; 5000];
        for t in 0..3 {
            let gradient: Vec<f64> = normals("gradient", t, 5000).iter().map(|x| x * scale).collect();
            let mut stats = XiStats::new(config.rule);
            fused::step(&config, vec![flat.slices(&gradient)], Some(&mut stats)).unwrap();
            let norm = gradient.iter().zip(&previous).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt();
            let excess = stats.mean().unwrap() - 0.5;
            assert!(excess > 0.0 && excess <= norm / (4.0 * 5000f64.sqrt()), "{excess}");
            previous = gradient;
        }
    }
}

fn mixed_vars() -> Vec<(String, Var)> {
    let shapes: [&[usize]; 4] = [&[3, 4, 3, 3], &[17], &[], &[0]];
    let make = |(k, shape): (usize, &&[usize])| {
        let dtype = if k == 1 { DType::F64 } else { DType::F32 };
        let values = normals("mixed", k, shape.iter().product());
        let tensor = Tensor::from_vec(values, *shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap();
        (format!("layer{k}.weight"), Var::from_tensor(&tensor).unwrap())
    };
    shapes.iter().enumerate().map(make).collect()
}

fn mixed_gradients(vars: &[(String, Var)], t: usize) -> Vec<Option<Tensor>> {
    let make = |(k, (_, var)): (usize, &(String, Var))| {
        let values = normals("mixed gradient", 10 * t + k, var.elem_count());
        let skipped = k == 1 && t % 3 == 1;
        let tensor =
            Tensor::from_vec(values, var.dims(), &Device::Cpu).unwrap().to_dtype(var.dtype()).unwrap();
        (!skipped).then_some(tensor)
    };
    vars.iter().enumerate().map(make).collect()
}

fn all_values(vars: &[(String, Var)]) -> Vec<u64> {
    vars.iter().flat_map(|(_, var)| values(var)).map(f64::to_bits).collect()
}

#[test]
fn saved_and_restored_in_the_middle_goes_on_bit_for_bit() {
    for rule in RuleName::ALL {
        let config = config(rule, 0.01);
        let run = |interrupted: bool| {
            let vars = mixed_vars();
            let mut optimiser = Optimiser::named(vars.clone(), &config).unwrap();
            for t in 0..8 {
                if t == 5 {
                    optimiser.set_learning_rate(3e-3);
                }
                optimiser.step_tensors(&mixed_gradients(&vars, t)).unwrap();
                if interrupted && t == 5 {
                    let bytes = optimiser.to_bytes().unwrap();
                    optimiser = Optimiser::named(vars.clone(), &config).unwrap();
                    optimiser.restore_bytes(&bytes).unwrap();
                    assert_eq!(optimiser.to_bytes().unwrap(), bytes);
                }
            }
            (all_values(&vars), optimiser.to_bytes().unwrap())
        };
        assert!(run(true) == run(false), "{}", rule.name());
    }
}

#[test]
fn a_state_of_another_rule_or_model_is_refused_and_changes_nothing() {
    let (adam, half) = (config(RuleName::Adam, 0.0), config(RuleName::HalfStep, 0.0));
    let vars = mixed_vars();
    let mut saved = Optimiser::named(vars.clone(), &adam).unwrap();
    saved.step_tensors(&mixed_gradients(&vars, 0)).unwrap();
    let bytes = saved.to_bytes().unwrap();
    let refused = |config: &OptimiserConfig, vars: Vec<(String, Var)>, bytes: &[u8]| {
        let mut optimiser = Optimiser::named(vars, config).unwrap();
        let before = optimiser.to_bytes().unwrap();
        let error = optimiser.restore_bytes(bytes).unwrap_err().to_string();
        assert_eq!(optimiser.to_bytes().unwrap(), before);
        error
    };
    let message = refused(&half, vars.clone(), &bytes);
    assert!(
        message.contains("half_step.layer0.weight.m") && message.contains("adam.layer0.weight.m"),
        "{message}"
    );
    let message = refused(&adam, vars[..3].to_vec(), &bytes);
    assert!(message.contains("adam.layer3.weight.m"), "{message}");
    let mut other = vars.clone();
    other[1].1 = var(&[0.0; 18], DType::F64);
    let message = refused(&adam, other, &bytes);
    assert!(message.contains("layer1.weight.m: expected f64 [18], found f64 [17]"), "{message}");
    let message = refused(&adam, vars, &bytes[..bytes.len() - 1]);
    assert!(message.contains("safetensors"), "{message}");
}

#[test]
fn a_gradient_in_the_parameters_own_storage_is_copied_first() {
    let theta = var(&[1.0, -2.0], DType::F64);
    let mut optimiser = Optimiser::new(vec![theta.clone()], &config(RuleName::Sgd, 0.0)).unwrap();
    optimiser.step_tensors(&[Some(theta.as_tensor().clone())]).unwrap();
    assert_eq!(values(&theta), [0.99, -1.98]);
}

#[test]
fn more_parameters_than_are_lent_together() {
    let vars: Vec<Var> = (0..700).map(|k| var(&[f64::from(k), 1.0], DType::F32)).collect();
    let mut optimiser = Optimiser::new(vars.clone(), &config(RuleName::Sgd, 0.0)).unwrap();
    let gradients: Vec<_> =
        (0..700).map(|k| Some(Tensor::new(&[k as f32, 0.0], &Device::Cpu).unwrap())).collect();
    optimiser.step_tensors(&gradients).unwrap();
    for (k, var) in vars.iter().enumerate() {
        assert!(distance(values(var)[0], 0.99 * k as f64) < 1e-4);
    }
}

#[test]
fn candles_trait_walks_down_a_parabola() {
    fn descend<O: candle_nn::Optimizer<Config = OptimiserConfig>>(rule: RuleName) -> f64 {
        let theta = var(&[3.0], DType::F64);
        let mut optimiser = O::new(vec![theta.clone()], OptimiserConfig::new(rule, 0.05)).unwrap();
        for _ in 0..400 {
            let loss = (theta.as_tensor() - 1.0).unwrap().sqr().unwrap().sum_all().unwrap();
            optimiser.backward_step(&loss).unwrap();
        }
        values(&theta)[0]
    }
    for rule in [RuleName::Sgd, RuleName::Adam, RuleName::DiffGrad] {
        let end = descend::<Optimiser>(rule);
        assert!(distance(end, 1.0) < 0.05, "{} ended at {end}", rule.name());
    }
}

#[test]
fn what_cannot_be_stepped_is_refused_by_name() {
    let message = |result: Result<(), OptimError>| result.unwrap_err().to_string();
    let config = config(RuleName::DiffGrad, 0.0);
    let theta = var(&[1.0, 2.0], DType::F32);
    let twice = Optimiser::new(vec![theta.clone(), theta.clone()], &config).map(drop);
    assert!(message(twice).contains("parameter `1`: it must be given once, found given twice"));
    let half = var(&[1.0], DType::F16);
    assert!(
        message(Optimiser::new(vec![half], &config).map(drop)).contains("type must be f32 or f64, found f16")
    );
    let mut optimiser = Optimiser::new(vec![theta.clone()], &config).unwrap();
    let wide = Tensor::zeros(3, DType::F32, &Device::Cpu).unwrap();
    let text = message(optimiser.step_tensors(&[Some(wide)]));
    assert!(text.contains("gradient's shape must be [2], found [3]"), "{text}");
    let double = Tensor::zeros(2, DType::F64, &Device::Cpu).unwrap();
    let text = message(optimiser.step_tensors(&[Some(double)]));
    assert!(text.contains("gradient's type must be f32, found f64"), "{text}");
    optimiser.set_learning_rate(f64::NAN);
    let good = Tensor::ones(2, DType::F32, &Device::Cpu).unwrap();
    let text = message(optimiser.step_tensors(&[Some(good)]));
    assert!(text.contains("`lr` must be a finite number"), "{text}");
    assert_eq!(values(&theta), [1.0, 2.0]);
}

#[test]
fn slices_that_do_not_fit_are_refused() {
    let config = config(RuleName::Adam, 0.0);
    let mut flat = Flat::<f32>::new(RuleName::Adam, &[1.0, 2.0]);
    let error = fused::step(&config, vec![flat.slices(&[1.0])], None).unwrap_err();
    assert_eq!(
        error.to_string(),
        "step: parameter 0: gradient must have 2 elements, as the parameter has, found 1"
    );
    let mut zero = flat.slices(&[1.0, 1.0]);
    zero.t = 0;
    assert!(fused::step(&config, vec![zero], None).unwrap_err().to_string().contains("found 0"));
}
