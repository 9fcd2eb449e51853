//! Schedules and samplers of Stable Diffusion as pure functions, step for step those of diffusers 0.42.1.
//!
//! A [`Sampler`] is made of [`Settings`] (or of a folder's `scheduler_config.json`, see [`SchedulerConfig`]) and a number of steps. It
//! holds tables and no state. A run is
//!
//! ```
//! use candle_core::{DType, Device, Result, Tensor};
//! use sd_core::sampling::{Precision, Sampler, Settings, State};
//!
//! # fn model(x: &Tensor, _t: f64) -> Result<Tensor> { x.affine(0.1, 0.0) }
//! # fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
//! let sampler = Sampler::new(&Settings::stable_diffusion_ddim(), 50, Precision::Single)?;
//! let noise = Tensor::ones((1, 4, 8, 8), DType::F32, &Device::Cpu)?; // standard normal in earnest
//! let mut x = (noise * sampler.init_noise_sigma())?;
//! let mut state = State::new();
//! for (i, &t) in sampler.timesteps().iter().enumerate() {
//!     let output = model(&sampler.scale_model_input(&x, i)?, t)?;
//!     let fresh = None; // drawn where `sampler.takes_noise(i)`
//!     x = sampler.step(&mut state, &output, i, &x, fresh)?;
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | name | sampler | sources |
//! |---|---|---|
//! | `ddim` | DDIM, any η; inversion; the exact inverse of a step | Song, Meng, Ermon 2021, arXiv 2010.02502 |
//! | `ddpm` | ancestral sampling | Ho, Jain, Abbeel 2020, arXiv 2006.11239 |
//! | `pndm` | PLMS, with a repeated step or Runge and Kutta's steps first | Liu et al. 2022, arXiv 2202.09778 |
//! | `euler`, `euler-a` | Euler's method in σ, and with fresh noise | Karras et al. 2022, arXiv 2206.00364 |
//! | `dpm++` | DPM-Solver++(2M) | Lu et al. 2022, arXiv 2211.01095 |
//!
//! **Steps are counted, not looked up.** `i` is the index of the model evaluation. PNDM visits one timestep twice and Karras's levels may
//! round to one timestep, so that a timestep does not say which step it is.
//!
//! **State is explicit.** What a multistep sampler remembers is in a [`State`] that belongs to one batch. Rows of a batch never meet:
//! every operation is element by element with the same numbers for all, so a row's result does not depend on its neighbours.
//!
//! **Arithmetic.** With [`Precision::Single`] tables and coefficients are rounded to float32 after every operation, and elements are
//! combined in diffusers' order: bit for bit what diffusers computes in float32, but for the last place of square roots, which
//! PyTorch takes from a vector library that does not always give the nearest number (after ten or more steps the samples differ by 7e-6
//! at the most, relative to the largest element; the pictures do not). With [`Precision::Double`] nothing is rounded, and samples are
//! within 1e-15 of diffusers' source run in float64 throughout. (As it stands diffusers keeps tables in float32 for float64 latents
//! too.) Latents keep their dtype; those in float16 and bfloat16 are computed in float32 and rounded once a step. Every step can be
//! differentiated with respect to the model's answer and the sample.
//!
//! **Where this differs from diffusers**, on purpose: trailing spacing never visits the timestep −1 (see [`Spacing::Trailing`]), a
//! first timestep that the schedule does not have is an error here, and so are settings that diffusers would take and turn into NaN.
//! diffusers' knobs that no Stable Diffusion pipeline turns (Karras's churn, `use_clipped_model_output`) are absent.

mod config;
mod ddim;
mod ddpm;
mod dpm;
mod error;
mod euler;
mod pndm;
mod rule;
mod sampler;
mod scalar;
mod schedule;
mod settings;
mod sigmas;
mod spacing;
mod state;
mod tensor;
#[cfg(test)]
mod tests;

pub use config::{SamplerKind, SchedulerConfig};
pub use error::SamplingError;
pub use sampler::Sampler;
pub use scalar::Precision;
pub use schedule::{Beta, Schedule, ScheduleSettings};
pub use settings::{Dpm, LastSigma, Method, Prediction, Settings, Solver, Variance};
pub use spacing::Spacing;
pub use state::State;

use scalar::Scalar;

/// `timesteps`, where the schedule has them all.
fn within(timesteps: Vec<f64>, settings: &Settings, steps: usize) -> Result<Vec<f64>, SamplingError> {
    let train = settings.schedule.train_steps;
    match timesteps.first().filter(|&&first| first >= train as f64) {
        None => Ok(timesteps),
        Some(&first) => Err(SamplingError::BeyondSchedule {
            timestep: first as i64,
            steps,
            offset: settings.steps_offset,
            train,
        }),
    }
}

/// Where nothing is left of the picture, the noise alone does not tell it.
fn needs_signal(
    prediction: Prediction,
    mut alphas: impl Iterator<Item = Scalar>,
) -> Result<(), SamplingError> {
    if prediction != Prediction::Epsilon || !alphas.any(|alpha| alpha.value() == 0.0) {
        return Ok(());
    }
    Err(SamplingError::Combination {
        what: "a prediction of the noise (`epsilon`)".into(),
        with: "`rescale_betas_zero_snr` and a spacing that visits the last timestep".into(),
        instead: "use `v_prediction`, or `leading` spacing".into(),
    })
}

fn refuse_sample(sampler: &str, prediction: Prediction) -> Result<(), SamplingError> {
    if prediction != Prediction::Sample {
        return Ok(());
    }
    Err(SamplingError::Combination {
        what: sampler.into(),
        with: "`prediction_type` \"sample\"".into(),
        instead: "use ddim, ddpm, euler or dpm++".into(),
    })
}
