//! Nearest up-sampling against its definition, finite differences, every layout and every thread count.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Result, Tensor};

use super::nearest2x;
use crate::ops::testing::{
    check_gradient, check_layouts, check_threads, check_used_twice, distance, normal, value_and_gradients,
};

/// Each pixel four times, by repeating along two new axes.
fn composed(i: &[Tensor]) -> Result<Tensor> {
    let (n, c, h, w) = i[0].dims4()?;
    i[0].reshape((n, c, h, 1, w, 1))?.broadcast_as((n, c, h, 2, w, 2))?.contiguous()?.reshape((
        n,
        c,
        2 * h,
        2 * w,
    ))
}

#[test]
fn values_and_gradients_are_those_of_the_definition() {
    for shape in [[2, 3, 4, 5], [1, 2, 3, 16], [3, 1, 2, 17], [1, 1, 1, 1], [2, 5, 40, 33]] {
        let x = [normal(1, &shape)];
        let ours = value_and_gradients(&x, |i| nearest2x(&i[0]));
        let theirs = value_and_gradients(&x, composed);
        assert_eq!(distance(&ours[0], &theirs[0]), 0.0);
        let error = distance(&ours[1], &theirs[1]);
        assert!(error <= 1e-14, "{shape:?}: {error:e}");
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    check_gradient(&[normal(1, &[2, 2, 3, 2])], |i| nearest2x(&i[0]));
    check_used_twice(&[normal(2, &[1, 2, 3, 2])], |i| nearest2x(&i[0]));
}

/// candle's own op overwrote the other use's gradient in one of the two orders.
#[test]
fn the_gradient_of_a_sum_with_the_input_is_five_in_either_order() {
    let pooled = |i: &[Tensor]| nearest2x(&i[0])?.avg_pool2d(2)? * 4.0;
    for order in [true, false] {
        let f = |i: &[Tensor]| if order { pooled(i)? + &i[0] } else { &i[0] + pooled(i)? };
        let x = candle_core::Var::from_tensor(&normal(3, &[1, 1, 2, 3])).unwrap();
        let gradients = f(&[x.as_tensor().clone()]).unwrap().backward().unwrap();
        let five = (x.ones_like().unwrap() * 5.0).unwrap();
        assert_eq!(distance(gradients.get(&x).unwrap(), &five), 0.0);
    }
}

#[test]
fn any_layout_gives_the_bits_of_the_contiguous_one() {
    check_layouts(&[normal(4, &[3, 2, 4, 5])], |i| nearest2x(&i[0]));
}

#[test]
fn every_thread_count_gives_the_same_bits() {
    check_threads(&[normal(5, &[2, 9, 50, 51]).to_dtype(DType::F32).unwrap()], |i| nearest2x(&i[0]));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let message = |x: &Tensor| nearest2x(x).unwrap_err().to_string();
    assert!(message(&normal(0, &[3, 4, 4])).contains("(N,C,H,W), found [3, 4, 4]"));
    assert!(message(&Tensor::zeros((1, 3, 0, 4), DType::F64, &Device::Cpu).unwrap()).contains("no element"));
}
