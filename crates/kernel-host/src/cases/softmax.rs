//! Softmax over rows: teams of every size, rows longer than a block keeps, logits far from zero.

use candle_core::Result;
use sd_core::cuda::Element;
use sd_core::ops::softmax::{cuda, softmax};

use super::{Case, FLOATS, Job, Work, differentiate, normals, tensor, values};
use crate::{Data, Expected};

const OP: &str = "softmax";

/// (rows, length). The last two are longer than what a block keeps, of 4 and of 2 bytes an element.
const SMALL: [(usize, usize); 10] =
    [(1, 1), (33, 2), (5, 31), (7, 33), (3, 257), (13, 64), (2, 1031), (3, 8209), (2, 16_411), (1, 32_783)];
const LARGE: [(usize, usize); 2] = [(16 * 4096, 1024), (1 << 20, 77)];

pub(super) fn cases() -> Vec<Case> {
    let small =
        FLOATS.into_iter().flat_map(|element| SMALL.into_iter().flat_map(move |sizes| of(sizes, element)));
    let large =
        FLOATS.into_iter().flat_map(|element| LARGE.into_iter().flat_map(move |sizes| large(sizes, element)));
    let masks = FLOATS.into_iter().flat_map(|element| {
        [(9, 77), (2, 8209), (1, 32_783)].map(|(rows, length)| {
            let name = format!("forward masked {rows}×{length} {}", element.suffix());
            Case::new(OP, name, move || masked(rows, length, element))
        })
    });
    small.chain(large).chain(masks).collect()
}

fn of((rows, length): (usize, usize), element: Element) -> [Case; 2] {
    let named = |what: &str| format!("{what} {rows}×{length} {}", element.suffix());
    [
        Case::new(OP, named("forward"), move || forward(rows, length, element)),
        Case::new(OP, named("backward"), move || backward(rows, length, element)),
    ]
}

fn large(sizes: (usize, usize), element: Element) -> [Case; 2] {
    let moved =
        |tensors: usize| Work { bytes: (tensors * sizes.0 * sizes.1 * element.bytes()) as u64, flop: 0 };
    let [forward, backward] = of(sizes, element);
    [forward.timed(moved(2)), backward.timed(moved(3))]
}

/// Logits of both signs; every third row is shifted to where `exp` overflows in `f32`.
fn logits(rows: usize, length: usize, element: Element) -> Vec<f64> {
    let mut values = normals(1, rows * length, Element::F32);
    for (index, row) in values.chunks_mut(length).enumerate() {
        let shift = if index % 3 == 1 { 200.0 } else { -3.0 };
        row.iter_mut().for_each(|value| *value = 2.0 * *value + shift);
    }
    crate::data::rounded(element, &values)
}

fn forward(rows: usize, length: usize, element: Element) -> Result<Job> {
    let x = logits(rows, length, element);
    let y = values(&softmax(&tensor(&x, &[rows, length])?)?)?;
    Ok(Job {
        program: cuda::forward(rows, length, element)?,
        inputs: vec![Data::from_f64(element, &x)],
        expected: vec![Expected::new("y", element, y).at_least(1e-5)],
    })
}

/// Rows whose first half is −∞, as a mask makes them: in a warp, in a block, and where a thread's own running maximum is −∞.
fn masked(rows: usize, length: usize, element: Element) -> Result<Job> {
    let mut x = logits(rows, length, element);
    x.chunks_mut(length).for_each(|row| row[..length / 2].fill(f64::NEG_INFINITY));
    let y = values(&softmax(&tensor(&x, &[rows, length])?)?)?;
    Ok(Job {
        program: cuda::forward(rows, length, element)?,
        inputs: vec![Data::from_f64(element, &x)],
        expected: vec![Expected::new("y", element, y).at_least(1e-5)],
    })
}

fn backward(rows: usize, length: usize, element: Element) -> Result<Job> {
    let x = tensor(&logits(rows, length, element), &[rows, length])?;
    let dy = normals(2, rows * length, element);
    let of = differentiate(&[x], &dy, |x| softmax(&x[0]))?;
    let inputs = [&of.output, &dy].map(|values| Data::from_f64(element, values)).to_vec();
    let [dx] = of.gradients()?;
    Ok(Job {
        program: cuda::backward(rows, length, element)?,
        inputs,
        // A row of one element has the gradient y·(dy − y·dy) = 0 but for the rounding of y.
        expected: vec![Expected::new("dx", element, dx).at_least(1e-5)],
    })
}
