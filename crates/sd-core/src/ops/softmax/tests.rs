//! Softmax against PyTorch, finite differences, every layout and every thread count.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};

use super::softmax;
use crate::ops::testing::{
    check_golden, check_gradient, check_layouts, check_single, check_threads, check_used_twice, normal, wave,
};

// import torch, torch.nn.functional as F
// def wave(shape, pace):
//     n = torch.Size(shape).numel()
//     return (2 * torch.sin(pace * torch.arange(n, dtype=torch.float64))).reshape(shape).requires_grad_()
// x = wave((2, 5), .7); y = F.softmax(x, -1); (y * wave(y.shape, .37)).sum().backward(); print(y, x.grad)
#[rustfmt::skip]
const GOLDEN: [&[f64]; 2] = [
        &[0.05160247211296052, 0.18716769037208525, 0.3703576055943726, 0.29003114501099564, 0.1008410869095861, 0.232983597772787, 0.0822187160908854, 0.06586645515252583, 0.1329537382354132, 0.4859774927483886],
        &[-0.06993338380419907, -0.11829041898340308, -0.002465612942728214, 0.12650119181426597, 0.0641882239160643, 0.32818738537031833, 0.0887311990145241, 0.0351836860874875, -0.020305912445291417, -0.43179635802703853],
    ];

#[test]
fn values_and_gradients_are_pytorchs() {
    let x = Var::from_tensor(&wave(&[2, 5], 0.7)).unwrap();
    let y = softmax(&x).unwrap();
    check_golden("y", &y, GOLDEN[0], 1e-15);
    let gradients = (y * wave(&[2, 5], 0.37)).unwrap().sum_all().unwrap().backward().unwrap();
    check_golden("dx", gradients.get(&x).unwrap(), GOLDEN[1], 1e-15);
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for shape in [vec![3, 2, 5], vec![2, 37], vec![4, 1]] {
        check_gradient(&[normal(1, &shape)], |i| softmax(&i[0]));
    }
    check_used_twice(&[normal(2, &[3, 4])], |i| softmax(&i[0]));
}

#[test]
fn any_layout_gives_the_bits_of_the_contiguous_one() {
    check_layouts(&[normal(3, &[3, 4, 6])], |i| softmax(&i[0]));
}

#[test]
fn every_thread_count_gives_the_same_bits() {
    check_threads(&[normal(4, &[5, 70, 222]).to_dtype(DType::F32).unwrap()], |i| softmax(&i[0]));
}

#[test]
fn single_precision_is_near_double() {
    check_single(&[(normal(5, &[40, 333]) * 4.0).unwrap()], 5e-7, |i| softmax(&i[0]));
}

#[test]
fn extreme_rows_neither_overflow_nor_hide_a_nan() {
    let rows = |values: [f32; 3]| {
        softmax(&Tensor::new(&[values], &Device::Cpu).unwrap()).unwrap().to_vec2::<f32>().unwrap().remove(0)
    };
    assert_eq!(rows([1e30, -1e30, 1e30]), [0.5, 0.0, 0.5]);
    assert_eq!(rows([f32::NEG_INFINITY, 3.0, 3.0]), [0.0, 0.5, 0.5]);
    assert!(rows([0.0, f32::NAN, 1.0]).iter().all(|x| x.is_nan()));
    assert!(rows([f32::NEG_INFINITY; 3]).iter().all(|x| x.is_nan()));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let message = |x: &Tensor| softmax(x).unwrap_err().to_string();
    assert!(message(&Tensor::new(1.0, &Device::Cpu).unwrap()).contains("scalar"));
    assert!(message(&Tensor::zeros((3, 0), DType::F64, &Device::Cpu).unwrap()).contains("no element"));
    assert!(message(&Tensor::new(&[1u8, 2], &Device::Cpu).unwrap()).contains("U8"));
}
