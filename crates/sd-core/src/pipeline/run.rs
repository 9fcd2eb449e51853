//! From a request to pictures, in diffusers' order.

use std::ops::ControlFlow;

use candle_core::{DType, Result as TensorResult, Tensor};

use super::error::doing;
use super::inpaint::Extra;
use super::request::size;
use super::{Noise, Pictures, PipelineError, Request, StableDiffusion, Step, Watch, pixels};
use crate::models::clip::tokenizer::Prompt;
use crate::sampling::{Precision, Sampler, State};
use crate::taps::{NoTap, Tap};

impl StableDiffusion {
    /// Makes the pictures of `request`, one a prompt, all at once.
    ///
    /// # Errors
    /// Where the request cannot be followed (before anything is computed), a computation fails, a step gives infinite numbers or
    /// none, or the watcher stops the work.
    pub fn generate(&self, request: &Request, watch: &mut dyn Watch) -> Result<Pictures, PipelineError> {
        request.check()?;
        let [height, width] = self.size(request)?;
        let sampler = self.sampler(request)?;
        self.check_inpaint(request, [height, width])?;
        let context = self.context(request)?;
        let mut noise = Noise::new(request.seed, self.latent_dtype(), &self.device);
        let latents = self.latents(request.prompts.len(), [height, width], &sampler, &mut noise)?;
        let extra = self.extra(request, &mut noise)?;
        let plan = Plan { request, sampler: &sampler, context: &context, extra: extra.as_ref() };
        let latents = self.denoise(&plan, latents, &mut noise, watch)?;
        let pictures = self.decode(&latents)?;
        if !doing("looking at the pictures", is_finite(&pictures))? {
            return Err(PipelineError::NotFinitePicture { advice: self.advice() });
        }
        Ok(Pictures { latents, pixels: doing("rounding the pictures", pixels(&pictures))? })
    }

    /// (height, width) that `request` means.
    ///
    /// # Errors
    /// Where a side is no multiple of 8.
    pub fn size(&self, request: &Request) -> Result<[usize; 2], PipelineError> {
        let factor = self.vae.config().scale();
        let native = self.unet.config().sample_size.unwrap_or(64) * factor;
        size(request, [native, native], factor)
    }

    /// The sampler that `request` means.
    ///
    /// # Errors
    /// Where there is no such sampler for this model's configuration, or not with so many steps.
    pub fn sampler(&self, request: &Request) -> Result<Sampler, PipelineError> {
        let converted = match request.sampler {
            Some(kind) if kind != self.scheduler.kind() => {
                self.scheduler.convert(kind).and_then(|other| other.for_latents())
            }
            _ => Ok(self.scheduler.clone()),
        };
        let config = converted.map_err(PipelineError::Scheduler)?;
        let precision = Precision::of(self.latent_dtype());
        Ok(Sampler::with_eta(config.settings(), request.steps, precision, request.eta)?)
    }

    /// What latents and samplers compute in.
    #[must_use]
    pub fn latent_dtype(&self) -> DType {
        if self.dtype == DType::F64 { DType::F64 } else { DType::F32 }
    }

    /// The text encoder's vectors (B, T, D) of some prompts, one a row. A prompt that stands there several times is encoded once.
    ///
    /// # Errors
    /// Where a computation fails.
    pub fn encode(&self, prompts: &[String], tap: &mut dyn Tap) -> Result<Tensor, PipelineError> {
        let mut distinct: Vec<&String> = Vec::new();
        let mut rows = Vec::new();
        for prompt in prompts {
            let found = distinct.iter().position(|other| *other == prompt);
            rows.push(found.unwrap_or(distinct.len()) as u32);
            if found.is_none() {
                distinct.push(prompt);
            }
        }
        let encoded: Vec<Prompt> =
            distinct.iter().map(|prompt| self.tokenizer.encode(prompt)).collect::<Result<_, _>>()?;
        doing("encoding the prompts", self.hidden(&encoded, &rows, tap))
    }

    fn hidden(&self, prompts: &[Prompt], rows: &[u32], tap: &mut dyn Tap) -> TensorResult<Tensor> {
        let hidden =
            self.text_encoder.forward(&Prompt::stack(prompts, &self.device)?, tap)?.last_hidden_state;
        hidden.index_select(&Tensor::new(rows, &self.device)?, 0)
    }

    /// What the UNet is told: with guidance the negative prompt's rows, then the prompts'.
    ///
    /// # Errors
    /// Where a computation fails.
    pub fn context(&self, request: &Request) -> Result<Tensor, PipelineError> {
        let negative =
            vec![request.negative.clone(); if request.is_guided() { request.prompts.len() } else { 0 }];
        self.encode(&[negative, request.prompts.clone()].concat(), &mut NoTap)
    }

    /// The latents that the sampler starts from: one draw for the whole batch, times the sampler's first deviation.
    ///
    /// # Errors
    /// Where the device refuses.
    pub fn latents(
        &self,
        batch: usize,
        [height, width]: [usize; 2],
        sampler: &Sampler,
        noise: &mut Noise,
    ) -> Result<Tensor, PipelineError> {
        let factor = self.vae.config().scale();
        let shape = [batch, self.vae.config().latent_channels, height / factor, width / factor];
        let draw = |noise: &mut Noise| noise.draw(&shape)? * sampler.init_noise_sigma();
        doing("drawing the noise", draw(noise))
    }

    /// The latents after all steps.
    ///
    /// # Errors
    /// Where a computation fails, a step gives infinite numbers or none, or the watcher stops the work.
    pub fn denoise(
        &self,
        plan: &Plan<'_>,
        mut latents: Tensor,
        noise: &mut Noise,
        watch: &mut dyn Watch,
    ) -> Result<Tensor, PipelineError> {
        let mut state = State::new();
        let count = plan.sampler.timesteps().len();
        for (index, &timestep) in plan.sampler.timesteps().iter().enumerate() {
            let mut nothing = NoTap;
            let tap = watch.tap(index).unwrap_or(&mut nothing);
            let stepped = self.step(plan, &mut state, index, &latents, noise, tap);
            latents = doing("denoising", stepped)?;
            if !doing("denoising", is_finite(&latents))? {
                return Err(PipelineError::NotFinite { step: index, count, timestep, advice: self.advice() });
            }
            let step = Step { index, count, timestep, latents: &latents };
            if let ControlFlow::Break(()) = watch.step(&step) {
                return Err(PipelineError::Stopped { step: index, count });
            }
        }
        Ok(latents)
    }

    /// The latents after step `index`.
    fn step(
        &self,
        plan: &Plan<'_>,
        state: &mut State,
        index: usize,
        latents: &Tensor,
        noise: &mut Noise,
        tap: &mut dyn Tap,
    ) -> TensorResult<Tensor> {
        let output = self.predict(plan, index, latents, tap)?;
        let fresh = plan.sampler.takes_noise(index).then(|| noise.draw(latents.dims())).transpose()?;
        if !plan.request.is_guided() {
            return plan.sampler.step(state, &output, index, latents, fresh.as_ref());
        }
        let batch = latents.dims()[0];
        let halves = [&output.narrow(0, 0, batch)?, &output.narrow(0, batch, batch)?];
        plan.sampler.guided_step(state, halves, plan.request.guidance, index, latents, fresh.as_ref())
    }

    /// The UNet's answer at step `index`: with guidance first the rows without the prompt, then those with it.
    fn predict(
        &self,
        plan: &Plan<'_>,
        index: usize,
        latents: &Tensor,
        tap: &mut dyn Tap,
    ) -> TensorResult<Tensor> {
        let input = plan.sampler.scale_model_input(latents, index)?;
        let input = match plan.request.is_guided() {
            true => Tensor::cat(&[&input, &input], 0)?,
            false => input,
        };
        let input = match plan.extra {
            Some(extra) => extra.beside(&input)?,
            None => input,
        };
        let timestep = plan.sampler.timesteps()[index];
        let output = self.unet.forward(&input.to_dtype(self.dtype)?, &[timestep], plan.context, tap)?;
        output.to_dtype(latents.dtype())
    }

    /// What to do where numbers are infinite or none.
    fn advice(&self) -> &'static str {
        match self.dtype {
            DType::F16 => "half precision overflows in some models: compute in f32 or bf16",
            _ => "do the weights belong to this model?",
        }
    }

    /// Pictures (B, 3, H, W), about −1 ..= 1, of latents.
    ///
    /// # Errors
    /// Where a computation fails.
    pub fn decode(&self, latents: &Tensor) -> Result<Tensor, PipelineError> {
        let decode = || {
            let latents = (latents / self.vae.config().scaling_factor)?.to_dtype(self.dtype)?;
            self.vae.decode(&latents, &mut NoTap)
        };
        doing("decoding the pictures", decode())
    }
}

/// What stays the same through all steps.
pub struct Plan<'a> {
    /// What was asked.
    pub request: &'a Request,
    /// Its sampler.
    pub sampler: &'a Sampler,
    /// What the UNet is told: (B, T, D), or with guidance (2·B, T, D).
    pub context: &'a Tensor,
    /// For inpainting: what stands beside the latents.
    pub extra: Option<&'a Extra>,
}

/// A sum is finite only where every number is.
fn is_finite(numbers: &Tensor) -> TensorResult<bool> {
    let wide = if numbers.dtype() == DType::F64 { DType::F64 } else { DType::F32 };
    Ok(numbers.detach().to_dtype(wide)?.sum_all()?.to_dtype(DType::F64)?.to_scalar::<f64>()?.is_finite())
}
