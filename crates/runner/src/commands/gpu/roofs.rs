//! What the GPU can do at most, measured in the same sitting: the rate of a copy and those of large matrix products.

use std::fmt;

use anyhow::{Context as _, Result};
use candle_core::CudaDevice;
use kernel_host::Data;
use kernel_host::cases::{Job, Work};
use sd_core::cuda::device;
use sd_core::cuda::{Element, Matrix, Product, Program, Role};
use sd_core::rng::Rng;

use super::job::Prepared;
use super::ledger::{Speed, Unit};
use super::timing;

/// Bytes of a copy: far beyond any cache.
const COPY: usize = 1 << 30;
/// Side of the matrices in 16 bits; half of it in 32.
const SIDE: usize = 8192;

/// The roofs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Roofs {
    /// Bytes a second that a copy reads and writes.
    copy: f64,
    /// Operations a second of a product in `f32` (no TF32), `f16`, `bf16`.
    products: [f64; 3],
}

const ELEMENTS: [Element; 3] = [Element::F32, Element::F16, Element::Bf16];

impl Roofs {
    pub(super) fn measure(device: &CudaDevice, reps: usize) -> Result<Self> {
        let mut products = [0.0; 3];
        for (rate, element) in products.iter_mut().zip(ELEMENTS) {
            *rate = product(device, element, reps)?;
        }
        Ok(Self { copy: copy(device, reps)?, products })
    }

    /// Rate and share of a program that took so long: of the products where it counts operations, else of the copy.
    pub(super) fn speed(&self, work: Work, program: &Program, milliseconds: f64) -> Speed {
        let a_second = |amount: u64| amount as f64 / (milliseconds * 1e-3);
        if work.flop == 0 {
            let rate = a_second(work.bytes);
            return Speed { achieved: rate * 1e-9, unit: Unit::Bytes, share: rate / self.copy };
        }
        let rate = a_second(work.flop);
        let roof =
            element_of(program).and_then(|element| ELEMENTS.iter().position(|known| *known == element));
        let share = rate / self.products[roof.unwrap_or(0)];
        Speed { achieved: rate * 1e-12, unit: Unit::Flops, share }
    }
}

impl fmt::Display for Roofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [single, half, brain] = self.products.map(|rate| rate * 1e-12);
        write!(
            f,
            "roofs: copy {:.0} GB/s; products f32 {single:.1}, f16 {half:.0}, bf16 {brain:.0} TFLOP/s",
            self.copy * 1e-9
        )
    }
}

/// In what a program computes: the type of its first input of floating point.
fn element_of(program: &Program) -> Option<Element> {
    let inputs = program.buffers.iter().filter(|spec| matches!(spec.role, Role::Input | Role::InOut));
    inputs.map(|spec| spec.element).find(|element| ELEMENTS.contains(element))
}

fn copy(device: &CudaDevice, reps: usize) -> Result<f64> {
    let mut program = Program::new("copy");
    program.output(Element::F32, COPY / 4);
    program.output(Element::F32, COPY / 4);
    let mut made = device::make(device, &program)?.into_iter().map(|(_, storage)| storage);
    let (from, mut to) = made.next().zip(made.next()).context("two buffers were made")?;
    let milliseconds = timing::median(device, reps, || Ok(device::copy_between(&from, &mut to, COPY)?))?;
    Ok(2.0 * COPY as f64 / (milliseconds * 1e-3))
}

fn product(device: &CudaDevice, element: Element, reps: usize) -> Result<f64> {
    let side = if element == Element::F32 { SIDE / 2 } else { SIDE };
    let mut program = Program::new("product");
    let [a, b] = [0, 1].map(|_| program.input(element, side * side));
    let c = program.output(element, side * side);
    let [a, b, c] = [a, b, c].map(|buffer| Matrix {
        buffer,
        offset: 0,
        row_stride: side,
        batch_stride: 0,
        transposed: false,
    });
    program.product(Product { m: side, n: side, k: side, batch: 1, a, b, c, accumulate: false });
    // Random numbers: a product of zeros takes less power and so less time.
    let inputs = [0, 1].map(|index| random(element, side * side, index)).to_vec();
    let job = Job { program, inputs, expected: Vec::new() };
    let mut prepared = Prepared::new(device, &job)?;
    let milliseconds = timing::median(device, reps, || prepared.go(&job.program))?;
    Ok(2.0 * (side as f64).powi(3) / (milliseconds * 1e-3))
}

fn random(element: Element, count: usize, index: u64) -> Data {
    let mut rng = Rng::new(0, "gpu roof", index);
    let values: Vec<f64> = (0..count).map(|_| f64::from(rng.uniform_f32()) - 0.5).collect();
    Data::from_f64(element, &values)
}
