//! The obvious loop: for each restored run a batch of three, clean, corrupted and restored. It is what [`crate::lockstep`] is held
//! against, and timed against.

use anyhow::{Result, bail};
use candle_core::Tensor;
use sd_core::pipeline::{Noise, Plan, Request, StableDiffusion, Watch};
use sd_core::taps::{CopyRows, NoTap, Site, Tap};

use crate::lockstep::Settings;

/// Latents (3, C, h, w) of a clean, a corrupted and a restored run: texts (T, D) of the first two, and the sites at which the third takes
/// the first one's values in the half with the prompt.
///
/// # Errors
/// Where a computation fails.
pub fn one(
    model: &StableDiffusion,
    settings: &Settings,
    [clean, corrupted]: [&Tensor; 2],
    sites: &[Site],
) -> Result<Tensor> {
    if settings.half != crate::lockstep::Half::Cond || settings.restored_steps.is_some() {
        bail!("the loop restores the half with the prompt in all steps");
    }
    let mut request = Request::new(String::new());
    (request.steps, request.guidance, request.sampler, request.seed) =
        (settings.steps, settings.guidance, settings.sampler, settings.seed);
    (request.height, request.width) = (settings.size.map(|size| size[0]), settings.size.map(|size| size[1]));
    let sampler = model.sampler(&request)?;
    if (0..sampler.evaluations()).any(|step| sampler.takes_noise(step)) {
        bail!("the loop draws noise of its own for each row of its batch; compare samplers that take none");
    }
    let dtype = model.latent_dtype();
    let mut noise = Noise::new(settings.seed, dtype, &model.device);
    let start = model.latents(1, model.size(&request)?, &sampler, &mut noise)?.repeat((3, 1, 1, 1))?;
    let mut texts = vec![clean, corrupted, corrupted];
    let uncond = model.encode(&[String::new()], &mut NoTap)?.get(0)?;
    if request.is_guided() {
        texts.splice(0..0, [&uncond; 3]);
    }
    let rows = texts.len();
    let context = Tensor::stack(&texts, 0)?;
    let mut watch = Restore::default();
    for site in sites {
        watch.tap.add(site, rows - 3, rows - 1);
    }
    let plan = Plan { request: &request, sampler: &sampler, context: &context, extra: None };
    Ok(model.denoise(&plan, start, &mut noise, &mut watch)?)
}

#[derive(Default)]
struct Restore {
    tap: CopyRows,
}

impl Watch for Restore {
    fn tap(&mut self, _: usize) -> Option<&mut dyn Tap> {
        Some(&mut self.tap)
    }
}
