//! Activations, element by element, and GEGLU.

use candle_core::{Result, Tensor};
use sd_core::cuda::Element;
use sd_core::ops::activation::cuda::{self, Map};
use sd_core::ops::activation::{geglu, gelu, gelu_tanh, quick_gelu, silu};

use super::{Case, FLOATS, Job, Work, differentiate, normals, tensor};
use crate::{Data, Expected};

const OP: &str = "activation";

/// One pack and less, tails after whole packs, several blocks.
const COUNTS: [usize; 5] = [1, 31, 257, 1024, 20_011];
/// GEGLU's (rows, columns of the result); odd columns put the second half of a row off every pack.
const HALVES: [(usize, usize); 4] = [(1, 1), (3, 31), (5, 64), (7, 1283)];
const LARGE: usize = 1 << 25;

pub(super) fn cases() -> Vec<Case> {
    let maps = FLOATS.into_iter().flat_map(|element| {
        Map::ALL
            .into_iter()
            .flat_map(move |map| COUNTS.into_iter().flat_map(move |count| of(map, count, element)))
    });
    let halves = FLOATS
        .into_iter()
        .flat_map(|element| HALVES.into_iter().flat_map(move |sizes| gated(sizes, element)));
    maps.chain(halves).chain(FLOATS.into_iter().flat_map(large)).collect()
}

fn of(map: Map, count: usize, element: Element) -> [Case; 2] {
    let named = |what: &str| format!("{map:?}{what} {count} {}", element.suffix());
    [
        Case::new(OP, named(""), move || forward(map, count, element)),
        Case::new(OP, named(" backward"), move || backward(map, count, element)),
    ]
}

fn gated((rows, columns): (usize, usize), element: Element) -> [Case; 2] {
    let named = |what: &str| format!("geglu{what} {rows}×{columns} {}", element.suffix());
    [
        Case::new(OP, named(""), move || geglu_forward(rows, columns, element)),
        Case::new(OP, named(" backward"), move || geglu_backward(rows, columns, element)),
    ]
}

fn large(element: Element) -> Vec<Case> {
    let moved = |tensors: usize| Work { bytes: (tensors * LARGE * element.bytes()) as u64, flop: 0 };
    let [forward, backward] = of(Map::Silu, LARGE, element);
    let [gated_forward, gated_backward] = gated((LARGE / 2560, 1280), element);
    let halves =
        |tensors: usize| Work { bytes: (tensors * (LARGE / 2560 * 1280) * element.bytes()) as u64, flop: 0 };
    vec![
        forward.timed(moved(2)),
        backward.timed(moved(3)),
        gated_forward.timed(halves(3)),
        gated_backward.timed(halves(5)),
    ]
}

fn apply(map: Map, x: &Tensor) -> Result<Tensor> {
    match map {
        Map::Silu => silu(x),
        Map::Gelu => gelu(x),
        Map::GeluTanh => gelu_tanh(x),
        Map::QuickGelu => quick_gelu(x),
    }
}

/// Normal numbers three times as wide: both tails of every function.
fn wide(count: usize, element: Element) -> Vec<f64> {
    let mut values = normals(1, count, Element::F32);
    values.iter_mut().for_each(|value| *value *= 3.0);
    crate::data::rounded(element, &values)
}

fn forward(map: Map, count: usize, element: Element) -> Result<Job> {
    let x = wide(count, element);
    let y = super::values(&apply(map, &tensor(&x, &[count])?)?)?;
    Ok(Job {
        program: cuda::forward(map, count, element)?,
        inputs: vec![Data::from_f64(element, &x)],
        expected: vec![Expected::new("y", element, y)],
    })
}

fn backward(map: Map, count: usize, element: Element) -> Result<Job> {
    let (x, dy) = (wide(count, element), normals(2, count, element));
    let of = differentiate(&[tensor(&x, &[count])?], &dy, |x| apply(map, &x[0]))?;
    let [dx] = of.gradients()?;
    Ok(Job {
        program: cuda::backward(map, count, element)?,
        inputs: [x, dy].map(|values| Data::from_f64(element, &values)).to_vec(),
        expected: vec![Expected::new("dx", element, dx)],
    })
}

fn geglu_forward(rows: usize, columns: usize, element: Element) -> Result<Job> {
    let x = wide(2 * rows * columns, element);
    let y = super::values(&geglu(&tensor(&x, &[rows, 2 * columns])?)?)?;
    Ok(Job {
        program: cuda::geglu(rows, columns, element)?,
        inputs: vec![Data::from_f64(element, &x)],
        expected: vec![Expected::new("y", element, y)],
    })
}

fn geglu_backward(rows: usize, columns: usize, element: Element) -> Result<Job> {
    let (x, dy) = (wide(2 * rows * columns, element), normals(2, rows * columns, element));
    let of = differentiate(&[tensor(&x, &[rows, 2 * columns])?], &dy, |x| geglu(&x[0]))?;
    let [dx] = of.gradients()?;
    Ok(Job {
        program: cuda::geglu_backward(rows, columns, element)?,
        inputs: [x, dy].map(|values| Data::from_f64(element, &values)).to_vec(),
        expected: vec![Expected::new("dx", element, dx)],
    })
}
