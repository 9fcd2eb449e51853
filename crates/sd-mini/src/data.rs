//! Batches: pictures, token ids and noise, each a function of seed, purpose and index.

use candle_core::{Device, Result, Tensor};
use rayon::prelude::*;
use sd_core::models::clip::Tokenizer;
use sd_core::models::clip::tokenizer::Prompt;
use sd_core::rng::Rng;
use worlds::scenes::{Example, Scene, World};

/// Hard negatives side by side: every value of most things that captions say.
const GROUP: usize = 8;

/// The `count` examples of step `step`, when each step takes as many.
#[must_use]
pub fn examples(world: &World, step: u64, count: usize) -> Vec<Example> {
    let first = step * count as u64;
    (first..first + count as u64).into_par_iter().map(|index| world.example(index)).collect()
}

/// As many, of which the second half are hard negatives of each other: groups of up to eight that differ in one thing they say
/// ([`World::group`]).
#[must_use]
pub fn with_hard_negatives(world: &World, step: u64, count: usize) -> Vec<Example> {
    let mut all = examples(world, step, count.div_ceil(2));
    for index in (step * count as u64).. {
        if all.len() >= count {
            break;
        }
        all.extend(world.group(index, GROUP.min(count - all.len())));
    }
    all
}

/// Pictures (B, 3, side, side) with values in −1 ..= 1.
///
/// # Errors
/// Where the device refuses.
pub fn pictures<'a>(
    scenes: impl IntoParallelIterator<Item = &'a Scene, Iter: IndexedParallelIterator>,
    side: usize,
    device: &Device,
) -> Result<Tensor> {
    let drawn: Vec<Vec<f32>> = scenes.into_par_iter().map(|scene| scene.render(side).to_unit()).collect();
    let count = drawn.len();
    Tensor::from_vec(drawn.concat(), (count, 3, side, side), device)
}

/// Pictures of examples.
///
/// # Errors
/// As [`pictures`].
pub fn pictures_of(examples: &[Example], side: usize, device: &Device) -> Result<Tensor> {
    let scenes: Vec<&Scene> = examples.iter().map(|example| &example.scene).collect();
    pictures(scenes, side, device)
}

/// Token ids (B, T) of captions.
///
/// # Errors
/// Where the tokenizer fails.
pub fn ids<'a>(
    tokenizer: &Tokenizer,
    captions: impl IntoIterator<Item = &'a str>,
    device: &Device,
) -> anyhow::Result<Tensor> {
    let prompts: Vec<Prompt> = captions
        .into_iter()
        .map(|caption| tokenizer.encode(caption))
        .collect::<std::result::Result<_, _>>()?;
    Ok(Prompt::stack(&prompts, device)?)
}

/// Standard-normal noise: a stream for each row, numbered `first`, `first + 1`, …
///
/// # Errors
/// Where the device refuses.
pub fn noise(seed: u64, purpose: &str, first: u64, shape: &[usize], device: &Device) -> Result<Tensor> {
    let (rows, row) = (shape[0] as u64, shape[1..].iter().product::<usize>());
    let drawn: Vec<Vec<f32>> = (first..first + rows)
        .into_par_iter()
        .map(|index| {
            let mut rng = Rng::new(seed, purpose, index);
            (0..row).map(|_| rng.normal() as f32).collect()
        })
        .collect();
    Tensor::from_vec(drawn.concat(), shape, device)
}
