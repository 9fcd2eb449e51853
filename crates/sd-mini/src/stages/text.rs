//! The text encoder: trained contrastively with an image tower, then frozen, as Stable Diffusion's was.

use anyhow::Result;
use candle_core::{DType, Device, Result as TensorResult, Tensor};
use sd_core::models::clip::TextModel;
use sd_core::nn::{Parameters, Scope};
use sd_core::weights::Rules;
use serde_json::json;
use worlds::scenes::{Example, Split, World};

use crate::clip::{LARGEST_SCALE, Pair};
use crate::recipe::Training;
use crate::workshop::{State, Task, Workshop};
use crate::{data, losses, networks};

/// Name of the stage whose text encoder is the pipeline's.
pub const ENCODER: &str = "text";

/// Trains a pair from `seed`; its weights. Of one that is taken from a pack, the pipeline's is the text encoder alone.
///
/// # Errors
/// Where the training fails or is interrupted.
pub fn train(workshop: &Workshop<'_>, stage: &str, seed: u64, training: &Training) -> Result<State> {
    let recipe = &workshop.recipe;
    let file = if stage == ENCODER { "model/text_encoder" } else { "judges/clip.safetensors" };
    if let Some(state) = workshop.taken(file)? {
        return Ok(state);
    }
    let config = networks::text_encoder(&recipe.text, &workshop.vocabulary);
    let mut parameters = Parameters::default();
    let mut scope = Scope::root(&mut parameters, seed, DType::F32, &workshop.device);
    let pair = Pair::new(&mut scope, &config, &recipe.judges.channels)?;
    scale_embeddings(&parameters, recipe.text.embedding_std)?;
    let world = World::new(seed, Split::Train);
    // The judge is trained as CLIP was: it is another kind of reader.
    let (hard, largest) = match stage {
        ENCODER => (recipe.text.hard_negatives, recipe.text.largest_scale),
        _ => (false, LARGEST_SCALE),
    };
    let mut task = |step| {
        let batch = if hard { data::with_hard_negatives } else { data::examples };
        let examples = batch(&world, step, training.batch);
        let pictures = data::pictures_of(&examples, recipe.side, &workshop.device)?;
        let captions = examples.iter().map(|example| example.caption.as_str());
        let ids =
            data::ids(&workshop.tokenizer, captions, &workshop.device).map_err(candle_core::Error::wrap)?;
        losses::contrastive(&pair.logits(&pictures, &ids, largest)?, &same(&examples, &workshop.device)?)
    };
    let mut depends = json!({
        "seed": seed, "side": recipe.side, "width": recipe.text.width, "layers": recipe.text.layers,
        "heads": recipe.text.heads, "positions": recipe.text.positions, "tower": recipe.judges.channels,
    });
    if recipe.text.embedding_std != 1.0 {
        depends["embedding_std"] = recipe.text.embedding_std.into();
    }
    if hard {
        depends["hard_negatives"] = true.into();
    }
    if largest != LARGEST_SCALE {
        depends["largest_scale"] = largest.into();
    }
    workshop.fit(stage, training, &parameters, &depends, Task::Whole(&mut task), &mut |_, _| Ok(()))
}

/// Embeddings of tokens and positions, which start from N(0, 1), to N(0, std²). With 1 a token's embedding outweighs all that attention adds to
/// it, and a concept stays where its words are.
fn scale_embeddings(parameters: &Parameters, std: f64) -> Result<()> {
    for (_, var) in parameters.named().filter(|(name, _)| name.starts_with("text_model.embeddings.")) {
        var.set(&(var.as_tensor() * std)?)?;
    }
    Ok(())
}

/// (B, B): 1 where two captions are the same.
fn same(examples: &[Example], device: &Device) -> TensorResult<Tensor> {
    let equal = |a: &Example, b: &Example| f32::from(u8::from(a.caption == b.caption));
    let rows: Vec<f32> = examples.iter().flat_map(|a| examples.iter().map(move |b| equal(a, b))).collect();
    Tensor::from_vec(rows, (examples.len(), examples.len()), device)
}

/// The text encoder of a trained pair.
///
/// # Errors
/// Where the weights do not fit.
pub fn encoder(workshop: &Workshop<'_>, pair: &State) -> Result<TextModel> {
    let config = networks::text_encoder(&workshop.recipe.text, &workshop.vocabulary);
    workshop.frozen(&only_text(pair), &Rules::strict(), |scope| TextModel::new(scope, &config))
}

/// The weights of a pair that are `CLIPTextModel`'s.
#[must_use]
pub fn only_text(pair: &State) -> State {
    pair.iter()
        .filter(|(name, _)| name.starts_with("text_model."))
        .map(|(name, tensor)| (name.clone(), tensor.clone()))
        .collect()
}

/// A trained pair, frozen.
///
/// # Errors
/// Where the weights do not fit.
pub fn pair(workshop: &Workshop<'_>, state: &State) -> Result<Pair> {
    let config = networks::text_encoder(&workshop.recipe.text, &workshop.vocabulary);
    let channels = &workshop.recipe.judges.channels;
    workshop.frozen(state, &Rules::strict(), |scope| Pair::new(scope, &config, channels))
}
