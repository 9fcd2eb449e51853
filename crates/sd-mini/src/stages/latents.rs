//! What the denoiser is trained on: latents and text vectors of a fixed set of pictures, computed once.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use sd_core::models::clip::TextModel;
use sd_core::models::vae::AutoencoderKL;
use sd_core::taps::NoTap;
use sd_core::weights::{Weights, write_tensors};
use worlds::scenes::{Split, World};

use super::vae::encode;
use crate::data;
use crate::workshop::{State, Workshop};

const BATCH: usize = 100;

/// The set. Latents are scaled.
pub struct Latents {
    /// Means (N, 4, h, w).
    mean: Tensor,
    /// Standard deviations (N, 4, h, w).
    std: Tensor,
    /// Text vectors (N, T, D).
    text: Tensor,
    /// The empty caption's text vectors (1, T, D).
    empty: Tensor,
}

impl Latents {
    /// Draws and encodes the pictures, or reads what an earlier start left of them.
    ///
    /// # Errors
    /// Where a computation fails, or the stop is asked for.
    pub fn make(workshop: &Workshop<'_>, vae: &AutoencoderKL, text: &TextModel, key: &str) -> Result<Self> {
        let recipe = &workshop.recipe;
        let world = World::new(recipe.seed, Split::Train);
        let path = workshop.folder("unet").join(format!("latents-{key}.safetensors"));
        let (mean, std) = match path.exists() {
            true => read(&path, recipe.unet.pictures)?,
            false => draw(workshop, &world, vae, &path)?,
        };
        let captions: Vec<String> = {
            use rayon::prelude::*;
            (0..recipe.unet.pictures as u64)
                .into_par_iter()
                .map(|index| world.example(index).caption)
                .collect()
        };
        let text_of = |captions: &[String]| -> Result<Tensor> {
            workshop.check_stop()?;
            let ids = data::ids(&workshop.tokenizer, captions.iter().map(String::as_str), &workshop.device)?;
            Ok(text.forward(&ids, &mut NoTap)?.last_hidden_state.detach())
        };
        let all: Vec<Tensor> = captions.chunks(BATCH).map(text_of).collect::<Result<_>>()?;
        Ok(Self { mean, std, text: Tensor::cat(&all, 0)?, empty: text_of(&[String::new()])? })
    }

    /// How many pictures there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.mean.dims()[0]
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Latents `mean + std·noise` (B, 4, h, w) of some pictures.
    ///
    /// # Errors
    /// Where there is no such picture.
    pub fn sample(&self, rows: &[u32], noise: &Tensor) -> candle_core::Result<Tensor> {
        let device = noise.device();
        let rows = Tensor::new(rows, self.mean.device())?;
        let take = |of: &Tensor| of.index_select(&rows, 0)?.to_dtype(DType::F32)?.to_device(device);
        take(&self.mean)? + (take(&self.std)? * noise)?
    }

    /// Text vectors (B, T, D) of some pictures' captions; of the empty caption where `dropped` says so.
    ///
    /// # Errors
    /// Where there is no such picture.
    pub fn text(&self, rows: &[u32], dropped: &[bool]) -> candle_core::Result<Tensor> {
        let pick = |(&row, &dropped): (&u32, &bool)| match dropped {
            true => Ok(self.empty.clone()),
            false => self.text.narrow(0, row as usize, 1),
        };
        let rows: Vec<Tensor> = rows.iter().zip(dropped).map(pick).collect::<candle_core::Result<_>>()?;
        Tensor::cat(&rows, 0)
    }
}

fn read(path: &Path, pictures: usize) -> Result<(Tensor, Tensor)> {
    let weights = Weights::open(path)?;
    let take = |name| weights.tensor(name, DType::F16, &Device::Cpu);
    let (mean, std) = (take("mean")?, take("std")?);
    ensure!(
        mean.dims()[0] == pictures,
        "{}: expected {pictures} pictures, found {}\n  help: delete this file, and it is made anew",
        path.display(),
        mean.dims()[0]
    );
    Ok((mean, std))
}

fn draw(
    workshop: &Workshop<'_>,
    world: &World,
    vae: &AutoencoderKL,
    path: &Path,
) -> Result<(Tensor, Tensor)> {
    let (recipe, factor) = (&workshop.recipe, vae.config().scaling_factor);
    let (mut means, mut stds) = (Vec::new(), Vec::new());
    let pictures = recipe.unet.pictures;
    for step in 0..pictures.div_ceil(BATCH) as u64 {
        workshop.check_stop()?;
        let examples = data::examples(world, step, BATCH);
        let [mean, logvar] = encode(vae, &data::pictures_of(&examples, recipe.side, &workshop.device)?)?;
        let keep = |x: Tensor| (x.detach() * factor)?.to_dtype(DType::F16)?.to_device(&Device::Cpu);
        means.push(keep(mean)?);
        stds.push(keep((logvar * 0.5)?.exp()?)?);
        if step % 50 == 49 {
            workshop.say(&format!("unet: {} of {pictures} pictures encoded", (step + 1) * BATCH as u64));
        }
    }
    let join = |parts: &[Tensor]| Tensor::cat(parts, 0)?.narrow(0, 0, pictures)?.contiguous();
    let (mean, std) = (join(&means)?, join(&stds)?);
    lab::atomic::create_dir_all_synced(path.parent().context("a file without a folder")?)?;
    let both = State::from([("mean".to_owned(), mean.clone()), ("std".to_owned(), std.clone())]);
    write_tensors(path, &both)?;
    Ok((mean, std))
}
