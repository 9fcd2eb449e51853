//! What a guided sampler step does on a CUDA device: one launch of `guidance.cu`.

#[cfg(feature = "cuda")]
pub(super) mod device;

use candle_core::Result;

use crate::cuda::packs::{THREADS, elementwise, kernels, long, threads};
use crate::cuda::{Arg, Element, Program, Source};

/// `guidance.cu`.
pub static SOURCE: Source = Source {
    name: "guidance",
    path: "crates/sd-core/src/ops/guidance/guidance.cu",
    text: include_str!("guidance.cu"),
    kernels: kernels!["guided_step", "guided_noisy_step"],
    stack_limit: 0,
};

/// The numbers of a step: `x' = keep·x + turn·ε + noise·z` with `ε = ε_u + guidance·(ε_c − ε_u)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Numbers {
    /// How far the conditional prediction is followed beyond the other.
    pub guidance: f64,
    /// `√(ᾱ'/ᾱ)`.
    pub keep: f64,
    /// `√(1 − ᾱ' − σ²) − keep·√(1 − ᾱ)`.
    pub turn: f64,
    /// σ; 0 where no noise is given.
    pub noise: f64,
}

/// (x, ε_u, ε_c) → x', all of `count` elements; with noise (x, ε_u, ε_c, z) → x'.
///
/// # Errors
/// Never; the type is that of every op's programs.
pub fn step(numbers: &Numbers, with_noise: bool, count: usize, element: Element) -> Result<Program> {
    let mut program = Program::new("guided_ddim_step");
    let inputs = if with_noise { 4 } else { 3 };
    let given: Vec<_> = (0..inputs).map(|_| program.input(element, count)).collect();
    let out = program.output(element, count);
    let Numbers { guidance, keep, turn, noise } = *numbers;
    let mut args = vec![long(count)];
    args.extend([guidance, keep, turn].map(|number| Arg::F32(number as f32)));
    args.extend(with_noise.then_some(Arg::F32(noise as f32)));
    args.extend(given.into_iter().chain([out]).map(Arg::Buffer));
    let kernel = if with_noise { "guided_noisy_step" } else { "guided_step" };
    let kernel = format!("{kernel}_{}", element.suffix());
    program.launch(&SOURCE, &kernel, elementwise(count, element, inputs), threads(THREADS), 0, args);
    Ok(program)
}
