//! Identities between samplers, what is refused, and configurations. (`tests/sampling.rs` holds every step against diffusers.)
#![allow(clippy::unwrap_used)]

mod config;
mod identities;
mod refusals;

use candle_core::{DType, Result, Tensor};

use super::*;
use crate::ops::testing::normal;

/// One of each kind, as Stable Diffusion would use it, where that is possible for `prediction`.
fn one_of_each(prediction: Prediction, spacing: Spacing) -> Vec<Settings> {
    let one = false;
    let methods = [
        Method::Ddim { clip: None, last_alpha_is_one: one },
        Method::Ddim { clip: Some(0.8), last_alpha_is_one: one },
        Method::DdimInverse { clip: None, first_alpha_is_one: one },
        Method::Ddpm { clip: None, variance: Variance::FixedSmall },
        Method::Pndm { skip_prk_steps: true, last_alpha_is_one: one },
        Method::Pndm { skip_prk_steps: false, last_alpha_is_one: one },
        Method::Euler { karras: false, last: LastSigma::Zero },
        Method::Euler { karras: true, last: LastSigma::SigmaMin },
        Method::EulerAncestral,
        Method::Dpm(Dpm::default()),
        Method::Dpm(Dpm { solver: Solver::Heun, last: LastSigma::SigmaMin, ..Dpm::default() }),
        Method::Dpm(Dpm { karras: true, ..Dpm::default() }),
    ];
    let settings =
        methods.map(|method| Settings { prediction, spacing, ..Settings::stable_diffusion(method) });
    settings.into_iter().filter(possible).collect()
}

fn possible(settings: &Settings) -> bool {
    let sample = settings.prediction == Prediction::Sample;
    match settings.method {
        Method::Pndm { .. } | Method::EulerAncestral => !sample,
        Method::DdimInverse { .. } => settings.spacing != Spacing::Linspace,
        _ => true,
    }
}

/// A smooth answer of a model that depends on what it is given and on the timestep.
fn model(x: &Tensor, t: f64) -> Result<Tensor> {
    x.affine(0.4, (t * 0.37).sin() * 0.2)?.tanh()
}

/// Fresh noise of step `i`.
fn fresh(sampler: &Sampler, i: usize, like: &Tensor) -> Option<Tensor> {
    let noise = || normal(100 + i as u64, like.dims()).to_dtype(like.dtype()).unwrap();
    sampler.takes_noise(i).then(noise)
}

/// Every sample of a run from `x` with `model`.
fn run_with(
    sampler: &Sampler,
    x: &Tensor,
    mut model: impl FnMut(&Tensor, f64) -> Result<Tensor>,
) -> Result<Vec<Tensor>> {
    let (mut state, mut seen) = (State::new(), vec![x.clone()]);
    for (i, &t) in sampler.timesteps().iter().enumerate() {
        let x = seen[i].clone();
        let output = model(&sampler.scale_model_input(&x, i)?, t)?;
        seen.push(sampler.step(&mut state, &output, i, &x, fresh(sampler, i, &x).as_ref())?);
    }
    Ok(seen)
}

fn run(sampler: &Sampler, x: &Tensor) -> Vec<Tensor> {
    run_with(sampler, x, model).unwrap()
}

fn double(settings: &Settings, steps: usize) -> Sampler {
    Sampler::new(settings, steps, Precision::Double).unwrap()
}

fn single_noise(seed: u64, shape: &[usize]) -> Tensor {
    normal(seed, shape).to_dtype(DType::F32).unwrap()
}
