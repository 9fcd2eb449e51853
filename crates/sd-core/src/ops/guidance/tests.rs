//! The guided step against the sampler's definition, finite differences, every layout and every thread count.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Result, Tensor};

use super::{DdimStep, guided_ddim_step};
use crate::ops::testing::{
    check_gradient, check_layouts, check_single, check_threads, check_used_twice, distance, normal,
};

const STEP: DdimStep = DdimStep { guidance: 7.5, alpha: 0.31, alpha_next: 0.42, eta: 0.0 };
const NOISY: DdimStep = DdimStep { eta: 0.7, ..STEP };

fn operands(shape: &[usize]) -> Vec<Tensor> {
    (1..4).map(|seed| normal(seed, shape)).collect()
}

fn ours(step: DdimStep) -> impl Fn(&[Tensor]) -> Result<Tensor> + Sync {
    move |i| {
        let noise = normal(9, i[0].dims()).to_dtype(i[0].dtype())?;
        guided_ddim_step(&i[0], &i[1], &i[2], &step, (step.eta > 0.0).then_some(&noise))
    }
}

/// Song, Meng and Ermon 2021, equations 12 and 16, term by term.
fn composed(step: DdimStep, i: &[Tensor]) -> Result<Tensor> {
    let DdimStep { guidance, alpha, alpha_next, eta } = step;
    let eps = (&i[1] + ((&i[2] - &i[1])? * guidance)?)?;
    let x0 = ((&i[0] - (&eps * (1.0 - alpha).sqrt())?)? / alpha.sqrt())?;
    let sigma = eta * ((1.0 - alpha_next) / (1.0 - alpha)).sqrt() * (1.0 - alpha / alpha_next).sqrt();
    let direction = (eps * (1.0 - alpha_next - sigma * sigma).sqrt())?;
    ((x0 * alpha_next.sqrt())? + direction)? + (normal(9, i[0].dims()) * sigma)?
}

#[test]
fn values_are_those_of_the_definition() {
    let ancestral = DdimStep { eta: 1.0, ..STEP };
    let last = DdimStep { alpha_next: 1.0, ..STEP };
    for step in [STEP, NOISY, ancestral, last, DdimStep { guidance: 1.0, ..STEP }] {
        let i = operands(&[2, 4, 5, 7]);
        let error = distance(&ours(step)(&i).unwrap(), &composed(step, &i).unwrap());
        assert!(error <= 1e-13, "{step:?}: {error:e}");
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for step in [STEP, NOISY] {
        check_gradient(&operands(&[2, 3, 2]), ours(step));
        check_used_twice(&operands(&[5]), ours(step));
    }
}

#[test]
fn any_layout_and_every_thread_count_gives_the_same_bits() {
    for step in [STEP, NOISY] {
        check_layouts(&operands(&[3, 4, 6]), ours(step));
        let single: Vec<Tensor> =
            operands(&[5, 70, 222]).iter().map(|x| x.to_dtype(DType::F32).unwrap()).collect();
        check_threads(&single, ours(step));
    }
}

#[test]
fn single_precision_is_near_double() {
    for step in [STEP, NOISY] {
        check_single(&operands(&[40, 33]), 5e-7, ours(step));
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let x = normal(0, &[2, 3]);
    let message = |other: &Tensor, step: DdimStep, noise: Option<&Tensor>| {
        guided_ddim_step(&x, other, &x, &step, noise).unwrap_err().to_string()
    };
    assert!(
        message(&normal(0, &[3, 2]), STEP, None).contains("uncond [3, 2] is not of the shape of x [2, 3]")
    );
    assert!(message(&x, NOISY, None).contains("no noise for eta 0.7"));
    assert!(message(&x, STEP, Some(&x)).contains("noise for eta 0"));
    for alpha in [0.0, -1.0, 1.1, f64::NAN] {
        assert!(message(&x, DdimStep { alpha, ..STEP }, None).contains("alphas in (0, 1]"));
    }
    assert!(message(&x, DdimStep { guidance: f64::NAN, ..STEP }, None).contains("finite guidance"));
    assert!(message(&x.to_dtype(DType::F32).unwrap(), STEP, None).contains("one dtype"));
    let empty = Tensor::zeros((0, 3), DType::F64, &Device::Cpu).unwrap();
    assert!(message(&empty, STEP, None).contains("no element"));
}
