//! Batch normalisation against its definition, finite differences and every layout.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Tensor};

use super::{Statistics, eval, train};
use crate::ops::testing::{
    check_golden, check_gradient, check_layouts, check_threads, distance, normal, wave,
};

const EPS: f64 = 1e-5;

fn operands(shape: &[usize]) -> [Tensor; 3] {
    let x = ((normal(1, shape) * 1.7).unwrap() + 0.4).unwrap();
    [x, normal(2, &[shape[1]]), normal(3, &[shape[1]])]
}

/// The definition, with candle's own differentiable arithmetic.
fn composed(x: &Tensor, gamma: &Tensor, beta: &Tensor) -> candle_core::Result<Tensor> {
    let (mean, variance) = moments(x)?;
    let shape: Vec<usize> = (0..x.rank()).map(|axis| if axis == 1 { x.dims()[1] } else { 1 }).collect();
    let x_hat = x.broadcast_sub(&mean)?.broadcast_div(&(variance + EPS)?.sqrt()?)?;
    x_hat.broadcast_mul(&gamma.reshape(shape.as_slice())?)?.broadcast_add(&beta.reshape(shape.as_slice())?)
}

fn moments(x: &Tensor) -> candle_core::Result<(Tensor, Tensor)> {
    let axes: Vec<usize> = (0..x.rank()).filter(|axis| *axis != 1).collect();
    let mean = x.mean_keepdim(axes.as_slice())?;
    let variance = x.broadcast_sub(&mean)?.sqr()?.mean_keepdim(axes.as_slice())?;
    Ok((mean, variance))
}

#[test]
fn values_and_statistics_are_those_of_the_definition() {
    for shape in [vec![3, 4, 5, 7], vec![2, 3, 40, 33], vec![6, 2], vec![40, 5, 9, 17], vec![3, 2, 150, 151]]
    {
        let [x, gamma, beta] = operands(&shape);
        let (y, statistics) = train(&x, &gamma, &beta, EPS).unwrap();
        assert!(distance(&y, &composed(&x, &gamma, &beta).unwrap()) <= 1e-12);
        let (_, variance) = moments(&x).unwrap();
        let ours = Tensor::from_vec(statistics.variance.clone(), variance.dims(), x.device()).unwrap();
        assert!(distance(&ours, &variance) <= 1e-12);
        assert_eq!(statistics.count, x.elem_count() / shape[1]);
        let again = eval(&x, &gamma, &beta, &statistics, EPS).unwrap();
        assert_eq!(distance(&again, &y), 0.0, "evaluation with the batch's own statistics is the same map");
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for shape in [vec![3, 2, 3, 3], vec![5, 3]] {
        check_gradient(&operands(&shape), |i| Ok(train(&i[0], &i[1], &i[2], EPS)?.0));
        let fixed = Statistics { mean: vec![0.3; shape[1]], variance: vec![2.0; shape[1]], count: 1 };
        check_gradient(&operands(&shape), |i| eval(&i[0], &i[1], &i[2], &fixed, EPS));
    }
}

#[test]
fn a_tensor_used_twice_gets_both_gradients_in_either_order() {
    check_gradient(&operands(&[3, 2, 3, 3]), |i| train(&i[0], &i[1], &i[2], EPS)?.0 + &i[0]);
    check_gradient(&operands(&[3, 2, 3, 3]), |i| &i[0] + train(&i[0], &i[1], &i[2], EPS)?.0);
}

#[test]
fn any_layout_gives_the_bits_of_the_contiguous_one() {
    check_layouts(&operands(&[3, 4, 5, 3]), |i| Ok(train(&i[0], &i[1], &i[2], EPS)?.0));
}

#[test]
fn every_thread_count_gives_the_same_bits() {
    for shape in [vec![37, 16, 7, 9], vec![2, 3, 130, 131], vec![5000, 8]] {
        let single = operands(&shape).map(|x| x.to_dtype(DType::F32).unwrap());
        check_threads(&single, |i| Ok(train(&i[0], &i[1], &i[2], EPS)?.0));
    }
}

#[test]
fn single_precision_is_near_double_far_from_zero_mean() {
    let [x, gamma, beta] = operands(&[8, 2, 40, 40]);
    let x = (x + 100.0).unwrap();
    let single = [&x, &gamma, &beta].map(|t| t.to_dtype(DType::F32).unwrap());
    let y = train(&single[0], &single[1], &single[2], EPS).unwrap().0;
    let error = distance(&y, &train(&x, &gamma, &beta, EPS).unwrap().0);
    assert!(error <= 1e-4, "{error:e}");
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let [x, gamma, beta] = operands(&[2, 3, 4, 4]);
    let message = |x: &Tensor, gamma: &Tensor| train(x, gamma, &beta, EPS).unwrap_err().to_string();
    assert!(message(&x, &normal(0, &[4])).contains("needs gamma and beta (3)"));
    assert!(message(&normal(0, &[5]), &gamma).contains("(N,C,…)"));
    assert!(message(&normal(0, &[1, 3]), &gamma).contains("at least 2"));
}

// import torch, torch.nn.functional as F
// def wave(shape, pace):
//     n = torch.Size(shape).numel()
//     return (2 * torch.sin(pace * torch.arange(n, dtype=torch.float64))).reshape(shape)
// x, g, b = wave((2, 3, 2, 2), .7), wave((3,), 1.1), wave((3,), 1.3)
// mean, var = wave((3,), .5), wave((3,), .3).abs() + .5
// print(F.batch_norm(x, mean, var, g, b, True, .1, 1e-5), mean, var)   # var: 0.9 of the old + 0.1 of the unbiased one
// print(F.batch_norm(x, mean, var, g, b, False, .1, 1e-5))
#[rustfmt::skip]
const TRAINED: &[f64] = &[0.0, 0.0, 0.0, 0.0, 3.978920471783309, 1.9111657091993473, 0.3408591909331696, 0.006540609241542819, -1.6615708485356182, 0.11944668747363991, 1.8787323536054823, 2.788866611481277, 0.0, 0.0, 0.0, 0.0, 0.01641511861449018, 1.1050336863012333, 3.070236984835065, 4.987759195766929, 2.795569665304039, 2.3974723313573927, 0.9062520720822372, -0.9767469236250226];
#[rustfmt::skip]
const EVALUATED: &[f64] = &[0.0, 0.0, 0.0, 0.0, 1.720447869780995, -0.5674875949827735, -2.305005040814321, -2.6749228634800715, -2.580602656475587, -0.9362704833948391, 0.6879976464644652, 1.528283051739868, 0.0, 0.0, 0.0, 0.0, -2.663996886860254, -1.4594589630794104, 0.7150050514865924, 2.8367107538498826, 1.5344716752855727, 1.1669265832294224, -0.20984899584225206, -1.9483359943801988];
const RUNNING_MEAN: [f64; 3] = [0.06050997912722655, 0.7938673321240092, 1.5843503531943968];
const RUNNING_VARIANCE: [f64; 3] = [0.6293886363204677, 1.141681271997669, 1.624622058937233];

#[test]
fn values_are_pytorchs_in_training_and_with_running_statistics() {
    let (x, gamma, beta) = (wave(&[2, 3, 2, 2], 0.7), wave(&[3], 1.1), wave(&[3], 1.3));
    let (y, batch) = train(&x, &gamma, &beta, EPS).unwrap();
    check_golden("trained", &y, TRAINED, 1e-13);
    let old = wave(&[3], 0.5).to_vec1::<f64>().unwrap();
    let moved: Vec<f64> = old.iter().zip(&batch.mean).map(|(old, new)| 0.9 * old + 0.1 * new).collect();
    check_golden("running mean", &Tensor::new(moved, x.device()).unwrap(), &RUNNING_MEAN, 1e-14);
    let running = Statistics { mean: RUNNING_MEAN.to_vec(), variance: RUNNING_VARIANCE.to_vec(), count: 0 };
    check_golden("evaluated", &eval(&x, &gamma, &beta, &running, EPS).unwrap(), EVALUATED, 1e-13);
}
