//! Batch normalisation against its definition, finite differences and every layout.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Tensor};

use super::{Statistics, eval, train};
use crate::ops::testing::{check_gradient, distance, layouts, normal};

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
    for shape in [vec![3, 4, 5, 7], vec![2, 3, 40, 33], vec![6, 2]] {
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
fn any_layout_gives_the_values_of_the_contiguous_one() {
    let [x, gamma, beta] = operands(&[3, 4, 5, 3]);
    let expected = train(&x, &gamma, &beta, EPS).unwrap().0;
    for x in layouts(&x) {
        assert_eq!(distance(&train(&x, &gamma, &beta, EPS).unwrap().0, &expected), 0.0);
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
