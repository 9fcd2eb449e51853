//! Group norm, with and without SiLU: groups that a block keeps and groups that are cut, planes that no pack divides.

use candle_core::{Result, Tensor};
use sd_core::cuda::Element;
use sd_core::cuda::packs::Cuts;
use sd_core::ops::group_norm::cuda::{self, Shape};
use sd_core::ops::group_norm::group_norm;

use super::{CUT_SMALL, Case, FLOATS, Job, Work, differentiate, moments, normals, shifted, tensor};
use crate::{Data, Expected};

const OP: &str = "group_norm";
const EPS: f64 = 1e-5;

/// (batch, channels, positions, groups)
const SMALL: [[usize; 4]; 8] = [
    [1, 2, 1, 1],
    [3, 6, 1, 2],
    [2, 6, 31, 3],
    [1, 8, 33, 8],
    [2, 4, 257, 2],
    [1, 32, 64, 32],
    [3, 10, 77, 1],
    [1, 4, 3001, 2],
];
const LARGE: [[usize; 4]; 2] = [[2, 320, 64 * 64, 32], [2, 1280, 16 * 16, 32]];

pub(super) fn cases() -> Vec<Case> {
    let whole = Cuts::default();
    let small = FLOATS.into_iter().flat_map(move |element| {
        SMALL.into_iter().flat_map(move |sizes| {
            [(whole, ""), (CUT_SMALL, " cut")].into_iter().flat_map(move |cuts| of(sizes, cuts, element))
        })
    });
    let large =
        FLOATS.into_iter().flat_map(|element| LARGE.into_iter().flat_map(move |sizes| large(sizes, element)));
    small.chain(large).collect()
}

/// Forward and backward, with SiLU where the number of positions is odd.
fn of(sizes: [usize; 4], (cuts, cut): (Cuts, &str), element: Element) -> [Case; 2] {
    let [batch, channels, positions, groups] = sizes;
    let shape = Shape { batch, channels, positions, groups, silu: positions % 2 == 1 };
    let silu = if shape.silu { " silu" } else { "" };
    let named = |what: &str| {
        format!("{what}{cut}{silu} {batch}×{channels}×{positions}/{groups} {}", element.suffix())
    };
    [
        Case::new(OP, named("forward"), move || forward(&shape, &cuts, element)),
        Case::new(OP, named("backward"), move || backward(&shape, &cuts, element)),
    ]
}

fn large(sizes: [usize; 4], element: Element) -> [Case; 2] {
    let count: usize = sizes[..3].iter().product();
    let moved = |tensors: usize| Work { bytes: (tensors * count * element.bytes()) as u64, flop: 0 };
    let [forward, backward] = of(sizes, (Cuts::default(), ""), element);
    [forward.timed(moved(2)), backward.timed(moved(3))]
}

struct Operands {
    x: Vec<f64>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    mean: Vec<f64>,
    rstd: Vec<f64>,
}

fn operands(shape: &Shape, element: Element) -> Operands {
    let x = shifted(1, shape.batch * shape.channels * shape.positions, element);
    let [gamma, beta] = [2, 3].map(|stream| normals(stream, shape.channels, Element::F32));
    let group = shape.channels / shape.groups * shape.positions;
    let moments: Vec<_> = x.chunks(group).map(|set| moments(set.iter().copied())).collect();
    let mean = moments.iter().map(|(mean, _)| *mean).collect();
    let rstd = moments.iter().map(|(_, variance)| 1.0 / (variance + EPS).sqrt()).collect();
    Operands { x, gamma, beta, mean, rstd }
}

impl Operands {
    fn tensors(&self, shape: &Shape) -> Result<[Tensor; 3]> {
        let x = tensor(&self.x, &[shape.batch, shape.channels, shape.positions])?;
        Ok([x, tensor(&self.gamma, &[shape.channels])?, tensor(&self.beta, &[shape.channels])?])
    }
}

fn apply(shape: &Shape, of: &[Tensor]) -> Result<Tensor> {
    group_norm(&of[0], &of[1], &of[2], shape.groups, EPS, shape.silu)
}

fn forward(shape: &Shape, cuts: &Cuts, element: Element) -> Result<Job> {
    let operands = operands(shape, element);
    let y = super::values(&apply(shape, &operands.tensors(shape)?)?)?;
    let single = |values: &[f64]| Data::from_f64(Element::F32, values);
    Ok(Job {
        program: cuda::forward(shape, EPS, cuts, element)?,
        inputs: vec![Data::from_f64(element, &operands.x), single(&operands.gamma), single(&operands.beta)],
        expected: vec![
            Expected::new("y", element, y),
            Expected::new("mean", Element::F32, operands.mean),
            Expected::new("rstd", Element::F32, operands.rstd),
        ],
    })
}

fn backward(shape: &Shape, cuts: &Cuts, element: Element) -> Result<Job> {
    let operands = operands(shape, element);
    let dy = normals(4, operands.x.len(), element);
    let of = differentiate(&operands.tensors(shape)?, &dy, |of| apply(shape, of))?;
    let [dx, dgamma, dbeta] = of.gradients()?;
    let single = [&operands.gamma, &operands.beta, &operands.mean, &operands.rstd];
    let single = single.into_iter().map(|values| Data::from_f64(Element::F32, values));
    let first = std::iter::once(Data::from_f64(element, &operands.x));
    Ok(Job {
        program: cuda::backward(shape, cuts, element)?,
        inputs: first.chain(single).chain([Data::from_f64(element, &dy)]).collect(),
        expected: vec![
            Expected::new("dx", element, dx),
            Expected::new("dgamma | dbeta", Element::F32, [dgamma, dbeta].concat()),
        ],
    })
}
