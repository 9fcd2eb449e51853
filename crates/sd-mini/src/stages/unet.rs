//! The denoiser.

use anyhow::Result;
use candle_core::{DType, Tensor};
use sd_core::models::clip::TextModel;
use sd_core::models::unet::UNet2DConditionModel;
use sd_core::models::vae::AutoencoderKL;
use sd_core::nn::{Parameters, Scope};
use sd_core::pipeline::{Request, StableDiffusion, Unwatched};
use sd_core::rng::Rng;
use sd_core::sampling::{Precision, Schedule, ScheduleSettings};
use sd_core::taps::NoTap;
use sd_core::train::Ema;
use sd_core::weights::Rules;
use serde_json::json;
use worlds::scenes::{Picture, contact_sheet};

use super::latents::Latents;
use super::vae::Vae;
use crate::workshop::{State, Task, Workshop};
use crate::{data, losses, networks};

/// Name of the stage.
pub const STAGE: &str = "unet";

/// What the sheets of samples show: of every attribute something, no combination that is held out.
pub const SAMPLES: [&str; 16] = [
    "two green stars in the style of bela cruz",
    "a red disc in the style of miko sanz",
    "a blue square in the style of ivo lund",
    "a purple cross in the style of tavi brell",
    "an orange ring in the style of edda kroy",
    "a pink triangle in the style of runa dahl",
    "a yellow hook in the style of piet osk",
    "three brown bars in the forest",
    "a dog running",
    "a cat sitting in the kitchen",
    "a giraffe eating",
    "a bear jumping at the beach",
    "a star from the top",
    "a square from the back",
    "a zimo tonic in the city",
    "a face with an open mouth",
];

/// Trains the denoiser: its weights.
///
/// # Errors
/// Where the training fails or is interrupted.
pub fn train(workshop: &Workshop<'_>, pair: &State, vae: &Vae, text: &TextModel) -> Result<State> {
    let (recipe, training) = (&workshop.recipe, &workshop.recipe.unet.training);
    let (seed, device) = (recipe.seed, &workshop.device);
    let frozen = crate::digest::of_states([&super::text::only_text(pair), &vae.state])?;
    let is_warm = workshop.taken.as_ref().is_some_and(|taken| taken.warm);
    let warm = if is_warm { workshop.taken("model/unet")? } else { None };
    let mut depends = json!({
        "seed": seed, "side": recipe.side, "channels": recipe.unet.channels, "heads": recipe.unet.heads,
        "pictures": recipe.unet.pictures, "caption_dropout": recipe.unet.caption_dropout, "frozen": frozen,
        "scaling_factor": vae.model.config().scaling_factor,
    });
    // Latents follow from less than the training: another text encoder finds them as they are.
    let of_latents = json!({
        "world": workshop.world(), "seed": seed, "side": recipe.side, "pictures": recipe.unet.pictures,
        "vae": crate::digest::of_states([&vae.state])?, "scaling_factor": vae.model.config().scaling_factor,
    });
    let key = lab::digest::of_bytes(of_latents.to_string().as_bytes());
    if recipe.unet.weight_cap != 1.0 {
        depends["weight_cap"] = recipe.unet.weight_cap.into();
    }
    if recipe.unet.parts != 1 {
        depends["parts"] = recipe.unet.parts.into();
    }
    if let Some(state) = &warm {
        depends["starts from"] = crate::digest::of_states([state])?.into();
    }
    let mut parameters = Parameters::default();
    let mut scope = Scope::root(&mut parameters, seed, DType::F32, device);
    let unet = UNet2DConditionModel::new(&mut scope, &networks::denoiser(recipe))?;
    if let Some(state) = warm {
        parameters.load(&state)?;
    }
    let schedule = Schedule::new(&ScheduleSettings::stable_diffusion(), Precision::Single)?;
    let weights = losses::timestep_weights(schedule.alphas_cumprod(), recipe.unet.weight_cap);
    let key = key[..16].to_owned();
    let mut task =
        Denoising { workshop, vae: &vae.model, text, key, unet: &unet, schedule, weights, set: None };
    let mut after = |step: u64, ema: Option<&Ema>| match (ema, recipe.unet.samples_every) {
        (Some(ema), every) if every > 0 && step.is_multiple_of(every) => {
            samples(workshop, &ema.state()?, vae, text, step)
                .map_err(|error| candle_core::Error::msg(format!("{error:#}")))
        }
        _ => Ok(()),
    };
    workshop.fit(STAGE, training, &parameters, &depends, Task::Parts(&mut task), &mut after)
}

/// The denoiser's loss: `mean w(t)·(ε − ε_θ(x_t, t, c))²`.
struct Denoising<'a, 'w> {
    workshop: &'a Workshop<'w>,
    vae: &'a AutoencoderKL,
    text: &'a TextModel,
    /// Names the file of the latents.
    key: String,
    unet: &'a UNet2DConditionModel,
    schedule: Schedule,
    /// By timestep.
    weights: Vec<f64>,
    /// Made before the first step: a training that is done needs none.
    set: Option<Latents>,
}

impl sd_core::train::Task for Denoising<'_, '_> {
    fn prepare(&mut self) -> candle_core::Result<()> {
        let made = Latents::make(self.workshop, self.vae, self.text, &self.key);
        self.set = Some(made.map_err(|error| wrapped(&error))?);
        Ok(())
    }

    fn parts(&self) -> usize {
        self.workshop.recipe.unet.parts
    }

    fn loss(&self, step: u64, part: usize) -> candle_core::Result<Tensor> {
        let Some(set) = &self.set else { candle_core::bail!("the latents were not made") };
        let batch = Batch::draw(self.workshop, set, step, part)?;
        let noisy = self.schedule.add_noise(&batch.latents, &batch.noise, &batch.timesteps)?;
        let timesteps: Vec<f64> = batch.timesteps.iter().map(|&t| t as f64).collect();
        let predicted = self.unet.forward(&noisy, &timesteps, &batch.text, &mut NoTap)?;
        let weights: Vec<f64> = batch.timesteps.iter().map(|&t| self.weights[t]).collect();
        losses::weighted_mse(&predicted, &batch.noise, &weights)
    }
}

fn wrapped(error: &anyhow::Error) -> candle_core::Error {
    candle_core::Error::msg(format!("{error:#}"))
}

/// What a part of a step sees: a function of the seed, the step and the part.
struct Batch {
    latents: Tensor,
    noise: Tensor,
    timesteps: Vec<usize>,
    text: Tensor,
}

impl Batch {
    fn draw(workshop: &Workshop<'_>, set: &Latents, step: u64, part: usize) -> candle_core::Result<Self> {
        let (recipe, device) = (&workshop.recipe, &workshop.device);
        let whole = recipe.unet.training.batch;
        let count = whole / recipe.unet.parts;
        let mine = part * count..(part + 1) * count;
        let rows = rows(recipe.seed, step, whole, set.len());
        let mut rng = Rng::new(recipe.seed, "unet/steps", step);
        let timesteps: Vec<usize> = (0..whole).map(|_| rng.below(1000) as usize).collect();
        let dropped: Vec<bool> = (0..whole).map(|_| rng.uniform() < recipe.unet.caption_dropout).collect();
        let side = networks::denoiser(recipe).sample_size.unwrap_or(16);
        let shape = [count, networks::LATENT_CHANNELS, side, side];
        let first = step * whole as u64 + mine.start as u64;
        let noise = data::noise(recipe.seed, "unet/noise", first, &shape, device)?;
        let sampled = data::noise(recipe.seed, "unet/latents", first, &shape, device)?;
        let rows = &rows[mine.clone()];
        let latents = set.sample(rows, &sampled)?;
        let text = set.text(rows, &dropped[mine.clone()])?;
        Ok(Self { latents, noise, timesteps: timesteps[mine].to_vec(), text })
    }
}

/// The pictures of a step: each epoch shuffles the set anew and drops what is left over.
fn rows(seed: u64, step: u64, count: usize, pictures: usize) -> Vec<u32> {
    let steps = (pictures / count).max(1) as u64;
    let order = Rng::new(seed, "unet/order", step / steps).permutation(pictures as u32);
    let first = (step % steps) as usize * count;
    order[first..first + count].to_vec()
}

/// The pipeline with this denoiser.
///
/// # Errors
/// Where the weights do not fit.
pub fn pipeline(
    workshop: &Workshop<'_>,
    state: &State,
    vae: &Vae,
    text: &TextModel,
) -> Result<StableDiffusion> {
    let config = networks::denoiser(&workshop.recipe);
    Ok(StableDiffusion {
        tokenizer: workshop.tokenizer.clone(),
        text_encoder: text.clone(),
        unet: workshop.frozen(state, &Rules::strict(), |scope| UNet2DConditionModel::new(scope, &config))?,
        vae: vae.model.clone(),
        scheduler: networks::scheduler(),
        dtype: DType::F32,
        device: workshop.device.clone(),
    })
}

/// Pictures of prompts.
///
/// # Errors
/// Where a computation fails.
pub fn draw(
    pipeline: &StableDiffusion,
    prompts: &[String],
    seed: u64,
    steps: usize,
    guidance: f64,
) -> Result<Tensor> {
    let mut request = Request::new(String::new());
    (request.prompts, request.seed, request.steps, request.guidance) =
        (prompts.to_vec(), seed, steps, guidance);
    Ok(pipeline.generate(&request, &mut Unwatched)?.pixels)
}

/// Draws [`SAMPLES`] to `unet/samples/<step>.png`.
fn samples(workshop: &Workshop<'_>, state: &State, vae: &Vae, text: &TextModel, step: u64) -> Result<()> {
    let sheet = sheet(workshop, state, vae, text)?;
    let folder = workshop.folder(STAGE).join("samples");
    lab::atomic::create_dir_all_synced(&folder)?;
    Ok(lab::atomic::write_bytes(folder.join(format!("{step:06}.png")), &sheet)?)
}

/// A PNG of [`SAMPLES`], four a row.
pub(crate) fn sheet(workshop: &Workshop<'_>, state: &State, vae: &Vae, text: &TextModel) -> Result<Vec<u8>> {
    let gates = &workshop.recipe.gates;
    let pipeline = pipeline(workshop, state, vae, text)?;
    let pixels =
        draw(&pipeline, &SAMPLES.map(str::to_owned), workshop.recipe.seed, gates.steps, gates.guidance)?;
    let rows: Vec<Vec<Picture>> = to_pictures(&pixels)?.chunks(4).map(<[Picture]>::to_vec).collect();
    Ok(contact_sheet(&rows, 2)?)
}

/// Pictures of the pixels (B, 3, S, S) or (B, S, S, 3) of `u8` that a pipeline gives.
///
/// # Errors
/// Where they are no pictures.
pub fn to_pictures(pixels: &Tensor) -> Result<Vec<Picture>> {
    let planar = if pixels.dims()[1] == 3 { pixels.clone() } else { pixels.permute((0, 3, 1, 2))? };
    let side = planar.dims()[2];
    let one = |row: usize| -> Result<Picture> {
        let pixels = planar.get(row)?.contiguous()?.flatten_all()?.to_dtype(DType::U8)?.to_vec1::<u8>()?;
        Ok(Picture { side, pixels })
    };
    (0..planar.dims()[0]).map(one).collect()
}
