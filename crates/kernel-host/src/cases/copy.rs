//! Views made contiguous: transposed, sliced, broadcast, of up to six axes, in packs and element by element.

use candle_core::Result;
use sd_core::cuda::{Element, Program};
use sd_core::ops::copy::cuda;

use super::{Case, Job, Work, normals};
use crate::{Data, Expected};

const OP: &str = "copy";

/// (sizes, strides) in elements.
type View = (&'static [usize], &'static [usize]);

const SMALL: [View; 14] = [
    (&[1], &[1]),
    (&[257], &[1]),
    (&[33], &[7]),
    // Transposed: tiles with tails on both sides, a side that is one tile, a batch, a third axis outside.
    (&[31, 33], &[1, 31]),
    (&[64, 32], &[1, 64]),
    (&[3, 65, 40], &[2600, 1, 65]),
    (&[2, 3, 33, 9], &[1200, 400, 1, 40]),
    // Sliced rows, in packs and not.
    (&[5, 64], &[80, 1]),
    (&[5, 31], &[33, 1]),
    (&[7, 16], &[17, 1]),
    // Broadcast rows and columns.
    (&[9, 40], &[0, 1]),
    (&[9, 7], &[1, 0]),
    // Channels last, and six axes that cannot be joined.
    (&[2, 5, 7, 3], &[105, 7, 1, 35]),
    (&[2, 3, 2, 3, 2, 5], &[1500, 300, 100, 31, 13, 2]),
];
const LARGE: [View; 2] = [(&[4096, 8192], &[1, 4096]), (&[4096, 8192], &[16_384, 1])];
const ELEMENTS: [Element; 5] = [Element::F32, Element::F16, Element::Bf16, Element::U32, Element::I64];

pub(super) fn cases() -> Vec<Case> {
    let small = ELEMENTS.into_iter().flat_map(|element| SMALL.into_iter().map(move |view| of(view, element)));
    let large = ELEMENTS.into_iter().flat_map(|element| {
        LARGE.into_iter().map(move |view| {
            let bytes = 2 * view.0.iter().product::<usize>() * element.bytes();
            of(view, element).timed(Work { bytes: bytes as u64, flop: 0 })
        })
    });
    small.chain(large).collect()
}

fn of((sizes, strides): View, element: Element) -> Case {
    Case::new(OP, format!("{sizes:?} by {strides:?} {}", element.suffix()), move || {
        copy(sizes, strides, element)
    })
}

/// Where in x each element of y lies: the definition, axis by axis.
fn places(sizes: &[usize], strides: &[usize]) -> Vec<usize> {
    sizes.iter().zip(strides).fold(vec![0], |starts, (size, stride)| {
        starts.iter().flat_map(|start| (0..*size).map(move |i| start + i * stride)).collect()
    })
}

fn copy(sizes: &[usize], strides: &[usize], element: Element) -> Result<Job> {
    let program: Program = cuda::strided(sizes, strides, element)?;
    let places = places(sizes, strides);
    let reach = places.iter().max().map_or(0, |last| last + 1);
    let x: Vec<f64> = match element {
        Element::U32 | Element::I64 => (0..reach).map(|i| (i * 7919 % 65_521) as f64).collect(),
        _ => normals(1, reach, element),
    };
    let y = places.iter().map(|place| x[*place]).collect();
    let exact = Expected {
        tolerance: crate::Tolerance { relative: 0.0, absolute: 0.0 },
        ..Expected::new("y", element, y)
    };
    Ok(Job { program, inputs: vec![Data::from_f64(element, &x)], expected: vec![exact] })
}
