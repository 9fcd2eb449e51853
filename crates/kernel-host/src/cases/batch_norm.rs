//! Batch norm: training and evaluation, channels that a block keeps and channels that are cut, planes that no pack divides.

use candle_core::{Result, Tensor};
use sd_core::cuda::Element;
use sd_core::cuda::packs::Cuts;
use sd_core::ops::batch_norm::cuda::{self, Shape};
use sd_core::ops::batch_norm::{Statistics, eval, train};

use super::{CUT_SMALL, Case, FLOATS, Job, Work, differentiate, moments, normals, shifted, tensor};
use crate::{Data, Expected};

const OP: &str = "batch_norm";
const EPS: f64 = 1e-5;

/// (batch, channels, positions)
const SMALL: [[usize; 3]; 7] =
    [[3, 1, 1], [31, 5, 1], [2, 3, 31], [5, 7, 33], [3, 2, 257], [2, 33, 16], [2, 2, 3001]];
const LARGE: [[usize; 3]; 2] = [[128, 64, 32 * 32], [128, 512, 4 * 4]];

pub(super) fn cases() -> Vec<Case> {
    let whole = Cuts::default();
    let small = FLOATS.into_iter().flat_map(move |element| {
        SMALL.into_iter().flat_map(move |sizes| {
            let trained =
                [(whole, ""), (CUT_SMALL, " cut")].into_iter().flat_map(move |cuts| of(sizes, cuts, element));
            trained.chain(evaluated(sizes, element))
        })
    });
    let large =
        FLOATS.into_iter().flat_map(|element| LARGE.into_iter().flat_map(move |sizes| large(sizes, element)));
    small.chain(large).collect()
}

fn shape([batch, channels, positions]: [usize; 3]) -> Shape {
    Shape { batch, channels, positions }
}

fn of(sizes: [usize; 3], (cuts, cut): (Cuts, &str), element: Element) -> [Case; 3] {
    let shape = shape(sizes);
    let named = |what: &str| format!("{what}{cut} {sizes:?} {}", element.suffix());
    [
        Case::new(OP, named("train"), move || forward(&shape, &cuts, element)),
        Case::new(OP, named("train backward"), move || backward(&shape, true, &cuts, element)),
        Case::new(OP, named("eval backward"), move || backward(&shape, false, &cuts, element)),
    ]
}

fn evaluated(sizes: [usize; 3], element: Element) -> [Case; 1] {
    let shape = shape(sizes);
    [Case::new(OP, format!("eval {sizes:?} {}", element.suffix()), move || evaluate(&shape, element))]
}

fn large(sizes: [usize; 3], element: Element) -> Vec<Case> {
    let count: usize = sizes.iter().product();
    let moved = |tensors: usize| Work { bytes: (tensors * count * element.bytes()) as u64, flop: 0 };
    let [train, backward, _] = of(sizes, (Cuts::default(), ""), element);
    let [eval] = evaluated(sizes, element);
    vec![train.timed(moved(2)), backward.timed(moved(3)), eval.timed(moved(2))]
}

struct Operands {
    x: Vec<f64>,
    gamma: Vec<f64>,
    beta: Vec<f64>,
    mean: Vec<f64>,
    variance: Vec<f64>,
}

/// The statistics are those of x, or, where `foreign`, other ones.
fn operands(shape: &Shape, foreign: bool, element: Element) -> Operands {
    let &Shape { batch, channels, positions } = shape;
    let x = shifted(1, batch * channels * positions, element);
    let [gamma, beta] = [2, 3].map(|stream| normals(stream, channels, Element::F32));
    let of_channel = |channel: usize| {
        let x = &x;
        let plane = move |image: usize| &x[(image * channels + channel) * positions..][..positions];
        moments((0..batch).flat_map(move |image| plane(image).iter().copied()))
    };
    let (mean, variance): (Vec<f64>, Vec<f64>) = (0..channels).map(of_channel).unzip();
    if foreign {
        let other = |stream| normals(stream, channels, Element::F32);
        let variance = other(6).iter().map(|value| value * value + 0.25).collect();
        return Operands { x, gamma, beta, mean: other(5), variance };
    }
    Operands { x, gamma, beta, mean, variance }
}

impl Operands {
    fn rstd(&self) -> Vec<f64> {
        self.variance.iter().map(|variance| 1.0 / (variance + EPS).sqrt()).collect()
    }

    fn tensors(&self, shape: &Shape) -> Result<[Tensor; 3]> {
        let x = tensor(&self.x, &[shape.batch, shape.channels, shape.positions, 1])?;
        Ok([x, tensor(&self.gamma, &[shape.channels])?, tensor(&self.beta, &[shape.channels])?])
    }

    fn statistics(&self, shape: &Shape) -> Statistics {
        let count = shape.batch * shape.positions;
        Statistics { mean: self.mean.clone(), variance: self.variance.clone(), count }
    }
}

fn single(values: &[f64]) -> Data {
    Data::from_f64(Element::F32, values)
}

fn forward(shape: &Shape, cuts: &Cuts, element: Element) -> Result<Job> {
    let operands = operands(shape, false, element);
    let [x, gamma, beta] = operands.tensors(shape)?;
    let (y, _) = train(&x, &gamma, &beta, EPS)?;
    Ok(Job {
        program: cuda::train(shape, EPS, cuts, element)?,
        inputs: vec![Data::from_f64(element, &operands.x), single(&operands.gamma), single(&operands.beta)],
        expected: vec![
            Expected::new("y", element, super::values(&y)?),
            Expected::new("mean", Element::F32, operands.mean.clone()),
            Expected::new("variance", Element::F32, operands.variance.clone()),
            Expected::new("rstd", Element::F32, operands.rstd()),
        ],
    })
}

fn evaluate(shape: &Shape, element: Element) -> Result<Job> {
    let operands = operands(shape, true, element);
    let [x, gamma, beta] = operands.tensors(shape)?;
    let y = eval(&x, &gamma, &beta, &operands.statistics(shape), EPS)?;
    Ok(Job {
        program: cuda::eval(shape, element)?,
        inputs: vec![
            Data::from_f64(element, &operands.x),
            single(&operands.gamma),
            single(&operands.beta),
            single(&operands.mean),
            single(&operands.rstd()),
        ],
        expected: vec![Expected::new("y", element, super::values(&y)?)],
    })
}

fn backward(shape: &Shape, through: bool, cuts: &Cuts, element: Element) -> Result<Job> {
    let operands = operands(shape, !through, element);
    let dy = normals(4, operands.x.len(), element);
    let statistics = operands.statistics(shape);
    let of = differentiate(&operands.tensors(shape)?, &dy, |of| match through {
        true => Ok(train(&of[0], &of[1], &of[2], EPS)?.0),
        false => eval(&of[0], &of[1], &of[2], &statistics, EPS),
    })?;
    let [dx, dgamma, dbeta] = of.gradients()?;
    Ok(Job {
        program: cuda::backward(shape, through, cuts, element)?,
        inputs: vec![
            Data::from_f64(element, &operands.x),
            single(&operands.gamma),
            single(&operands.mean),
            single(&operands.rstd()),
            Data::from_f64(element, &dy),
        ],
        expected: vec![
            Expected::new("dx", element, dx),
            Expected::new("dgamma | dbeta", Element::F32, [dgamma, dbeta].concat()),
        ],
    })
}
