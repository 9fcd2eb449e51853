//! Cases of the bilinear resize: up and down, by whole and by odd factors, to and from one pixel, corners aligned and not.

use candle_core::Result;
use sd_core::cuda::Element;
use sd_core::ops::resize::cuda::{Shape, backward, forward};

use super::{Case, FLOATS, Job, Work, normals};
use crate::{Data, Expected};

const OP: &str = "resize";

/// (planes, (height, width) of x, of y)
type Sizes = (usize, (usize, usize), (usize, usize));

const SMALL: [Sizes; 9] = [
    (1, (1, 1), (1, 1)),
    (3, (1, 1), (5, 7)),
    (2, (5, 7), (1, 1)),
    (3, (8, 16), (16, 32)),
    (2, (7, 9), (31, 33)),
    (2, (31, 33), (7, 9)),
    (1, (64, 5), (9, 257)),
    (5, (9, 13), (9, 13)),
    // Sixteen outputs an input: more than the weights that the backward keeps at hand.
    (1, (17, 3), (272, 48)),
];

pub(super) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for element in FLOATS {
        for align_corners in [false, true] {
            for (planes, input, output) in SMALL {
                cases.extend(of(Shape { planes, input, output, align_corners }, element));
            }
        }
        let shape = Shape { planes: 2048, input: (64, 64), output: (128, 128), align_corners: false };
        let work = Work { bytes: (2048 * 5 * 64 * 64 * element.bytes()) as u64, flop: 0 };
        cases.extend(of(shape, element).map(|case| case.timed(work)));
    }
    cases
}

fn of(shape: Shape, element: Element) -> [Case; 2] {
    let Shape { planes, input: (h, w), output: (y_h, y_w), align_corners } = shape;
    let corners = if align_corners { " corners" } else { "" };
    let named = |pass: &str| format!("{pass} {planes}×{h}×{w} to {y_h}×{y_w}{corners} {}", element.suffix());
    [
        Case::new(OP, named("forward"), move || forward_job(&shape, element)),
        Case::new(OP, named("backward"), move || backward_job(&shape, element)),
    ]
}

/// The definition: the two inputs that output `o` lies between along one axis, and the share of the second.
fn tap(o: usize, input: usize, output: usize, align_corners: bool) -> (usize, usize, f64) {
    let (o, i, count) = (o as f64, input as f64, output as f64);
    let place = match (align_corners, output) {
        (true, 1) => 0.0,
        (true, _) => o * (i - 1.0) / (count - 1.0),
        (false, _) => ((o + 0.5) * i / count - 0.5).max(0.0),
    };
    let low = (place.floor() as usize).min(input - 1);
    (low, (low + 1).min(input - 1), place - low as f64)
}

/// Calls `each(index in x, index in y, weight)` for all four corners of every output.
fn corners(shape: &Shape, mut each: impl FnMut(usize, usize, f64)) {
    let ((h, w), (y_h, y_w)) = (shape.input, shape.output);
    for index in 0..shape.planes * y_h * y_w {
        let (plane, row, column) = (index / (y_h * y_w), index / y_w % y_h, index % y_w);
        let (top, bottom, down) = tap(row, h, y_h, shape.align_corners);
        let (left, right, across) = tap(column, w, y_w, shape.align_corners);
        for (i, vertical) in [(top, 1.0 - down), (bottom, down)] {
            for (j, horizontal) in [(left, 1.0 - across), (right, across)] {
                each((plane * h + i) * w + j, index, vertical * horizontal);
            }
        }
    }
}

fn counts(shape: &Shape) -> [usize; 2] {
    [shape.input, shape.output].map(|(height, width)| shape.planes * height * width)
}

fn forward_job(shape: &Shape, element: Element) -> Result<Job> {
    let [input, output] = counts(shape);
    let x = normals(1, input, element);
    let mut y = vec![0.0; output];
    corners(shape, |from, to, weight| y[to] += weight * x[from]);
    Ok(Job {
        program: forward(shape, element)?,
        inputs: vec![Data::from_f64(element, &x)],
        expected: vec![Expected::new("y", element, y)],
    })
}

fn backward_job(shape: &Shape, element: Element) -> Result<Job> {
    let [input, output] = counts(shape);
    let dy = normals(2, output, element);
    let mut dx = vec![0.0; input];
    corners(shape, |from, to, weight| dx[from] += weight * dy[to]);
    Ok(Job {
        program: backward(shape, element)?,
        inputs: vec![Data::from_f64(element, &dy)],
        expected: vec![Expected::new("dx", element, dx)],
    })
}
