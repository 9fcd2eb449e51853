//! Convolutions: odd sizes, one pixel, strides that do and do not divide, tiles cut on every side, sums in parts.

use candle_core::Result;
use sd_core::cuda::Element;
use sd_core::ops::conv2d::{Geometry, conv2d, cuda};

use super::{Case, Differentiated, FLOATS, Job, Work, differentiate, normals, tensor};
use crate::{Data, Expected};

const OP: &str = "conv2d";

/// (batch, channels, (height, width), filters, kernel, stride, padding)
type Sizes = (usize, usize, (usize, usize), usize, (usize, usize), usize, usize);

const SMALL: [Sizes; 13] = [
    // One matrix product, with and without pixels to spare.
    (1, 1, (1, 1), 1, (1, 1), 1, 0),
    (2, 7, (5, 3), 9, (1, 1), 1, 0),
    (1, 17, (6, 7), 31, (1, 1), 2, 0),
    (1, 3, (1, 1), 2, (3, 3), 1, 1),
    // An odd image, so that a pair of pixels crosses from one image to the next.
    (3, 4, (9, 11), 5, (3, 3), 1, 1),
    (2, 5, (8, 6), 3, (3, 3), 1, 1),
    // Strides, one that leaves a remainder, a kernel that is not square, a padding wider than the kernel needs.
    (1, 33, (9, 11), 31, (3, 3), 2, 1),
    (1, 3, (17, 15), 8, (7, 7), 2, 3),
    (2, 2, (13, 17), 3, (5, 3), 3, 2),
    (1, 2, (4, 3), 2, (2, 2), 1, 3),
    // Both tile sizes, filters and channels beyond one tile, sums in parts.
    (1, 67, (5, 6), 65, (3, 3), 1, 1),
    (1, 40, (4, 5), 200, (3, 3), 1, 1),
    (1, 131, (3, 5), 33, (3, 3), 1, 1),
];

/// Shapes of a UNet at two resolutions and of a ResNet.
const LARGE: [Sizes; 3] = [
    (2, 320, (64, 64), 320, (3, 3), 1, 1),
    (2, 1280, (16, 16), 1280, (3, 3), 1, 1),
    (128, 64, (32, 32), 64, (3, 3), 1, 1),
];

pub(super) fn cases() -> Vec<Case> {
    let small = SMALL.into_iter().flat_map(|sizes| FLOATS.map(|element| of(sizes, element)));
    let large = LARGE.into_iter().flat_map(|sizes| {
        let work = work(&geometry(sizes));
        FLOATS.map(|element| of(sizes, element).map(|case| case.timed(work(element))))
    });
    small.chain(large).flatten().collect()
}

fn geometry((batch, c_in, (h, w), c_out, (kh, kw), stride, padding): Sizes) -> Geometry {
    Geometry { batch, c_in, h, w, c_out, kh, kw, stride, padding }
}

fn counts(g: &Geometry) -> [usize; 3] {
    let side = |size, kernel| (size + 2 * g.padding - kernel) / g.stride + 1;
    let pixels = side(g.h, g.kh) * side(g.w, g.kw);
    [g.batch * g.c_in * g.h * g.w, g.c_out * g.c_in * g.kh * g.kw, g.batch * g.c_out * pixels]
}

/// The same for forward and both large gradients: two operands are read, one written.
fn work(g: &Geometry) -> impl Fn(Element) -> Work + use<> {
    let [x, w, y] = counts(g);
    let flop = 2 * y * g.c_in * g.kh * g.kw;
    move |element| Work { bytes: ((x + w + y) * element.bytes()) as u64, flop: flop as u64 }
}

/// Forward with and without a bias, and the gradients of one convolution.
fn of(sizes: Sizes, element: Element) -> [Case; 5] {
    let g = geometry(sizes);
    let name = |what: &str| {
        let Geometry { batch, c_in, h, w, c_out, kh, kw, stride, padding } = g;
        let suffix = element.suffix();
        format!(
            "{what} {batch}×{c_in}×{h}×{w} to {c_out}, {kh}×{kw} stride {stride} padding {padding} {suffix}"
        )
    };
    [
        Case::new(OP, name("forward"), move || forward(&g, false, element)),
        Case::new(OP, name("forward with bias"), move || forward(&g, true, element)),
        Case::new(OP, name("input gradient"), move || input_grad(&g, element)),
        Case::new(OP, name("weight gradient"), move || weight_grad(&g, element)),
        Case::new(OP, name("bias gradient"), move || bias_grad(&g, element)),
    ]
}

/// Rounded operands and what the CPU makes of them.
struct Reference {
    x: Vec<f64>,
    w: Vec<f64>,
    bias: Vec<f64>,
    dy: Vec<f64>,
    result: Differentiated,
}

fn reference(g: &Geometry, with_bias: bool, element: Element) -> Result<Reference> {
    let [x_count, w_count, y_count] = counts(g);
    let [x, w] = [normals(1, x_count, element), normals(2, w_count, element)];
    let [bias, dy] = [normals(3, g.c_out, element), normals(4, y_count, element)];
    let inputs = [
        tensor(&x, &[g.batch, g.c_in, g.h, g.w])?,
        tensor(&w, &[g.c_out, g.c_in, g.kh, g.kw])?,
        tensor(&bias, &[g.c_out])?,
    ];
    let inputs = if with_bias { &inputs[..] } else { &inputs[..2] };
    let result = differentiate(inputs, &dy, |inputs| {
        conv2d(&inputs[0], &inputs[1], inputs.get(2), g.stride, g.padding)
    })?;
    Ok(Reference { x, w, bias, dy, result })
}

fn forward(g: &Geometry, with_bias: bool, element: Element) -> Result<Job> {
    let r = reference(g, with_bias, element)?;
    let operands = if with_bias { vec![&r.x, &r.w, &r.bias] } else { vec![&r.x, &r.w] };
    // The bias of a 1×1 convolution is added to a product that is already rounded.
    let roundings = if with_bias && g.kh * g.kw == 1 { 2.0 } else { 1.0 };
    Ok(Job {
        program: cuda::forward(g, with_bias, element)?,
        inputs: operands.into_iter().map(|values| Data::from_f64(element, values)).collect(),
        expected: vec![Expected::new("y", element, r.result.output).times(roundings)],
    })
}

fn input_grad(g: &Geometry, element: Element) -> Result<Job> {
    let mut r = reference(g, false, element)?;
    Ok(Job {
        program: cuda::input_grad(g, element)?,
        inputs: vec![Data::from_f64(element, &r.dy), Data::from_f64(element, &r.w)],
        expected: vec![Expected::new("dx", element, r.result.gradients.swap_remove(0))],
    })
}

fn weight_grad(g: &Geometry, element: Element) -> Result<Job> {
    let mut r = reference(g, false, element)?;
    Ok(Job {
        program: cuda::weight_grad(g, element)?,
        inputs: vec![Data::from_f64(element, &r.x), Data::from_f64(element, &r.dy)],
        expected: vec![Expected::new("dw", element, r.result.gradients.swap_remove(1))],
    })
}

fn bias_grad(g: &Geometry, element: Element) -> Result<Job> {
    let mut r = reference(g, true, element)?;
    Ok(Job {
        program: cuda::bias_grad(g, element)?,
        inputs: vec![Data::from_f64(element, &r.dy)],
        expected: vec![Expected::new("db", element, r.result.gradients.swap_remove(2))],
    })
}
