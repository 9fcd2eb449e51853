//! Layer norm: rows of one element and of more than a block keeps, rows that no pack divides, sums over many rows.

use candle_core::Result;
use sd_core::cuda::Element;
use sd_core::ops::layer_norm::{cuda, layer_norm};

use super::{Case, FLOATS, Job, Work, differentiate, moments, normals, shifted, tensor};
use crate::{Data, Expected};

const OP: &str = "layer_norm";
const EPS: f64 = 1e-5;

/// (rows, length). The last two are longer than what a block keeps, of 4 and of 2 bytes an element.
const SMALL: [(usize, usize); 9] =
    [(1, 2), (5, 31), (7, 33), (3, 257), (70, 40), (13, 320), (133, 1031), (3, 8209), (2, 33_001)];
const LARGE: [(usize, usize); 2] = [(2 * 4096, 320), (2 * 77 * 64, 1280)];

pub(super) fn cases() -> Vec<Case> {
    let small =
        FLOATS.into_iter().flat_map(|element| SMALL.into_iter().flat_map(move |sizes| of(sizes, element)));
    let large =
        FLOATS.into_iter().flat_map(|element| LARGE.into_iter().flat_map(move |sizes| large(sizes, element)));
    small.chain(large).collect()
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

struct Operands {
    x: Vec<f64>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    mean: Vec<f64>,
    rstd: Vec<f64>,
}

fn operands(rows: usize, length: usize, element: Element) -> Operands {
    let x = shifted(1, rows * length, element);
    let [gamma, beta] = [2, 3].map(|stream| normals(stream, length, Element::F32));
    let moments: Vec<_> = x.chunks(length).map(|row| moments(row.iter().copied())).collect();
    let mean = moments.iter().map(|(mean, _)| *mean).collect();
    let rstd = moments.iter().map(|(_, variance)| 1.0 / (variance + EPS).sqrt()).collect();
    Operands { x, gamma, beta, mean, rstd }
}

fn forward(rows: usize, length: usize, element: Element) -> Result<Job> {
    let Operands { x, gamma, beta, mean, rstd } = operands(rows, length, element);
    let affine = [&gamma, &beta].map(|values| tensor(values, &[length]));
    let [gamma_tensor, beta_tensor] = affine;
    let y = layer_norm(&tensor(&x, &[rows, length])?, &gamma_tensor?, &beta_tensor?, EPS)?;
    Ok(Job {
        program: cuda::forward(rows, length, EPS, element)?,
        inputs: vec![
            Data::from_f64(element, &x),
            Data::from_f64(Element::F32, &gamma),
            Data::from_f64(Element::F32, &beta),
        ],
        expected: vec![
            Expected::new("y", element, super::values(&y)?),
            Expected::new("mean", Element::F32, mean),
            Expected::new("rstd", Element::F32, rstd),
        ],
    })
}

fn backward(rows: usize, length: usize, element: Element) -> Result<Job> {
    let Operands { x, gamma, beta, mean, rstd } = operands(rows, length, element);
    let dy = normals(4, rows * length, element);
    let inputs = [tensor(&x, &[rows, length])?, tensor(&gamma, &[length])?, tensor(&beta, &[length])?];
    let of = differentiate(&inputs, &dy, |of| layer_norm(&of[0], &of[1], &of[2], EPS))?;
    let [dx, dgamma, dbeta] = of.gradients()?;
    let single = |values: &[f64]| Data::from_f64(Element::F32, values);
    Ok(Job {
        program: cuda::backward(rows, length, element)?,
        inputs: vec![
            Data::from_f64(element, &x),
            single(&gamma),
            single(&mean),
            single(&rstd),
            Data::from_f64(element, &dy),
        ],
        expected: vec![
            Expected::new("dx", element, dx),
            Expected::new("dgamma | dbeta", Element::F32, [dgamma, dbeta].concat()),
        ],
    })
}
