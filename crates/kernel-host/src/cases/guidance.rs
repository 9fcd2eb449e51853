//! Cases of the guided sampler step: one element, whole packs with a tail, more than a block takes in a turn; with noise and without.

use candle_core::Result;
use sd_core::cuda::Element;
use sd_core::ops::guidance::cuda::{Numbers, step};

use super::{Case, FLOATS, Job, Work, normals};
use crate::{Data, Expected};

const OP: &str = "guidance";
const NUMBERS: Numbers = Numbers { guidance: 7.5, keep: 1.03, turn: -0.071, noise: 0.21 };

pub(super) fn cases() -> Vec<Case> {
    let of = |count: usize, noise: bool, element: Element| {
        let how = if noise { "with noise" } else { "plain" };
        let name = format!("{how} {count} {}", element.suffix());
        Case::new(OP, name, move || job(count, noise, element))
    };
    let mut cases = Vec::new();
    for element in FLOATS {
        for noise in [false, true] {
            cases.extend([1, 31, 256, 9001].map(|count| of(count, noise, element)));
            let count = 1 << 26;
            let tensors = if noise { 5 } else { 4 };
            let bytes = (tensors * count * element.bytes()) as u64;
            cases.push(of(count, noise, element).timed(Work { bytes, flop: 0 }));
        }
    }
    cases
}

/// The definition: ε from both predictions, then the step.
fn job(count: usize, noise: bool, element: Element) -> Result<Job> {
    let given = [1, 2, 3, 4].map(|stream| normals(stream, count, element));
    let Numbers { guidance, keep, turn, noise: sigma } = NUMBERS;
    let of = |i: usize| {
        let [x, uncond, cond, z] = [0, 1, 2, 3].map(|tensor| given[tensor][i]);
        let eps = uncond + guidance * (cond - uncond);
        keep * x + turn * eps + if noise { sigma * z } else { 0.0 }
    };
    let out = (0..count).map(of).collect();
    let inputs = given.iter().take(if noise { 4 } else { 3 });
    Ok(Job {
        program: step(&NUMBERS, noise, count, element)?,
        inputs: inputs.map(|values| Data::from_f64(element, values)).collect(),
        expected: vec![Expected::new("out", element, out)],
    })
}
