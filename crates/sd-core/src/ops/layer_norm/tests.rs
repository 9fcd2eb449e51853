//! Layer normalisation against PyTorch, finite differences, every layout and every thread count.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Result, Tensor, Var};

use super::layer_norm;
use crate::ops::testing::{
    check_golden, check_gradient, check_layouts, check_single, check_threads, check_used_twice, distance,
    normal, value_and_gradients, wave,
};

const EPS: f64 = 1e-5;

fn operands(shape: &[usize]) -> [Tensor; 3] {
    let size = shape[shape.len() - 1];
    let x = ((normal(1, shape) * 1.7).unwrap() + 0.4).unwrap();
    [x, (normal(2, &[size]) + 1.0).unwrap(), normal(3, &[size])]
}

fn norm(i: &[Tensor]) -> Result<Tensor> {
    layer_norm(&i[0], &i[1], &i[2], EPS)
}

/// The definition, with candle's own differentiable arithmetic.
fn composed(i: &[Tensor]) -> Result<Tensor> {
    let last = i[0].rank() - 1;
    let centred = i[0].broadcast_sub(&i[0].mean_keepdim(last)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(last)? + EPS)?.sqrt()?;
    centred.broadcast_div(&deviation)?.broadcast_mul(&i[1])?.broadcast_add(&i[2])
}

// import torch, torch.nn.functional as F
// def wave(shape, pace):
//     n = torch.Size(shape).numel()
//     return (2 * torch.sin(pace * torch.arange(n, dtype=torch.float64))).reshape(shape).requires_grad_()
// x, g, b = wave((3, 5), .7), wave((5,), 1.1), wave((5,), 1.3)
// y = F.layer_norm(x, (5,), g, b, 1e-5)
// (y * wave(y.shape, .37)).sum().backward(); print(y, x.grad, g.grad, b.grad)
#[rustfmt::skip]
const GOLDEN: [&[f64]; 4] = [
        &[0.0, 2.3176681627678812, 2.922607164021756, -1.6371541216955074, -0.5442188273973267, 0.0, 0.4140612012085193, -0.8362075320909441, -1.3168614800184157, -4.8154958860371755, 0.0, 3.759581963807145, 2.2472524415595347, -1.2638452018532633, 1.6021427685992604],
        &[2.3542485818685517, 1.7496549535812869, 1.7201784919922383, -1.649428365602903, -4.174653661839173, -0.8965187144903171, 1.7502291106707213, -0.09924392715865549, -1.7376330289793929, 0.9831665599576429, 1.21952146676453, -0.1012968978350186, -1.0266199430938232, 0.20800682852060293, -0.29961145435629044],
        &[0.7655313007791804, -2.840205763523397, -1.0815418407895898, 2.1229995477544117, 1.2807228209491013],
        &[0.862878124133613, 0.7150282440504621, 0.4704026454842096, 0.16211025561023562, -0.1681229968669955],
    ];

#[test]
fn values_and_gradients_are_pytorchs() {
    let vars = [wave(&[3, 5], 0.7), wave(&[5], 1.1), wave(&[5], 1.3)].map(|x| Var::from_tensor(&x).unwrap());
    let y = layer_norm(&vars[0], &vars[1], &vars[2], EPS).unwrap();
    check_golden("y", &y, GOLDEN[0], 1e-13);
    let gradients = (y * wave(&[3, 5], 0.37)).unwrap().sum_all().unwrap().backward().unwrap();
    for (var, golden) in vars.iter().zip(&GOLDEN[1..]) {
        check_golden("a gradient", gradients.get(var).unwrap(), golden, 1e-12);
    }
}

#[test]
fn values_and_gradients_are_those_of_the_definition() {
    for shape in [vec![2, 3, 7], vec![40, 768], vec![3, 5000], vec![2, 1000, 20], vec![4, 1], vec![9]] {
        let ours = value_and_gradients(&operands(&shape), norm);
        let theirs = value_and_gradients(&operands(&shape), composed);
        for (ours, theirs) in ours.iter().zip(&theirs) {
            let error = distance(ours, theirs);
            assert!(error <= 1e-10, "{shape:?}: {error:e}");
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    check_gradient(&operands(&[3, 2, 7]), norm);
    check_gradient(&operands(&[2, 33]), norm);
    check_used_twice(&operands(&[4, 5]), norm);
}

#[test]
fn any_layout_gives_the_bits_of_the_contiguous_one() {
    check_layouts(&operands(&[3, 4, 5]), norm);
}

#[test]
fn every_thread_count_gives_the_same_bits() {
    for shape in [[4, 700, 33], [3, 5, 7001]] {
        let single = operands(&shape).map(|x| x.to_dtype(DType::F32).unwrap());
        check_threads(&single, norm);
    }
}

#[test]
fn single_precision_is_near_double_far_from_zero_mean_too() {
    check_single(&operands(&[3, 100, 320]), 3e-6, norm);
    let [x, gamma, beta] = operands(&[3, 100, 64]);
    check_single(&[(x + 100.0).unwrap(), gamma, beta], 2e-4, norm);
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let [x, gamma, beta] = operands(&[2, 6]);
    let message = |x: &Tensor, gamma: &Tensor| layer_norm(x, gamma, &beta, EPS).unwrap_err().to_string();
    assert!(message(&x, &normal(0, &[5])).contains("x [2, 6] needs gamma and beta (6)"));
    assert!(message(&Tensor::new(1.0, &Device::Cpu).unwrap(), &gamma).contains("scalar"));
    assert!(message(&x.to_dtype(DType::F32).unwrap(), &gamma).contains("one dtype"));
    assert!(message(&x.to_dtype(DType::U32).unwrap(), &gamma).contains("U32"));
    let empty = Tensor::zeros((0, 6), DType::F64, &Device::Cpu).unwrap();
    assert!(message(&empty, &gamma).contains("no element"));
}
