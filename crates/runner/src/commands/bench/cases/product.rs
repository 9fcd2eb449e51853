//! The product of two square matrices: the arithmetic that this machine can do, as a yardstick.

use anyhow::Result;
use candle_core::{Device, Tensor};

use super::{Amount, Case, Work};

const SIDE: usize = 2048;

pub(super) fn all() -> Vec<Case> {
    vec![Case {
        name: format!("matmul/f32/n{SIDE}/fwd"),
        work: Amount::Flops(2 * (SIDE as u64).pow(3)),
        prepare: Box::new(prepare),
    }]
}

fn prepare() -> Result<Work> {
    let matrix = |index| super::ops::uniform(&[SIDE, SIDE], index);
    let [a, b] = [
        Tensor::from_vec(matrix(0), (SIDE, SIDE), &Device::Cpu)?,
        Tensor::from_vec(matrix(1), (SIDE, SIDE), &Device::Cpu)?,
    ];
    // A product of square matrices on one device cannot be refused.
    Ok(Box::new(move || drop(std::hint::black_box(a.matmul(&b)))))
}
