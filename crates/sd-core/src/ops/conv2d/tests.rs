//! Convolution against its definition, finite differences, every layout and every thread count.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Tensor, Var};

use super::{Geometry, conv2d, cpu};
use crate::ops::testing::{check_gradient, distance, layouts, normal};

/// (batch, c_in, h, w, c_out, kernel, stride, padding): odd sizes, no padding, wide padding, 1×1, several groups and bands.
const CASES: [[usize; 8]; 9] = [
    [2, 3, 5, 7, 4, 3, 1, 1],
    [1, 1, 1, 1, 1, 1, 1, 0],
    [3, 2, 6, 5, 3, 3, 2, 1],
    [2, 4, 8, 8, 2, 1, 1, 0],
    [2, 3, 9, 4, 2, 1, 2, 0],
    [5, 2, 4, 4, 3, 3, 1, 0],
    [2, 2, 5, 5, 2, 2, 3, 2],
    [40, 3, 4, 4, 5, 3, 1, 1],
    [1, 2, 30, 31, 3, 3, 1, 1],
];

fn tensors(case: usize) -> (Geometry, Tensor, Tensor, Tensor) {
    let [n, c, h, w, o, k, s, p] = CASES[case];
    let (x, kernel) = (normal(1, &[n, c, h, w]), normal(2, &[o, c, k, k]));
    let geometry = Geometry::new(x.dims(), kernel.dims(), s, p).unwrap();
    let dy = normal(3, &[n, o, geometry.out_h(), geometry.out_w()]);
    (geometry, x, kernel, dy)
}

fn flat(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn values_and_gradients_are_those_of_the_definition() {
    for case in 0..CASES.len() {
        let (g, x, w, dy) = tensors(case);
        let (y, dx, dw) = cpu::reference(&g, &flat(&x), &flat(&w), &flat(&dy));
        let (vx, vw) = (Var::from_tensor(&x).unwrap(), Var::from_tensor(&w).unwrap());
        let ours = conv2d(&vx, &vw, g.stride, g.padding).unwrap();
        let gradients = (&ours * &dy).unwrap().sum_all().unwrap().backward().unwrap();
        let pairs = [(&ours, y), (gradients.get(&vx).unwrap(), dx), (gradients.get(&vw).unwrap(), dw)];
        for (which, (ours, reference)) in pairs.into_iter().enumerate() {
            let reference = Tensor::from_vec(reference, ours.dims(), ours.device()).unwrap();
            let error = distance(ours, &reference);
            assert!(error <= 1e-11, "case {case}, tensor {which}: {error:e}");
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for case in 0..7 {
        let (g, x, w, _) = tensors(case);
        check_gradient(&[x, w], |inputs| conv2d(&inputs[0], &inputs[1], g.stride, g.padding));
    }
}

#[test]
fn a_tensor_used_twice_gets_both_gradients_in_either_order() {
    let (x, w) = (normal(4, &[2, 3, 4, 4]), normal(5, &[3, 3, 3, 3]));
    check_gradient(&[x.clone(), w.clone()], |i| conv2d(&i[0], &i[1], 1, 1)? + &i[0]);
    check_gradient(&[x, w], |i| &i[0] + conv2d(&i[0], &i[1], 1, 1)?);
}

#[test]
fn any_layout_gives_the_values_of_the_contiguous_one() {
    let (x, w) = (normal(6, &[3, 4, 6, 3]), normal(7, &[4, 4, 3, 3]));
    let expected = conv2d(&x, &w, 1, 1).unwrap();
    for x in layouts(&x) {
        for w in layouts(&w) {
            assert_eq!(distance(&conv2d(&x, &w, 1, 1).unwrap(), &expected), 0.0);
        }
    }
}

#[test]
fn single_precision_is_near_double() {
    let (g, x, w, _) = tensors(8);
    let single = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
    let exact = conv2d(&x, &w, g.stride, g.padding).unwrap();
    let error = distance(&conv2d(&single(&x), &single(&w), g.stride, g.padding).unwrap(), &exact);
    assert!(error <= 2e-5, "{error:e}");
}

#[test]
fn every_thread_count_gives_the_same_bits() {
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let (g, x, w, dy) = tensors(7);
            (cpu::weight_grad(&g, &flat(&x), &flat(&dy)), cpu::forward(&g, &flat(&x), &flat(&w)))
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let x = normal(0, &[1, 3, 4, 4]);
    let message = |x: &Tensor, w: &Tensor, stride| conv2d(x, w, stride, 0).unwrap_err().to_string();
    assert!(message(&x, &normal(0, &[2, 4, 3, 3]), 1).contains("3 channels"));
    assert!(message(&x, &normal(0, &[2, 3, 5, 5]), 1).contains("larger"));
    assert!(message(&x, &normal(0, &[2, 3, 3, 3]), 0).contains("stride 0"));
    assert!(message(&normal(0, &[3, 4, 4]), &normal(0, &[2, 3, 3, 3]), 1).contains("(N,C,H,W)"));
    let empty = Tensor::zeros((0, 3, 4, 4), DType::F64, x.device()).unwrap();
    assert!(message(&empty, &normal(0, &[2, 3, 3, 3]), 1).contains("no element"));
    let single = normal(0, &[2, 3, 3, 3]).to_dtype(DType::F32).unwrap();
    assert!(message(&x, &single, 1).contains("one dtype"));
}
