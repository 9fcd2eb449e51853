//! Attention: every width of the tiles, one query, one key, self and cross, causal with fewer and with more keys than queries.

use candle_core::{D, Result, Tensor};
use sd_core::cuda::Element;
use sd_core::ops::attention::cuda::{self, Shape};

use super::{Case, FLOATS, Job, Work, differentiate, normals, tensor};
use crate::{Data, Expected};

const OP: &str = "attention";

/// (heads, queries, keys, head size, causal)
type Sizes = (usize, usize, usize, usize, bool);

const SMALL: [Sizes; 16] = [
    (1, 1, 1, 1, false),
    (2, 31, 33, 8, false),
    (3, 33, 31, 8, true),
    (2, 67, 61, 20, false),
    (1, 70, 77, 20, true),
    (2, 65, 77, 40, false),
    (1, 131, 131, 40, true),
    (1, 1, 257, 64, false),
    (2, 129, 65, 64, true),
    (1, 5, 7, 13, true),
    (1, 37, 40, 80, false),
    (1, 70, 33, 80, true),
    (1, 19, 35, 100, false),
    (1, 66, 34, 160, false),
    (2, 33, 67, 160, true),
    (1, 257, 3, 16, true),
];

/// Levels of a UNet: self and cross.
const LARGE: [Sizes; 4] = [
    (16, 4096, 4096, 40, false),
    (16, 4096, 77, 40, false),
    (16, 1024, 1024, 80, false),
    (16, 2048, 2048, 64, true),
];

pub(super) fn cases() -> Vec<Case> {
    let small = SMALL.into_iter().flat_map(|sizes| FLOATS.map(|element| of(sizes, element)));
    let large = LARGE.into_iter().flat_map(|sizes| FLOATS.map(|element| large(sizes, element)));
    small.flatten().chain(large.flatten()).collect()
}

fn shape((heads, queries, keys, size, causal): Sizes) -> Shape {
    Shape { heads, queries, keys, size, scale: 1.0 / (size as f32).sqrt(), causal }
}

fn of(sizes: Sizes, element: Element) -> [Case; 5] {
    let shape = shape(sizes);
    // Logits that spread over many powers of two, and a scale of either sign.
    let steep = Shape { scale: -3.0 * shape.scale, ..shape };
    [
        Case::new(OP, named("forward", sizes, element), move || forward(&shape, element)),
        Case::new(OP, named("steep forward", sizes, element), move || forward(&steep, element)),
        Case::new(OP, named("backward", sizes, element), move || backward(&shape, element)),
        Case::new(OP, named("map", sizes, element), move || map(&shape, element)),
        Case::new(OP, named("map backward", sizes, element), move || map_backward(&shape, element)),
    ]
}

fn large(sizes: Sizes, element: Element) -> [Case; 2] {
    let shape = shape(sizes);
    let forward_work = work(&shape, element, 4, 2);
    let backward_work = work(&shape, element, 8, 5);
    [
        Case::new(OP, named("forward", sizes, element), move || forward(&shape, element)).timed(forward_work),
        Case::new(OP, named("backward", sizes, element), move || backward(&shape, element))
            .timed(backward_work),
    ]
}

/// `tensors` of q's or k's size are moved and `products` of Tq × Tk × D computed, half of each where causal.
fn work(shape: &Shape, element: Element, tensors: usize, products: usize) -> Work {
    let Shape { heads, queries, keys, size, causal, .. } = *shape;
    let flop = 2 * products * heads * queries * keys * size / if causal { 2 } else { 1 };
    let bytes = tensors / 2 * heads * (queries + keys) * size * element.bytes();
    Work { bytes: bytes as u64, flop: flop as u64 }
}

fn named(what: &str, (heads, queries, keys, size, causal): Sizes, element: Element) -> String {
    let causal = if causal { " causal" } else { "" };
    format!("{what} {heads}×{queries}×{keys}×{size}{causal} {}", element.suffix())
}

/// −∞ where a query must not look.
fn mask(shape: &Shape) -> Result<Tensor> {
    let seen = |i: usize| (i / shape.keys, i % shape.keys);
    let value = |i| match seen(i) {
        (query, key) if shape.causal && key > query => f64::NEG_INFINITY,
        _ => 0.0,
    };
    let values: Vec<f64> = (0..shape.queries * shape.keys).map(value).collect();
    tensor(&values, &[1, shape.queries, shape.keys])
}

/// The map by its definition; the logits of the cases are small enough for `exp`.
fn map_of(shape: &Shape, q: &Tensor, k: &Tensor) -> Result<Tensor> {
    let exp = exponentials(shape, q, k)?;
    exp.broadcast_div(&exp.sum_keepdim(D::Minus1)?)
}

fn exponentials(shape: &Shape, q: &Tensor, k: &Tensor) -> Result<Tensor> {
    let logits = (q.matmul(&k.transpose(1, 2)?.contiguous()?)? * f64::from(shape.scale))?;
    logits.broadcast_add(&mask(shape)?)?.exp()
}

/// q, k, v and a gradient like y, rounded.
fn operands(shape: &Shape, element: Element) -> [Vec<f64>; 4] {
    let [of_queries, of_keys] = [shape.queries, shape.keys].map(|count| shape.heads * count * shape.size);
    [(1, of_queries), (2, of_keys), (3, of_keys), (4, of_queries)]
        .map(|(stream, count)| normals(stream, count, element))
}

fn tensors(shape: &Shape, [q, k, v, _]: &[Vec<f64>; 4]) -> Result<[Tensor; 3]> {
    let of = |values, count| tensor(values, &[shape.heads, count, shape.size]);
    Ok([of(q, shape.queries)?, of(k, shape.keys)?, of(v, shape.keys)?])
}

fn logsumexp(shape: &Shape, q: &Tensor, k: &Tensor) -> Result<Vec<f64>> {
    exponentials(shape, q, k)?.sum(D::Minus1)?.log()?.flatten_all()?.to_vec1()
}

fn forward(shape: &Shape, element: Element) -> Result<Job> {
    let values = operands(shape, element);
    let [q, k, v] = tensors(shape, &values)?;
    let y = map_of(shape, &q, &k)?.matmul(&v)?.flatten_all()?.to_vec1()?;
    Ok(Job {
        program: cuda::forward(shape, element)?,
        inputs: values[..3].iter().map(|values| Data::from_f64(element, values)).collect(),
        expected: vec![
            // The map is rounded before it meets v.
            Expected::new("y", element, y).times(2.0),
            Expected::new("logsumexp", Element::F32, logsumexp(shape, &q, &k)?),
        ],
    })
}

fn backward(shape: &Shape, element: Element) -> Result<Job> {
    let values = operands(shape, element);
    let inputs = tensors(shape, &values)?;
    let attention = |inputs: &[Tensor]| map_of(shape, &inputs[0], &inputs[1])?.matmul(&inputs[2]);
    let result = differentiate(&inputs, &values[3], attention)?;
    let [q, k, v, dy] = values;
    let logsumexp = logsumexp(shape, &inputs[0], &inputs[1])?;
    let mut given: Vec<Data> =
        [&q, &k, &v, &result.output, &dy].map(|values| Data::from_f64(element, values)).into();
    given.push(Data::from_f64(Element::F32, &logsumexp));
    let names = ["dq", "dk", "dv"].into_iter().zip(result.gradients);
    Ok(Job {
        program: cuda::backward(shape, element)?,
        inputs: given,
        // y comes rounded, and delta is a sum of its products.
        expected: names.map(|(name, values)| Expected::new(name, element, values).times(3.0)).collect(),
    })
}

fn map(shape: &Shape, element: Element) -> Result<Job> {
    let values = operands(shape, element);
    let [q, k, _] = tensors(shape, &values)?;
    let map = map_of(shape, &q, &k)?.flatten_all()?.to_vec1()?;
    Ok(Job {
        program: cuda::map(shape, element)?,
        inputs: values[..2].iter().map(|values| Data::from_f64(element, values)).collect(),
        expected: vec![Expected::new("map", element, map)],
    })
}

fn map_backward(shape: &Shape, element: Element) -> Result<Job> {
    let [q, k, ..] = operands(shape, element);
    let inputs = tensors(shape, &operands(shape, element))?;
    let dmap = normals(5, shape.heads * shape.queries * shape.keys, element);
    let result = differentiate(&inputs[..2], &dmap, |inputs| map_of(shape, &inputs[0], &inputs[1]))?;
    let names = ["dq", "dk"].into_iter().zip(result.gradients);
    Ok(Job {
        program: cuda::map_backward(shape, element)?,
        inputs: [&q, &k, &result.output, &dmap].map(|values| Data::from_f64(element, values)).into(),
        // The map comes rounded, and the gradient of the logits is rounded again before the products.
        expected: names.map(|(name, values)| Expected::new(name, element, values).times(3.0)).collect(),
    })
}
