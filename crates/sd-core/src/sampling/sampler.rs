//! One sampler with one number of steps: what a pipeline holds.

use std::sync::Arc;

use candle_core::{Result, Tensor, bail};

use super::ddim::{Ddim, Inverse};
use super::ddpm::Ddpm;
use super::dpm::DpmSolver;
use super::error::SamplingError;
use super::euler::Euler;
use super::pndm::Pndm;
use super::rule::{Given, Rule};
use super::scalar::Precision;
use super::schedule::Schedule;
use super::settings::{Method, Settings};
use super::spacing::Spacing;
use super::state::State;
use super::tensor::{add, compute_dtype, div, mul, sub};
use crate::ops::guidance::guided_ddim_step;

/// A sampler with its number of steps: tables, and no state. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sampler {
    settings: Settings,
    schedule: Schedule,
    steps: usize,
    eta: f64,
    rule: Arc<dyn Rule>,
}

impl Sampler {
    /// The sampler of `settings` that takes `steps` steps, computed in `precision`.
    ///
    /// # Errors
    /// No steps, more than the schedule has timesteps, or settings that do not go together.
    pub fn new(
        settings: &Settings,
        steps: usize,
        precision: Precision,
    ) -> std::result::Result<Self, SamplingError> {
        Self::with_eta(settings, steps, precision, 0.0)
    }

    /// DDIM with the share η ≥ 0 of fresh noise: 0 is deterministic, 1 has the variance of ancestral sampling. Other samplers take 0.
    ///
    /// # Errors
    /// As [`Sampler::new`], and where η is negative or the sampler has none.
    pub fn with_eta(
        settings: &Settings,
        steps: usize,
        precision: Precision,
        eta: f64,
    ) -> std::result::Result<Self, SamplingError> {
        check_steps(settings, steps)?;
        check_eta(settings.method, eta)?;
        let schedule = Schedule::new(&settings.schedule, precision)?;
        let rule = rule(settings, &schedule, steps, eta)?;
        Ok(Self { settings: *settings, schedule, steps, eta, rule })
    }

    /// What it was made of.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// β and ᾱ.
    #[must_use]
    pub fn schedule(&self) -> &Schedule {
        &self.schedule
    }

    /// The number of steps that was asked for.
    #[must_use]
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// η.
    #[must_use]
    pub fn eta(&self) -> f64 {
        self.eta
    }

    /// The timestep that the model is told at every evaluation, in order. Whole, but for Euler's samplers with linspace spacing or
    /// Karras's levels.
    #[must_use]
    pub fn timesteps(&self) -> &[f64] {
        self.rule.timesteps()
    }

    /// How often the model is evaluated: one more than the steps for PNDM, nine more with Runge and Kutta's steps.
    #[must_use]
    pub fn evaluations(&self) -> usize {
        self.timesteps().len()
    }

    /// What standard-normal noise is multiplied by to be the first sample.
    #[must_use]
    pub fn init_noise_sigma(&self) -> f64 {
        self.rule.init_noise_sigma()
    }

    /// Whether step `i` takes fresh noise. Drawn exactly then, a generator gives what it gives to diffusers.
    #[must_use]
    pub fn takes_noise(&self, i: usize) -> bool {
        i < self.evaluations() && self.rule.takes_noise(i)
    }

    /// Where the last share `strength` (0 to 1) of the steps begins: the first index of an image-to-image run, whose sample is
    /// [`Sampler::add_noise`] there.
    #[must_use]
    pub fn first_index(&self, strength: f64) -> usize {
        let taken = (self.steps as f64 * strength.clamp(0.0, 1.0)) as usize;
        self.steps - taken
    }

    /// What the model is given for the sample `x` before step `i`.
    ///
    /// # Errors
    /// Where there is no step `i`.
    pub fn scale_model_input(&self, x: &Tensor, i: usize) -> Result<Tensor> {
        self.check_index(i)?;
        match self.rule.input_scale(i) {
            Some(scale) => div(&x.to_dtype(compute_dtype(x.dtype()))?, scale)?.to_dtype(x.dtype()),
            None => Ok(x.clone()),
        }
    }

    /// The clean sample `x0` with standard-normal `noise` at the level before step `i`.
    ///
    /// # Errors
    /// Where there is no step `i`, or shapes, dtypes or devices differ.
    pub fn add_noise(&self, x0: &Tensor, noise: &Tensor, i: usize) -> Result<Tensor> {
        self.check_index(i)?;
        same("noise", noise, x0)?;
        let dtype = compute_dtype(x0.dtype());
        let precision = self.schedule.precision().max(Precision::of(dtype));
        let (signal, deviation) = self.rule.levels(i, precision);
        let [clean, noise] = [x0.to_dtype(dtype)?, noise.to_dtype(dtype)?];
        add(&mul(&clean, signal)?, &mul(&noise, deviation)?)?.to_dtype(x0.dtype())
    }

    /// x₀ as the model's `output` at step `i` has it, given the sample `x`: a preview. Not clipped.
    ///
    /// # Errors
    /// Where there is no step `i`, or shapes, dtypes or devices differ.
    pub fn denoised(&self, output: &Tensor, i: usize, x: &Tensor) -> Result<Tensor> {
        self.check_index(i)?;
        same("output", output, x)?;
        let dtype = compute_dtype(x.dtype());
        self.rule.denoised(&output.to_dtype(dtype)?, i, &x.to_dtype(dtype)?)?.to_dtype(x.dtype())
    }

    /// The sample after step `i`, of the model's `output` and the sample `x` before it, with fresh standard-normal `noise` exactly
    /// where [`Sampler::takes_noise`]. Multistep samplers remember what they need in `state`.
    ///
    /// # Errors
    /// Where there is no step `i`, noise is absent or superfluous, shapes, dtypes or devices differ, or a multistep sampler's steps
    /// come out of order.
    pub fn step(
        &self,
        state: &mut State,
        output: &Tensor,
        i: usize,
        x: &Tensor,
        noise: Option<&Tensor>,
    ) -> Result<Tensor> {
        self.check(output, i, x, noise)?;
        if self.rule.is_multistep() {
            state.check(i, x)?;
        }
        let dtype = compute_dtype(x.dtype());
        let (output, sample) = (output.to_dtype(dtype)?, x.to_dtype(dtype)?);
        let noise = noise.map(|noise| noise.to_dtype(dtype)).transpose()?;
        let given = Given { output: &output, x: &sample, noise: noise.as_ref() };
        // A step that fails leaves no trace.
        let mut after = state.clone();
        let next = self.rule.step(&mut after, i, given)?.to_dtype(x.dtype())?;
        after.advance(i);
        *state = after;
        Ok(next)
    }

    /// A step on the guided prediction `uncond + guidance·(cond − uncond)` (Ho and Salimans 2022). Where the sampler is DDIM and predicts
    /// the noise, guidance and step are one pass over memory.
    ///
    /// # Errors
    /// As [`Sampler::step`].
    pub fn guided_step(
        &self,
        state: &mut State,
        [uncond, cond]: [&Tensor; 2],
        guidance: f64,
        i: usize,
        x: &Tensor,
        noise: Option<&Tensor>,
    ) -> Result<Tensor> {
        self.check(uncond, i, x, noise)?;
        same("cond", cond, x)?;
        let dtype = compute_dtype(x.dtype());
        let [sample, uncond, cond] = [x.to_dtype(dtype)?, uncond.to_dtype(dtype)?, cond.to_dtype(dtype)?];
        let noise = noise.map(|noise| noise.to_dtype(dtype)).transpose()?;
        let next = match self.rule.fused(i, guidance) {
            Some(fused) => guided_ddim_step(&sample, &uncond, &cond, &fused, noise.as_ref())?,
            None => self.step(state, &guided(&uncond, &cond, guidance)?, i, &sample, noise.as_ref())?,
        };
        next.to_dtype(x.dtype())
    }

    /// The sample before step `i` of DDIM, of the model's `output` in that step, the sample `next` after it and the noise that it
    /// took: the exact inverse of [`Sampler::step`], up to rounding.
    ///
    /// # Errors
    /// As [`Sampler::step`], and for samplers other than DDIM without clipping.
    pub fn undo(&self, output: &Tensor, i: usize, next: &Tensor, noise: Option<&Tensor>) -> Result<Tensor> {
        self.check(output, i, next, noise)?;
        let dtype = compute_dtype(next.dtype());
        let (output, sample) = (output.to_dtype(dtype)?, next.to_dtype(dtype)?);
        let noise = noise.map(|noise| noise.to_dtype(dtype)).transpose()?;
        match self.rule.undo(i, Given { output: &output, x: &sample, noise: noise.as_ref() }) {
            Some(before) => before?.to_dtype(next.dtype()),
            None => bail!("only a step of ddim without clipping can be undone; use ddim"),
        }
    }

    fn check_index(&self, i: usize) -> Result<()> {
        if i >= self.evaluations() {
            bail!("step {i}: this sampler has {} (0 to {})", self.evaluations(), self.evaluations() - 1);
        }
        Ok(())
    }

    fn check(&self, output: &Tensor, i: usize, x: &Tensor, noise: Option<&Tensor>) -> Result<()> {
        self.check_index(i)?;
        same("output", output, x)?;
        if let Some(noise) = noise {
            same("noise", noise, x)?;
        }
        match (self.rule.takes_noise(i), noise.is_some()) {
            (true, false) => {
                bail!("step {i} takes fresh noise and none was given (see Sampler::takes_noise)")
            }
            (false, true) => bail!("step {i} takes no noise and some was given (see Sampler::takes_noise)"),
            _ => Ok(()),
        }
    }
}

/// `uncond + guidance·(cond − uncond)` (Ho and Salimans 2022).
///
/// # Errors
/// Where shapes, dtypes or devices differ.
fn guided(uncond: &Tensor, cond: &Tensor, guidance: f64) -> Result<Tensor> {
    add(uncond, &sub(cond, uncond)?.affine(guidance, 0.0)?)
}

fn same(name: &str, tensor: &Tensor, x: &Tensor) -> Result<()> {
    if tensor.dims() != x.dims() || tensor.dtype() != x.dtype() {
        let (shape, dtype) = (tensor.dims(), tensor.dtype());
        bail!("{name} {shape:?} {dtype:?}: expected the sample's {:?} {:?}", x.dims(), x.dtype());
    }
    Ok(())
}

fn check_steps(settings: &Settings, steps: usize) -> std::result::Result<(), SamplingError> {
    let train = settings.schedule.train_steps;
    match steps {
        0 => Err(SamplingError::NoSteps),
        _ if steps > train => Err(SamplingError::TooManySteps { steps, most: train, train, why: "" }),
        _ => Ok(()),
    }
}

fn check_eta(method: Method, eta: f64) -> std::result::Result<(), SamplingError> {
    let (sampler, expected) = match method {
        Method::Ddim { .. } => ("ddim", "a number of at least 0; 0 is deterministic, 1 as noisy as ddpm"),
        _ => ("this sampler", "0, since only ddim has an eta"),
    };
    let possible = eta == 0.0 || (sampler == "ddim" && eta > 0.0 && eta.is_finite());
    if possible { Ok(()) } else { Err(SamplingError::Eta { eta, sampler, expected }) }
}

fn rule(
    settings: &Settings,
    schedule: &Schedule,
    steps: usize,
    eta: f64,
) -> std::result::Result<Arc<dyn Rule>, SamplingError> {
    Ok(match settings.method {
        Method::Ddim { clip, last_alpha_is_one } => {
            Arc::new(Ddim::new(settings, schedule, steps, eta, clip, last_alpha_is_one)?)
        }
        Method::DdimInverse { clip, first_alpha_is_one } => {
            refuse_linspace(settings.spacing)?;
            Arc::new(Inverse::new(settings, schedule, steps, clip, first_alpha_is_one)?)
        }
        Method::Ddpm { clip, variance } => Arc::new(Ddpm::new(settings, schedule, steps, clip, variance)?),
        Method::Pndm { skip_prk_steps, last_alpha_is_one } => {
            Arc::new(Pndm::new(settings, schedule, steps, skip_prk_steps, last_alpha_is_one)?)
        }
        Method::Euler { karras, last } => {
            Arc::new(Euler::new(settings, schedule.clone(), steps, karras, last)?)
        }
        Method::EulerAncestral => Arc::new(Euler::ancestral(settings, schedule.clone(), steps)?),
        Method::Dpm(options) => Arc::new(DpmSolver::new(settings, schedule.clone(), steps, options)?),
    })
}

fn refuse_linspace(spacing: Spacing) -> std::result::Result<(), SamplingError> {
    if spacing != Spacing::Linspace {
        return Ok(());
    }
    Err(SamplingError::Combination {
        what: "ddim inversion".into(),
        with: "`timestep_spacing` \"linspace\"".into(),
        instead: "use leading or trailing".into(),
    })
}
