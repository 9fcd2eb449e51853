//! The judges, trained apart from the pipeline: other initial values, other pictures.

use anyhow::Result;
use candle_core::DType;
use sd_core::nn::{Parameters, Scope};
use sd_core::rng::Rng;
use sd_core::weights::Rules;
use serde_json::json;
use worlds::scenes::{Example, Expression, Named, Split, Subject, Wording, World};

use crate::classifier::{Attribute, Classifier};
use crate::landmarks::{self, Regressor};
use crate::recipe::Training;
use crate::workshop::{State, Task, Workshop};
use crate::{data, losses};

/// Pictures a judge is tested on.
const TESTED: usize = 2000;
const BATCH: usize = 100;
/// Turns the judges' seed into that of pictures which neither they nor the pipeline have seen.
const TEST: u64 = 0xE7A1;

/// A trained classifier and how often it is right about test pictures.
pub struct Judge {
    /// The network, frozen.
    pub model: Classifier,
    /// Its weights.
    pub state: State,
    /// Share of right answers, by attribute, over the test pictures that have an answer.
    pub accuracy: Vec<(Attribute, f64)>,
}

/// Trains a classifier and tests it.
///
/// # Errors
/// Where the training fails or is interrupted.
pub fn classifier(workshop: &Workshop<'_>, stage: &str, seed: u64, training: &Training) -> Result<Judge> {
    let state = match workshop.taken(&format!("judges/{stage}.safetensors"))? {
        Some(state) => state,
        None => train_classifier(workshop, stage, seed, training)?,
    };
    let channels = &workshop.recipe.judges.channels;
    let model = workshop.frozen(&state, &Rules::strict(), |scope| Classifier::new(scope, channels))?;
    let accuracy = test(workshop, &model, Ok)?;
    Ok(Judge { model, state, accuracy })
}

fn train_classifier(workshop: &Workshop<'_>, stage: &str, seed: u64, training: &Training) -> Result<State> {
    let recipe = &workshop.recipe;
    let channels = &recipe.judges.channels;
    let mut parameters = Parameters::default();
    let mut scope = Scope::root(&mut parameters, seed, DType::F32, &workshop.device);
    let classifier = Classifier::new(&mut scope, channels)?;
    let world = World::new(seed, Split::Train);
    let held_out = World::new(seed, Split::HeldOut);
    let mut task = |step| {
        let mut examples = data::examples(&world, step, training.batch);
        // A judge knows every combination of a shape: a sixteenth of its pictures are of those that the pipeline never sees.
        let shown = training.batch / 16;
        let rare = data::examples(&held_out, step, shown);
        for (common, rare) in examples.iter_mut().zip(rare) {
            *common = rare;
        }
        classifier.loss(&data::pictures_of(&examples, recipe.side, &workshop.device)?, &examples)
    };
    let depends = json!({"seed": seed, "side": recipe.side, "channels": channels});
    workshop.fit(stage, training, &parameters, &depends, Task::Whole(&mut task), &mut |_, _| Ok(()))
}

/// Share of right answers about test pictures, by attribute; the pictures pass through `change` first (a reconstruction, say).
///
/// # Errors
/// Where a computation fails.
pub fn test(
    workshop: &Workshop<'_>,
    classifier: &Classifier,
    change: impl Fn(candle_core::Tensor) -> candle_core::Result<candle_core::Tensor>,
) -> Result<Vec<(Attribute, f64)>> {
    // Pictures that neither pipeline nor judges were trained on.
    let world = World::new(workshop.recipe.judges_seed ^ TEST, Split::Test);
    let (mut right, mut asked) = ([0.0; Attribute::ALL.len()], [0.0; Attribute::ALL.len()]);
    for step in 0..(TESTED / BATCH) as u64 {
        let examples = data::examples(&world, step, BATCH);
        let pictures = change(data::pictures_of(&examples, workshop.recipe.side, &workshop.device)?)?;
        for (example, found) in examples.iter().zip(classifier.classes(&pictures)?) {
            for (at, attribute) in Attribute::ALL.into_iter().enumerate() {
                if let Some(shown) = attribute.shown(example) {
                    asked[at] += 1.0;
                    right[at] += f64::from(u8::from(found[at] == shown));
                }
            }
        }
    }
    Ok((0..)
        .zip(Attribute::ALL)
        .map(|(at, attribute): (usize, _)| (attribute, right[at] / asked[at]))
        .collect())
}

/// A trained regressor of landmarks and its error.
pub struct Eye {
    /// The network, frozen.
    pub model: Regressor,
    /// Its weights.
    pub state: State,
    /// Mean distance of a landmark from where it is, in pixels, over test pictures.
    pub error: f64,
}

/// Trains the regressor of landmarks and tests it.
///
/// # Errors
/// Where the training fails or is interrupted.
pub fn landmarks(workshop: &Workshop<'_>, stage: &str) -> Result<Eye> {
    let state = match workshop.taken(&format!("judges/{stage}.safetensors"))? {
        Some(state) => state,
        None => train_landmarks(workshop, stage)?,
    };
    let (channels, side) = (&workshop.recipe.judges.channels, workshop.recipe.side);
    let model = workshop.frozen(&state, &Rules::strict(), |scope| Regressor::new(scope, channels, side))?;
    let error = face_error(workshop, &model)?;
    Ok(Eye { model, state, error })
}

fn train_landmarks(workshop: &Workshop<'_>, stage: &str) -> Result<State> {
    let recipe = &workshop.recipe;
    let (channels, training, seed) = (&recipe.judges.channels, &recipe.judges.landmarks, recipe.judges_seed);
    let mut parameters = Parameters::default();
    let mut scope = Scope::root(&mut parameters, seed, DType::F32, &workshop.device);
    let regressor = Regressor::new(&mut scope, channels, recipe.side)?;
    let mut task = |step| {
        let examples = strayed_faces(seed, step, training.batch);
        let scenes: Vec<_> = examples.iter().map(|example| example.scene.clone()).collect();
        let pictures = data::pictures_of(&examples, recipe.side, &workshop.device)?;
        losses::l1(&regressor.forward(&pictures)?, &landmarks::truth(&scenes, &workshop.device)?)
    };
    let depends = json!({"seed": seed, "side": recipe.side, "channels": channels});
    workshop.fit(stage, training, &parameters, &depends, Task::Whole(&mut task), &mut |_, _| Ok(()))
}

/// Examples of faces: a function of seed and step.
#[must_use]
pub fn faces(seed: u64, step: u64, count: usize) -> Vec<Example> {
    let first = step * count as u64;
    (first..first + count as u64).map(|index| face(&mut Rng::new(seed, "faces", index))).collect()
}

fn face(rng: &mut Rng) -> Example {
    let all = Expression::ALL;
    let named = Named::only(Subject::Face(all[rng.below(all.len() as u64) as usize]));
    let caption = worlds::scenes::caption(&named, &Wording::random(rng));
    Example { scene: worlds::scenes::scene(&named, rng), named, caption }
}

/// As [`faces`], each moved by up to a tenth of the picture either way, so that the regressor knows faces that are out of place.
fn strayed_faces(seed: u64, step: u64, count: usize) -> Vec<Example> {
    const FARTHEST: f32 = 0.1;
    let mut examples = faces(seed, step, count);
    for (index, example) in examples.iter_mut().enumerate() {
        let mut rng = Rng::new(seed, "faces/strayed", step * count as u64 + index as u64);
        if let Some(face) = &mut example.scene.face {
            face.centre = face.centre.map(|at| at + FARTHEST * (2.0 * rng.uniform_f32() - 1.0));
        }
    }
    examples
}

fn face_error(workshop: &Workshop<'_>, model: &Regressor) -> Result<f64> {
    let side = workshop.recipe.side;
    let examples = faces(workshop.recipe.judges_seed ^ TEST, 0, BATCH);
    let scenes: Vec<_> = examples.iter().map(|example| example.scene.clone()).collect();
    let found = model.forward(&data::pictures_of(&examples, side, &workshop.device)?)?.detach();
    let off = (found - landmarks::truth(&scenes, &workshop.device)?)?.sqr()?.sum(2)?.sqrt()?.mean_all()?;
    Ok(f64::from(off.to_scalar::<f32>()?) * side as f64)
}
