//! Nearest up-sampling ×2: rows that no pack divides, several blocks.

use candle_core::Result;
use sd_core::cuda::Element;
use sd_core::ops::upsample::{cuda, nearest2x};

use super::{Case, FLOATS, Job, Work, differentiate, normals, tensor};
use crate::{Data, Expected};

const OP: &str = "upsample";

/// (batch, channels, height, width)
const SMALL: [[usize; 4]; 6] =
    [[1, 1, 1, 1], [1, 2, 3, 5], [2, 1, 31, 33], [1, 3, 4, 8], [2, 3, 7, 64], [1, 2, 5, 257]];
const LARGE: [[usize; 4]; 1] = [[2, 640, 64, 64]];

pub(super) fn cases() -> Vec<Case> {
    let small =
        FLOATS.into_iter().flat_map(|element| SMALL.into_iter().flat_map(move |sizes| of(sizes, element)));
    let large =
        FLOATS.into_iter().flat_map(|element| LARGE.into_iter().flat_map(move |sizes| large(sizes, element)));
    small.chain(large).collect()
}

fn of(sizes: [usize; 4], element: Element) -> [Case; 2] {
    let named = |what: &str| format!("{what} {sizes:?} {}", element.suffix());
    [
        Case::new(OP, named("forward"), move || forward(sizes, element)),
        Case::new(OP, named("backward"), move || backward(sizes, element)),
    ]
}

fn large(sizes: [usize; 4], element: Element) -> [Case; 2] {
    let count: usize = sizes.iter().product();
    let moved = Work { bytes: (5 * count * element.bytes()) as u64, flop: 0 };
    of(sizes, element).map(|case| case.timed(moved))
}

fn rows([batch, channels, height, _]: [usize; 4]) -> usize {
    batch * channels * height
}

fn forward(sizes: [usize; 4], element: Element) -> Result<Job> {
    let x = normals(1, sizes.iter().product(), element);
    let y = super::values(&nearest2x(&tensor(&x, &sizes)?)?)?;
    Ok(Job {
        program: cuda::forward(rows(sizes), sizes[3], element)?,
        inputs: vec![Data::from_f64(element, &x)],
        expected: vec![Expected::new("y", element, y)],
    })
}

fn backward(sizes: [usize; 4], element: Element) -> Result<Job> {
    let count: usize = sizes.iter().product();
    let dy = normals(2, 4 * count, element);
    let of = differentiate(&[tensor(&vec![0.0; count], &sizes)?], &dy, |x| nearest2x(&x[0]))?;
    let [dx] = of.gradients()?;
    Ok(Job {
        program: cuda::backward(rows(sizes), sizes[3], element)?,
        inputs: vec![Data::from_f64(element, &dy)],
        expected: vec![Expected::new("dx", element, dx)],
    })
}
