//! The stages of the recipe, in their order.

pub mod gates;
pub mod judges;
pub mod latents;
pub mod pack;
mod report;
pub mod text;
pub mod unet;
pub mod vae;

use anyhow::Result;
use candle_core::{Result as TensorResult, Tensor};
use sd_core::models::clip::TextModel;

use crate::classifier::{Attribute, Classifier};
use crate::workshop::{State, Workshop};

/// A part of the training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// The text encoder.
    Text,
    /// The autoencoder.
    Vae,
    /// The classifier of attributes.
    Classifier,
    /// The second pair of text encoder and image tower.
    JudgeClip,
    /// The regressor of landmarks.
    Landmarks,
    /// The second classifier.
    Frechet,
    /// The denoiser.
    Unet,
    /// What the judges say of pictures of held-out captions.
    Gates,
    /// The folder that ships.
    Pack,
    /// What is committed beside it.
    Report,
}

/// Runs these stages in this order. What is done already is read.
///
/// # Errors
/// Where one fails or is interrupted.
pub fn run(workshop: &Workshop<'_>, stages: &[Stage]) -> Result<()> {
    let mut shared = Shared::default();
    stages.iter().try_for_each(|stage| one(workshop, *stage, &mut shared))
}

/// What several stages stand on, made once.
#[derive(Default)]
struct Shared {
    made: Option<Pipeline>,
    judged: Option<Judged>,
}

impl Shared {
    fn both(&mut self, workshop: &Workshop<'_>) -> Result<(&Pipeline, &Judged)> {
        if self.made.is_none() {
            self.made = Some(Pipeline::trained(workshop)?);
        }
        if self.judged.is_none() {
            self.judged = Some(Judged::trained(workshop)?);
        }
        match (&self.made, &self.judged) {
            (Some(made), Some(judged)) => Ok((made, judged)),
            _ => anyhow::bail!("the pipeline and its judges are not there"),
        }
    }
}

fn one(workshop: &Workshop<'_>, stage: Stage, shared: &mut Shared) -> Result<()> {
    let recipe = &workshop.recipe;
    let (seed, judges) = (recipe.seed, &recipe.judges);
    match stage {
        Stage::Text => {
            text::train(workshop, text::ENCODER, seed, &recipe.text.training)?;
        }
        Stage::JudgeClip => {
            text::train(workshop, "judge-clip", recipe.judges_seed, &judges.clip)?;
        }
        Stage::Vae => {
            let vae = vae::train(workshop)?;
            workshop.say(&format!("vae: {:.2} dB on test pictures", vae.psnr));
            if workshop.folder("classifier").join("weights.safetensors").exists() {
                reconstructions(workshop, &vae)?;
            }
        }
        Stage::Classifier => {
            let judge = judges::classifier(workshop, "classifier", recipe.judges_seed, &judges.classifier)?;
            workshop.say(&format!("classifier: {}", told(&judge.accuracy)));
        }
        Stage::Frechet => {
            let judge =
                judges::classifier(workshop, "frechet", recipe.judges_seed.wrapping_add(1), &judges.frechet)?;
            workshop.say(&format!("frechet: {}", told(&judge.accuracy)));
        }
        Stage::Landmarks => {
            let eye = judges::landmarks(workshop, "landmarks")?;
            workshop.say(&format!("landmarks: {:.3} pixels off", eye.error));
        }
        Stage::Unet => {
            shared.made = Some(Pipeline::trained(workshop)?);
        }
        Stage::Gates => {
            let (made, judged) = shared.both(workshop)?;
            gates(workshop, made, judged)?;
        }
        Stage::Pack => {
            let (made, judged) = shared.both(workshop)?;
            pack::write(workshop, made, judged)?;
        }
        Stage::Report => {
            let (made, judged) = shared.both(workshop)?;
            report::write(workshop, made, judged)?;
        }
    }
    Ok(())
}

/// The pipeline's weights.
struct Pipeline {
    pair: State,
    text: TextModel,
    vae: vae::Vae,
    unet: State,
}

impl Pipeline {
    /// Trains what is not trained yet.
    fn trained(workshop: &Workshop<'_>) -> Result<Self> {
        let recipe = &workshop.recipe;
        let pair = text::train(workshop, text::ENCODER, recipe.seed, &recipe.text.training)?;
        let vae = vae::train(workshop)?;
        let text = text::encoder(workshop, &pair)?;
        let unet = unet::train(workshop, &pair, &vae, &text)?;
        Ok(Self { pair, text, vae, unet })
    }
}

/// The judges and what they reach.
struct Judged {
    classifier: judges::Judge,
    frechet: judges::Judge,
    landmarks: judges::Eye,
    clip: State,
}

impl Judged {
    /// Trains what is not trained yet.
    fn trained(workshop: &Workshop<'_>) -> Result<Self> {
        let (seed, judges) = (workshop.recipe.judges_seed, &workshop.recipe.judges);
        Ok(Self {
            classifier: judges::classifier(workshop, "classifier", seed, &judges.classifier)?,
            frechet: judges::classifier(workshop, "frechet", seed.wrapping_add(1), &judges.frechet)?,
            landmarks: judges::landmarks(workshop, "landmarks")?,
            clip: text::train(workshop, "judge-clip", seed, &judges.clip)?,
        })
    }
}

fn gates(workshop: &Workshop<'_>, made: &Pipeline, judged: &Judged) -> Result<()> {
    let judges = gates::Panel {
        classifier: judged.classifier.model.clone(),
        clip: text::pair(workshop, &judged.clip)?,
        landmarks: judged.landmarks.model.clone(),
    };
    let gates = gates::measure(workshop, &made.unet, &made.vae, &made.text, &judges)?;
    workshop.say(&format!("gates:\n{}", gates::told(&gates)));
    lab::atomic::write_bytes(workshop.out.join("gates.csv"), gates::csv(&gates).as_bytes())?;
    let measured = gates::Measured { unet: crate::digest::of_states([&made.unet])?, gates };
    let text = serde_json::to_string_pretty(&measured)? + "\n";
    Ok(lab::atomic::write_bytes(workshop.out.join(gates::FILE), text.as_bytes())?)
}

/// Tells what the classifier recognises of reconstructed pictures.
fn reconstructions(workshop: &Workshop<'_>, vae: &vae::Vae) -> Result<()> {
    let (recipe, judges) = (&workshop.recipe, &workshop.recipe.judges);
    let judge = judges::classifier(workshop, "classifier", recipe.judges_seed, &judges.classifier)?;
    let found = known_reconstructions(workshop, vae, &judge.model)?;
    workshop.say(&format!("vae: of reconstructions the classifier knows {}", told(&found)));
    Ok(())
}

/// Share of right answers about reconstructed test pictures, by attribute.
fn known_reconstructions(
    workshop: &Workshop<'_>,
    vae: &vae::Vae,
    classifier: &Classifier,
) -> Result<Vec<(Attribute, f64)>> {
    let through = |pictures: Tensor| -> TensorResult<Tensor> {
        let [mean, _] = vae::encode(&vae.model, &pictures)?;
        vae::decode(&vae.model, &mean)
    };
    judges::test(workshop, classifier, through)
}

fn told(accuracy: &[(Attribute, f64)]) -> String {
    let parts =
        accuracy.iter().map(|(attribute, share)| format!("{} {:.2} %", attribute.name(), 100.0 * share));
    parts.collect::<Vec<_>>().join(", ")
}
