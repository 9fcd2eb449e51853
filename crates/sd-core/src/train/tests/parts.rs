//! The learning rate, the average and clipping against their definitions.

use super::*;
use crate::train::{clip_gradient_norm, ema, gradient_norm};

#[test]
fn the_learning_rate_rises_and_falls_as_defined() {
    let with = |decay| Schedule { peak: 2.0, warmup: 4, decay, steps: 12, floor: 0.25 };
    let cosine = with(Decay::Cosine);
    assert_eq!([0, 1, 2, 3, 4].map(|step| cosine.at(step)), [0.5, 1.0, 1.5, 2.0, 2.0]);
    // Half way: the mean of peak and floor.
    assert!((cosine.at(8) - 1.25).abs() < 1e-15);
    assert!((cosine.at(10) - (0.5 + 1.5 * (1.0 - f64::sqrt(0.5)) / 2.0)).abs() < 1e-15);
    assert_eq!([12, 13, u64::MAX].map(|step| cosine.at(step)), [0.5; 3]);
    let linear = with(Decay::Linear);
    assert_eq!([4, 6, 8, 10, 12, 99].map(|step| linear.at(step)), [2.0, 1.625, 1.25, 0.875, 0.5, 0.5]);
    let constant = with(Decay::Constant);
    assert_eq!([3, 4, 11, 99].map(|step| constant.at(step)), [2.0; 4]);
}

#[test]
fn a_schedule_without_warmup_or_of_warmup_alone_is_one_too() {
    let none = Schedule { peak: 1.0, warmup: 0, decay: Decay::Linear, steps: 4, floor: 0.0 };
    assert_eq!([0, 1, 2, 3, 4].map(|step| none.at(step)), [1.0, 0.75, 0.5, 0.25, 0.0]);
    let all = Schedule { warmup: 4, ..none };
    assert_eq!([0, 3, 5].map(|step| all.at(step)), [0.25, 1.0, 0.0]);
}

/// Parameters of several sizes: one is averaged by several threads.
fn tensors(dtype: DType) -> Parameters {
    let mut parameters = Parameters::default();
    let mut root = Scope::root(&mut parameters, 11, dtype, &Device::Cpu);
    root.normal("large", &[300, 500], 1.0).unwrap();
    root.normal("small", &[5], 1.0).unwrap();
    root.buffer("buffer", &[2], 1.5).unwrap();
    parameters
}

/// Moves every parameter somewhere else.
fn move_all(parameters: &Parameters, step: u64) {
    for (i, (_, var)) in parameters.named().enumerate() {
        var.set(&normal(100 * step + i as u64, var.dims()).to_dtype(var.dtype()).unwrap()).unwrap();
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

#[test]
fn the_average_is_that_of_its_definition() {
    for (dtype, tolerance) in [(DType::F32, 2e-6), (DType::F64, 1e-14)] {
        let parameters = tensors(dtype);
        let mut average = Ema::new(&parameters, 0.4).unwrap();
        let mut expected = BTreeMap::new();
        for n in 0..12 {
            move_all(&parameters, n);
            average.update(&parameters).unwrap();
            // d of the text, with its first update, its rise and its limit.
            let decay = [0.0, 2.0 / 11.0, 0.25, 4.0 / 13.0, 5.0 / 14.0].get(n as usize).unwrap_or(&0.4);
            for (name, var) in parameters.named() {
                let now = values(var);
                let before = expected.remove(name).unwrap_or_else(|| now.clone());
                let blend = before.iter().zip(&now).map(|(a, x)| decay * a + (1.0 - decay) * x);
                expected.insert(name, blend.collect::<Vec<f64>>());
            }
        }
        let state = average.state().unwrap();
        for (name, expected) in expected {
            let found = values(&state[name]);
            let worst = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst <= tolerance, "{dtype:?} {name}: {worst}");
        }
        assert_eq!(average.updates(), 12);
        assert_eq!(values(&state["buffer"]), [1.5, 1.5]);
    }
}

#[test]
fn the_fused_average_has_the_bits_of_the_plain_one() {
    let parameters = tensors(DType::F32);
    let copy = |(_, var): (&str, &Var)| Var::from_tensor(&var.copy().unwrap()).unwrap();
    let plain: Vec<Var> = parameters.named().map(copy).collect();
    let mut average = Ema::new(&parameters, 0.2).unwrap();
    for (n, decay) in [0.0, 2.0 / 11.0, 0.2, 0.2].into_iter().enumerate() {
        move_all(&parameters, n as u64);
        average.update(&parameters).unwrap();
        for (average, (_, var)) in plain.iter().zip(parameters.named()) {
            ema::plain(average, var, 1.0 - decay).unwrap();
        }
    }
    let state = average.state().unwrap();
    for (plain, (name, _)) in plain.iter().zip(parameters.named()) {
        let of = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert!(of(plain) == of(&state[name]), "{name}");
    }
}

#[test]
fn an_averages_state_is_a_copy_outside_every_graph() {
    let parameters = tensors(DType::F32);
    let mut average = Ema::new(&parameters, 0.9).unwrap();
    let state = average.state().unwrap();
    let before = bits(&state);
    move_all(&parameters, 3);
    average.update(&parameters).unwrap();
    assert_eq!(bits(&state), before);
    assert!(state.values().all(|tensor| !tensor.track_op()));
}

#[test]
fn an_average_of_other_parameters_is_refused() {
    let mut average = Ema::new(&tensors(DType::F32), 0.9).unwrap();
    let error = average.update(&model().0).unwrap_err().to_string();
    assert!(error.contains("expected the parameter `large`, found Some(\"conv.weight\")"), "{error}");
    assert_eq!(average.updates(), 0);
}

/// Parameters a (2) and b (1) with gradients (3, 4) and 12: norm 13.
fn thirteen() -> (Parameters, GradStore) {
    let mut parameters = Parameters::default();
    let mut root = Scope::root(&mut parameters, 0, DType::F64, &Device::Cpu);
    let a = root.constant("a", &[2], 0.0).unwrap();
    let b = root.constant("b", &[1], 0.0).unwrap();
    root.constant("idle", &[4], 0.0).unwrap();
    let weights = Tensor::new(&[3.0, 4.0], &Device::Cpu).unwrap();
    let loss = ((a * weights).unwrap().sum_all().unwrap() + (b * 12.0).unwrap().sum_all().unwrap()).unwrap();
    let gradients = loss.backward().unwrap();
    (parameters, gradients)
}

fn gradients_of(parameters: &Parameters, gradients: &GradStore) -> Vec<f64> {
    let present = parameters.named().filter_map(|(_, var)| gradients.get(var));
    present.flat_map(values).collect()
}

#[test]
fn gradients_are_clipped_as_by_torch() {
    let (parameters, mut gradients) = thirteen();
    assert_eq!(clip_gradient_norm(&mut gradients, &parameters, 6.5).unwrap(), 13.0);
    let scale = 6.5 / (13.0 + 1e-6);
    assert_eq!(gradients_of(&parameters, &gradients), [3.0 * scale, 4.0 * scale, 12.0 * scale]);
}

#[test]
fn small_and_infinite_gradients_keep_their_bits() {
    let (parameters, mut gradients) = thirteen();
    assert_eq!(clip_gradient_norm(&mut gradients, &parameters, 13.1).unwrap(), 13.0);
    assert_eq!(gradients_of(&parameters, &gradients), [3.0, 4.0, 12.0]);
    let (_, b) = parameters.named().nth(1).unwrap();
    gradients.insert(b, Tensor::new(&[f64::INFINITY], &Device::Cpu).unwrap());
    assert_eq!(clip_gradient_norm(&mut gradients, &parameters, 1.0).unwrap(), f64::INFINITY);
    assert_eq!(gradients_of(&parameters, &gradients), [3.0, 4.0, f64::INFINITY]);
}

#[test]
fn a_norm_is_the_sum_in_f64_and_the_same_for_any_number_of_threads() {
    let parameters = tensors(DType::F32);
    let mut gradients = parameters.vars()[1].sum_all().unwrap().backward().unwrap();
    let mut expected = 0.0;
    for (i, (_, var)) in parameters.named().enumerate() {
        // Transposed, so that the elements do not lie in order.
        let shape: Vec<usize> = var.dims().iter().rev().copied().collect();
        let gradient = normal(i as u64, &shape).to_dtype(DType::F32).unwrap().t();
        let gradient = gradient.unwrap_or_else(|_| normal(i as u64, &shape).to_dtype(DType::F32).unwrap());
        expected += values(&gradient).iter().map(|x| x * x).sum::<f64>();
        gradients.insert(var, gradient);
    }
    let norm = gradient_norm(&gradients, &parameters).unwrap();
    assert!((norm - expected.sqrt()).abs() < 1e-12 * norm, "{norm} {}", expected.sqrt());
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let again = pool.install(|| gradient_norm(&gradients, &parameters)).unwrap();
        assert_eq!(again.to_bits(), norm.to_bits());
    }
}
