//! Activations against PyTorch, finite differences, every layout and every thread count.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Result, Tensor, Var};

use super::{Activation, geglu, gelu, gelu_tanh, quick_gelu, silu};
use crate::ops::testing::{
    check_golden, check_gradient, check_layouts, check_single, check_threads, check_used_twice, distance,
    normal, wave,
};

const ALL: [Activation; 4] =
    [Activation::Silu, Activation::Gelu, Activation::GeluTanh, Activation::QuickGelu];

const X: [f64; 10] = [-12.0, -5.5, -3.0, -1.0, -0.25, 0.0, 0.4, 1.7, 4.0, 9.0];

// import torch, torch.nn.functional as F
// def wave(shape, pace):
//     n = torch.Size(shape).numel()
//     return (2 * torch.sin(pace * torch.arange(n, dtype=torch.float64))).reshape(shape)
// x = torch.tensor(X, dtype=torch.float64, requires_grad=True)
// for f in F.silu, F.gelu, lambda x: F.gelu(x, approximate="tanh"), lambda x: x * torch.sigmoid(1.702 * x):
//     y = f(x); x.grad = None; (y * wave(y.shape, .37)).sum().backward(); print(y, x.grad)
// (the values far below zero are those of the erf form as it is written; ours keep their digits there)
#[rustfmt::skip]
const GOLDEN: [[&[f64]; 2]; 4] = [
    [
            &[-7.373009522657661e-05, -0.0223857574374287, -0.14227761953270035, -0.2689414213699951, -0.10945587477855048, 0.0, 0.2394750640449808, 1.437409049357991, 3.928055160151634, 8.998889448816124],
            &[-0.0, -0.013180525657272691, -0.11881506730166683, 0.12957085490523987, 0.7494799630194438, 0.9612752029752999, 1.1068945689119027, 1.118902276210286, 0.3802146015872954, -0.37495905408306424],
        ],
    [
            &[-0.0, -1.0444259362918373e-07, -0.00404969409489031, -0.15865525393145702, -0.10032341857926907, 0.0, 0.2621686966441297, 1.6242387133104768, 3.9998733150326675, 9.0],
            &[-0.0, -4.1466241961712075e-07, -0.01610961101271153, -0.14925111500441066, 0.6067436812143051, 0.9612752029752999, 1.2788536808161861, 1.1689521414448791, 0.36137445028675325, -0.37458932708580633],
        ],
    [
            &[-0.0, -5.927640267522349e-09, -0.0036373920817729943, -0.15880800939172324, -0.100324649298315, 0.0, 0.2621611694273562, 1.624105895551156, 3.9999297540518075, 9.0],
            &[0.0, -3.382227331652284e-08, -0.015622127051097938, -0.14862164171863335, 0.6067820420117909, 0.9612752029752999, 1.2787406269693629, 1.1695774968375594, 0.3613135797858359, -0.37458932708580633],
        ],
    [
            &[-1.6186417835847626e-08, -0.00047303654130852993, -0.01807130970778597, -0.1542042340671787, -0.09880035009980583, 0.0, 0.2655668902881656, 1.6107826558772718, 3.9955852758604187, 8.999997996822012],
            &[0.0, -0.0005200263549789691, -0.033105276120627185, -0.12142020901683825, 0.584581177427944, 0.9612752029752999, 1.2997159061281351, 1.1438819244581444, 0.3635048494236128, -0.3745905208393769],
        ],
];

// x = wave((2, 6), .7).requires_grad_(); u, g = x.chunk(2, -1); y = u * F.gelu(g)
// (y * wave(y.shape, .37)).sum().backward(); print(y, x.grad)
#[rustfmt::skip]
const GOLDEN_GEGLU: [&[f64]; 2] = [
        &[0.0, 0.646175900747782, -0.33389128278149693, -0.030095425957838703, -2.338036495374962, -2.4351604094876365],
        &[0.0, 0.36271462597710946, -0.2284630549142415, 0.0, 0.8965320018590095, 0.06019695362119899, 0.03092838778752298, 2.3699929438369467, 3.7081942502101595, -1.6450918449810517, -4.40936606788208, -2.6403655655670977],
    ];

fn check(name: &str, x: &Tensor, f: impl Fn(&Tensor) -> Result<Tensor>, golden: [&[f64]; 2]) {
    let x = Var::from_tensor(x).unwrap();
    let y = f(&x).unwrap();
    check_golden(name, &y, golden[0], 1e-14);
    let gradients = (&y * wave(y.dims(), 0.37)).unwrap().sum_all().unwrap().backward().unwrap();
    check_golden(name, gradients.get(&x).unwrap(), golden[1], 1e-14);
}

#[test]
fn values_and_gradients_are_pytorchs() {
    let x = Tensor::new(&X, &Device::Cpu).unwrap();
    for (activation, golden) in ALL.into_iter().zip(GOLDEN) {
        check(activation.name(), &x, |x| activation.apply(x), golden);
    }
    check("geglu", &wave(&[2, 6], 0.7), geglu, GOLDEN_GEGLU);
    let same =
        |a: Result<Tensor>, b: Activation| assert_eq!(distance(&a.unwrap(), &b.apply(&x).unwrap()), 0.0);
    same(silu(&x), Activation::Silu);
    same(gelu(&x), Activation::Gelu);
    same(gelu_tanh(&x), Activation::GeluTanh);
    same(quick_gelu(&x), Activation::QuickGelu);
    same(Ok(x.clone()), Activation::None);
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for activation in ALL {
        check_gradient(&[normal(1, &[3, 7])], |i| activation.apply(&i[0]));
        check_used_twice(&[normal(2, &[5])], |i| activation.apply(&i[0]));
    }
    check_gradient(&[normal(3, &[2, 3, 34])], |i| geglu(&i[0]));
    check_used_twice(&[normal(4, &[3, 4])], |i| geglu(&i[0]));
}

#[test]
fn any_layout_gives_the_bits_of_the_contiguous_one() {
    for activation in ALL {
        check_layouts(&[normal(5, &[3, 4, 6])], |i| activation.apply(&i[0]));
    }
    check_layouts(&[normal(6, &[3, 4, 6])], |i| geglu(&i[0]));
}

#[test]
fn every_thread_count_gives_the_same_bits() {
    let x = normal(7, &[5, 70, 222]).to_dtype(DType::F32).unwrap();
    for activation in ALL {
        check_threads(std::slice::from_ref(&x), |i| activation.apply(&i[0]));
    }
    check_threads(&[x], |i| geglu(&i[0]));
}

#[test]
fn single_precision_is_near_double() {
    let x = (normal(8, &[40, 333]) * 3.0).unwrap();
    for activation in ALL {
        check_single(std::slice::from_ref(&x), 3e-7, |i| activation.apply(&i[0]));
    }
    check_single(&[(normal(9, &[40, 200]) * 3.0).unwrap()], 3e-7, |i| geglu(&i[0]));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let message = |x: &Tensor| geglu(x).unwrap_err().to_string();
    assert!(message(&normal(0, &[2, 3])).contains("geglu: expected x (…,2D), found [2, 3]"));
    assert!(message(&Tensor::new(1.0, &Device::Cpu).unwrap()).contains("(…,2D)"));
    let empty = Tensor::zeros((0, 6), DType::F64, &Device::Cpu).unwrap();
    assert!(message(&empty).contains("no element"));
    let message = |x: &Tensor| quick_gelu(x).unwrap_err().to_string();
    assert!(message(&empty).contains("quick_gelu"));
    assert!(message(&normal(0, &[2]).to_dtype(DType::BF16).unwrap()).contains("BF16"));
}
