//! Linear layers: one row, one column, columns that are whole packs and not, every activation, with and without a bias.

use candle_core::{Result, Tensor};
use sd_core::cuda::Element;
use sd_core::ops::activation::Activation;
use sd_core::ops::linear::cuda::{self, Shape, Wanted};

use super::{Case, FLOATS, Job, Work, differentiate, normals, tensor};
use crate::{Data, Expected};

const OP: &str = "linear";

/// (rows, inputs, outputs, whether there is a bias, what follows)
type Sizes = (usize, usize, usize, bool, Activation);

const SMALL: [Sizes; 8] = [
    (1, 1, 1, true, Activation::None),
    (31, 33, 257, false, Activation::None),
    (31, 7, 33, true, Activation::Silu),
    (67, 5, 64, true, Activation::Gelu),
    (257, 3, 31, false, Activation::Gelu),
    (130, 4, 24, true, Activation::GeluTanh),
    (33, 9, 40, true, Activation::QuickGelu),
    (1, 31, 130, true, Activation::None),
];

/// A UNet's feed-forward and projections.
const LARGE: [Sizes; 2] =
    [(8192, 320, 2560, true, Activation::Gelu), (8192, 1280, 320, true, Activation::None)];

pub(super) fn cases() -> Vec<Case> {
    let small = SMALL.into_iter().flat_map(|sizes| FLOATS.map(|element| of(sizes, element)));
    let large = LARGE.into_iter().flat_map(|sizes| {
        FLOATS.map(|element| of(sizes, element).map(|case| case.timed(work(sizes, element))))
    });
    small.chain(large).flatten().collect()
}

/// Of the forward; the backward has twice the products.
fn work((rows, inputs, outputs, ..): Sizes, element: Element) -> Work {
    let moved = rows * inputs + outputs * inputs + rows * outputs;
    Work { bytes: (moved * element.bytes()) as u64, flop: (2 * rows * inputs * outputs) as u64 }
}

fn of((rows, inputs, outputs, bias, activation): Sizes, element: Element) -> [Case; 2] {
    let shape = Shape { rows, inputs, outputs, bias, activation };
    let with = if bias { "with" } else { "without" };
    let name = |what: &str| {
        format!("{what} {rows}×{inputs} to {outputs} {with} bias {activation:?} {}", element.suffix())
    };
    [
        Case::new(OP, name("forward"), move || forward(&shape, element)),
        Case::new(OP, name("backward"), move || backward(&shape, element)),
    ]
}

/// x, w and the bias, rounded.
fn operands(shape: &Shape, element: Element) -> Vec<Vec<f64>> {
    let Shape { rows, inputs, outputs, bias, .. } = *shape;
    let counts = [rows * inputs, outputs * inputs, outputs];
    let counts = if bias { &counts[..] } else { &counts[..2] };
    (1u64..).zip(counts).map(|(stream, count)| normals(stream, *count, element)).collect()
}

fn tensors(shape: &Shape, values: &[Vec<f64>]) -> Result<Vec<Tensor>> {
    let Shape { rows, inputs, outputs, .. } = *shape;
    let dims = [&[rows, inputs][..], &[outputs, inputs], &[outputs]];
    values.iter().zip(dims).map(|(values, dims)| tensor(values, dims)).collect()
}

/// z = x·wᵀ + b by the definition.
fn linear(operands: &[Tensor]) -> Result<Tensor> {
    let product = operands[0].matmul(&operands[1].t()?.contiguous()?)?;
    operands.get(2).map_or(Ok(product.clone()), |bias| product.broadcast_add(bias))
}

fn flat(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.flatten_all()?.to_vec1()
}

fn forward(shape: &Shape, element: Element) -> Result<Job> {
    let values = operands(shape, element);
    let z = linear(&tensors(shape, &values)?)?;
    let y = shape.activation.apply(&z)?;
    // The product is rounded, and so is its sum with the bias.
    let expected = [("y", y), ("z", z)].map(|(name, tensor)| (name, flat(&tensor)));
    let expected =
        expected.into_iter().map(|(name, values)| Ok(Expected::new(name, element, values?).times(3.0)));
    Ok(Job {
        program: cuda::forward(shape, true, element),
        inputs: values.iter().map(|values| Data::from_f64(element, values)).collect(),
        expected: expected.collect::<Result<_>>()?,
    })
}

fn backward(shape: &Shape, element: Element) -> Result<Job> {
    let values = operands(shape, element);
    let leaves = tensors(shape, &values)?;
    let dy = normals(4, shape.rows * shape.outputs, element);
    let z = flat(&linear(&leaves)?)?;
    let result = differentiate(&leaves, &dy, |operands| shape.activation.apply(&linear(operands)?))?;
    let mut given = vec![&values[0], &values[1], &dy];
    if shape.activation != Activation::None {
        given.push(&z);
    }
    let names = ["dx", "dw", "db"].into_iter().zip(result.gradients);
    Ok(Job {
        program: cuda::backward(shape, Wanted { x: true, w: true }, element),
        inputs: given.into_iter().map(|values| Data::from_f64(element, values)).collect(),
        // z comes rounded, and dz is rounded before the products.
        expected: names.map(|(name, values)| Expected::new(name, element, values).times(3.0)).collect(),
    })
}
