//! Group normalisation against PyTorch, finite differences, every layout and every thread count.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Result, Tensor};

use super::group_norm;
use crate::ops::testing::{
    check_golden, check_gradient, check_layouts, check_single, check_threads, check_used_twice, normal,
    value_and_gradients, wave,
};

const EPS: f64 = 1e-5;

fn operands(shape: &[usize]) -> [Tensor; 3] {
    let x = ((normal(1, shape) * 1.7).unwrap() + 0.4).unwrap();
    [x, (normal(2, &[shape[1]]) + 1.0).unwrap(), normal(3, &[shape[1]])]
}

fn norm(groups: usize, silu: bool) -> impl Fn(&[Tensor]) -> Result<Tensor> + Sync {
    move |i| group_norm(&i[0], &i[1], &i[2], groups, EPS, silu)
}

/// The definition, with candle's own differentiable arithmetic.
fn composed(groups: usize, silu: bool) -> impl Fn(&[Tensor]) -> Result<Tensor> {
    move |i| {
        let [x, gamma, beta] = i else { candle_core::bail!("three operands") };
        let rows = x.reshape((x.dims()[0] * groups, ()))?;
        let centred = rows.broadcast_sub(&rows.mean_keepdim(1)?)?;
        let rstd = (centred.sqr()?.mean_keepdim(1)? + EPS)?.sqrt()?.recip()?;
        let x_hat = centred.broadcast_mul(&rstd)?.reshape(x.shape())?;
        let shape: Vec<usize> = (0..x.rank()).map(|axis| if axis == 1 { x.dims()[1] } else { 1 }).collect();
        let scaled = x_hat.broadcast_mul(&gamma.reshape(shape.as_slice())?)?;
        let z = scaled.broadcast_add(&beta.reshape(shape.as_slice())?)?;
        if silu { z.silu() } else { Ok(z) }
    }
}

// import torch, torch.nn.functional as F
// def wave(shape, pace):
//     n = torch.Size(shape).numel()
//     return (2 * torch.sin(pace * torch.arange(n, dtype=torch.float64))).reshape(shape).requires_grad_()
// for silu in (False, True):
//     x, g, b = wave((2, 4, 3), .7), wave((4,), 1.1), wave((4,), 1.3)
//     y = F.group_norm(x, 2, g, b, 1e-5)
//     y = F.silu(y) if silu else y
//     (y * wave(y.shape, .37)).sum().backward(); print(y, x.grad, g.grad, b.grad)
#[rustfmt::skip]
const GOLDEN: [[&[f64]; 4]; 2] = [
    [
        &[0.0, 0.0, 0.0, 3.623272181555977, 1.6338844025529684, -0.9488691023776717, -0.542088252976403, -0.7796020230156027, -0.027312323113439715, -1.439911676425023, -1.7074737308932995, -1.8458920654294022, 0.0, 0.0, 0.0, 0.30387646309341293, 0.03536315489059972, 1.0098534192336186, -0.24073078428157257, 1.9074934951656264, 2.991956606190408, -1.6626592172222372, -1.3050234937772656, -0.853428430011664],
        &[-2.263031864151242, -1.5260513460397511, -1.1356842812343455, 2.097855742446142, 1.8708806164018235, 0.9560311325773712, 0.6718993408455322, 0.028819447319120117, -0.5190663597609999, -0.481029347917891, 0.004526677011852165, 0.29485024250238656, -0.3008300315744657, 0.05776342671449497, 0.5168546556489819, -0.9458296823428207, -0.031727185515076084, 0.7037688170688852, 1.02023189867757, 1.1074876167059875, 1.361752526387043, -2.1111432560893526, -1.2637523100476133, -0.11457647563363504],
        &[-2.881660859567241, 0.24095963763036435, -0.6224557906727642, -4.816566575598564],
        &[-3.630230184355214, 3.670351912006906, 6.894358680692845, 2.4609600638295577],
    ],
    [
        &[0.0, 0.0, 0.0, 3.5290631974240467, 1.3670728251970639, -0.2648410484621847, -0.19932689969778247, -0.24511129291139608, -0.013469682400324987, -0.27582807875963344, -0.26208299725295214, -0.25169834298154176, 0.0, 0.0, 0.0, 0.17484744037779668, 0.017994183049450493, 0.7402139343384778, -0.10594712713530959, 1.6609257226307466, 2.8489692871854557, -0.2650367770523108, -0.2783886363714632, -0.2549311574369798],
        &[-0.9875822337136784, -1.498496458933332, -1.7691197407771977, 1.9230365340739093, 2.7222607713991023, -0.3900988720488042, 0.1682921515840775, -0.09851170470676464, -0.015332596807986126, -0.0964556646025586, -0.0009837425526412619, 0.042991557085873086, -0.1782211106070337, 0.03622386079345177, 0.3107682039301781, -0.6571767140017154, 0.059741708651005324, 0.4286640512341138, 0.1033755673341194, 0.9858977836641691, 1.2263365266065798, -1.7776069830628527, -0.8472753661820092, 0.30927247163999316],
        &[-1.4408304297836205, 2.371626775728268, 2.2900304425236206, -0.1550316478779064],
        &[-1.815115092177607, 2.965253695520376, 4.425220489385369, 0.26681754692384296],
    ],
];

#[test]
fn values_and_gradients_are_pytorchs() {
    for (silu, golden) in [false, true].into_iter().zip(GOLDEN) {
        let inputs = [wave(&[2, 4, 3], 0.7), wave(&[4], 1.1), wave(&[4], 1.3)];
        let weights = wave(&[2, 4, 3], 0.37);
        let vars = inputs.map(|x| candle_core::Var::from_tensor(&x).unwrap());
        let y = group_norm(&vars[0], &vars[1], &vars[2], 2, EPS, silu).unwrap();
        check_golden("y", &y, golden[0], 1e-13);
        let gradients = (y * weights).unwrap().sum_all().unwrap().backward().unwrap();
        for (var, golden) in vars.iter().zip(&golden[1..]) {
            check_golden("a gradient", gradients.get(var).unwrap(), golden, 1e-12);
        }
    }
}

#[test]
fn values_and_gradients_are_those_of_the_definition() {
    for (shape, groups) in
        [(vec![2, 6, 5, 7], 3), (vec![3, 4, 40, 60], 2), (vec![2, 8, 3], 8), (vec![3, 5], 1)]
    {
        for silu in [false, true] {
            let ours = value_and_gradients(&operands(&shape), norm(groups, silu));
            let theirs = value_and_gradients(&operands(&shape), composed(groups, silu));
            for (ours, theirs) in ours.iter().zip(&theirs) {
                let error = crate::ops::testing::distance(ours, theirs);
                assert!(error <= 2e-10, "{shape:?} in {groups} groups, silu {silu}: {error:e}");
            }
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for silu in [false, true] {
        check_gradient(&operands(&[2, 4, 3, 2]), norm(2, silu));
        check_gradient(&operands(&[3, 6, 2]), norm(3, silu));
        check_used_twice(&operands(&[2, 4, 3]), norm(2, silu));
    }
}

#[test]
fn any_layout_gives_the_bits_of_the_contiguous_one() {
    check_layouts(&operands(&[3, 4, 5, 3]), norm(2, true));
    check_layouts(&operands(&[3, 4, 5, 3]), norm(2, false));
}

#[test]
fn every_thread_count_gives_the_same_bits() {
    for shape in [[6, 32, 20, 21], [2, 4, 130, 131]] {
        let single = operands(&shape).map(|x| x.to_dtype(DType::F32).unwrap());
        check_threads(&single, norm(4, true));
    }
}

#[test]
fn single_precision_is_near_double_far_from_zero_mean_too() {
    for silu in [false, true] {
        check_single(&operands(&[2, 8, 40, 41]), 3e-6, norm(4, silu));
        let [x, gamma, beta] = operands(&[2, 4, 30, 30]);
        check_single(&[(x + 100.0).unwrap(), gamma, beta], 2e-4, norm(2, silu));
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let [x, gamma, beta] = operands(&[2, 6, 4, 4]);
    let message = |x: &Tensor, gamma: &Tensor, groups| {
        group_norm(x, gamma, &beta, groups, EPS, false).unwrap_err().to_string()
    };
    assert!(message(&x, &gamma, 4).contains("6 channels of x [2, 6, 4, 4] cannot be cut into 4 groups"));
    assert!(message(&x, &gamma, 0).contains("0 groups"));
    assert!(message(&x, &normal(0, &[5]), 2).contains("needs gamma and beta (6)"));
    assert!(message(&normal(0, &[6]), &gamma, 2).contains("(N,C,…)"));
    assert!(message(&x, &gamma.to_dtype(DType::F32).unwrap(), 2).contains("one dtype"));
    assert!(message(&x.to_dtype(DType::F16).unwrap(), &gamma, 2).contains("F16"));
    let empty = Tensor::zeros((2, 6, 0), DType::F64, &Device::Cpu).unwrap();
    assert!(message(&empty, &gamma, 2).contains("no element"));
}
