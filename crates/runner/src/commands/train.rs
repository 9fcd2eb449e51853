//! `train`: from a recipe to weights.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use cli::{Scale, Stage};
use lab::config::Document;
use sd_mini::{Recipe, Shipped, Taken, Workshop, stages::Stage as Part};

use super::machine;
use crate::output::say;
use crate::places;

/// The recipes as they were when this binary was built.
const RECIPES: [(Scale, &str); 2] = [
    (Scale::Quick, include_str!("../../../../experiments/sd-mini/quick.yaml")),
    (Scale::Standard, include_str!("../../../../experiments/sd-mini/standard.yaml")),
];

/// Trains the stages that were asked for.
pub(crate) fn run(typed: &cli::Train) -> Result<u8> {
    let document = recipe(typed.scale)?.with_overrides(&typed.overrides.set)?;
    let recipe = Recipe::decode(&document)?;
    let device = machine::device(typed.device)?;
    machine::threads(typed.threads)?;
    let stop = stop()?;
    let mut workshop = Workshop::open(recipe, &out(typed), &device, &stop, say)?;
    workshop.checkpoint_every = Duration::from_secs(typed.checkpoint_seconds);
    if let Some(folder) = &typed.from {
        let shipped = Shipped::open(folder).context("--from")?;
        workshop.taken = Some(Taken { shipped, warm: typed.warm });
    }
    let asked = if typed.stages.is_empty() { Stage::ALL.to_vec() } else { typed.stages.clone() };
    let parts: Vec<Part> = asked.into_iter().map(part).collect();
    sd_mini::stages::run(&workshop, &parts)?;
    Ok(cli::exit::DONE)
}

fn part(stage: Stage) -> Part {
    match stage {
        Stage::Text => Part::Text,
        Stage::Vae => Part::Vae,
        Stage::Classifier => Part::Classifier,
        Stage::JudgeClip => Part::JudgeClip,
        Stage::Landmarks => Part::Landmarks,
        Stage::Frechet => Part::Frechet,
        Stage::Unet => Part::Unet,
        Stage::Gates => Part::Gates,
        Stage::Pack => Part::Pack,
        Stage::Report => Part::Report,
    }
}

/// The repository's recipe where we are in one, else the one built in.
fn recipe(scale: Scale) -> Result<Document> {
    let relative = format!("experiments/sd-mini/{scale}.yaml");
    let built_in = RECIPES.iter().find(|(known, _)| *known == scale);
    match (places::repository().map(|root| root.join(&relative)), built_in) {
        (Some(path), _) if path.exists() => Ok(Document::read(path)?),
        (None, Some((_, text))) => Ok(Document::parse(&relative, text)?),
        _ => bail!(
            "{relative}: there is no such recipe\n  help: --scale quick and --scale standard came with this build"
        ),
    }
}

fn out(typed: &cli::Train) -> PathBuf {
    let default = || places::repository().unwrap_or_default().join("out/sd-mini").join(typed.scale.name());
    typed.out.clone().unwrap_or_else(default)
}

/// Becomes true at Ctrl-C or SIGTERM; a second one ends the process at once.
fn stop() -> Result<Arc<AtomicBool>> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_default(signal, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .context("cannot watch for Ctrl-C")?;
    }
    Ok(stop)
}
