//! What ships: the pipeline as a folder that diffusers loads, the judges, and a manifest with every file's digest.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use sd_core::weights::{Component, FolderWriter, Pipeline, write_tensors};
use serde_json::json;

use super::gates::{self, Gate, Measured};
use super::text::only_text;
use super::{Judged, Pipeline as Made};
use crate::networks;
use crate::shipped::{File, MANIFEST, Manifest};
use crate::workshop::{State, Workshop, half};

/// Writes `pack/` below the output, anew.
///
/// # Errors
/// Where the system refuses.
pub(super) fn write(workshop: &Workshop<'_>, made: &Made, judged: &Judged) -> Result<()> {
    let (place, folder) = (workshop.out.join("pack"), workshop.out.join("pack.new"));
    refuse_foreign(&place)?;
    remove(&folder)?;
    let (recipe, vocabulary) = (&workshop.recipe, &workshop.vocabulary);
    let mut writer = FolderWriter::create(&folder.join("model"), Pipeline::TextToImage)?;
    let config = networks::text_encoder(&recipe.text, vocabulary);
    writer.model(Component::TextEncoder, &config.to_json(), &half(&only_text(&made.pair))?)?;
    writer.model(Component::Vae, &made.vae.model.config().to_json(), &half(&made.vae.state)?)?;
    writer.model(Component::Unet, &networks::denoiser(recipe).to_json(), &half(&made.unet)?)?;
    writer.scheduler(&networks::scheduler().to_json())?;
    vocabulary.write(recipe.text.positions, &mut writer)?;
    writer.finish()?;
    fs::create_dir_all(folder.join("judges"))?;
    let judges = [
        ("classifier", &judged.classifier.state),
        ("frechet", &judged.frechet.state),
        ("landmarks", &judged.landmarks.state),
        ("clip", &judged.clip),
    ];
    for (name, state) in judges {
        write_tensors(&folder.join("judges").join(format!("{name}.safetensors")), &half(state)?)?;
    }
    let sizes = json!({
        "channels": recipe.judges.channels, "side": recipe.side, "text": config.to_json(), "seed": recipe.judges_seed,
    });
    lab::atomic::write_bytes(folder.join("judges/judges.json"), format!("{sizes:#}\n").as_bytes())?;
    let manifest = Manifest {
        name: "sd-mini".to_owned(),
        seed: recipe.seed,
        world: workshop.world().to_owned(),
        steps: recipe.gates.steps,
        guidance: recipe.gates.guidance,
        gates: measured(workshop, &made.unet)?,
        files: files(&folder)?,
    };
    let text = serde_json::to_string_pretty(&manifest)? + "\n";
    lab::atomic::write_bytes(folder.join(MANIFEST), text.as_bytes())?;
    remove(&place)?;
    fs::rename(&folder, &place).with_context(|| place.display().to_string())?;
    let bytes: u64 = manifest.files.values().map(|file| file.bytes).sum();
    workshop.say(&format!(
        "pack: {} files, {:.1} MB, in {}",
        manifest.files.len(),
        bytes as f64 / 1e6,
        place.display()
    ));
    Ok(())
}

/// A folder of that name that is no pack stays.
fn refuse_foreign(place: &Path) -> Result<()> {
    let is_ours = !place.exists() || place.join(MANIFEST).is_file();
    ensure!(
        is_ours,
        "{}: not a pack\n  expected: a folder with {MANIFEST}\n  help: move it away",
        place.display()
    );
    Ok(())
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    Ok(())
}

/// The gates of these very weights; none where they have not been measured.
fn measured(workshop: &Workshop<'_>, unet: &State) -> Result<Vec<Gate>> {
    let path = workshop.out.join(gates::FILE);
    let Ok(text) = fs::read_to_string(&path) else { return Ok(Vec::new()) };
    let measured: Measured = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
    let same = measured.unet == crate::digest::of_states([unet])?;
    if !same {
        workshop
            .say("pack: the gates were measured on other weights and are left out; run the stage `gates`");
    }
    Ok(if same { measured.gates } else { Vec::new() })
}

/// Every file below `folder`, by its path with `/`.
fn files(folder: &Path) -> Result<BTreeMap<String, File>> {
    let mut found = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(folder)?.to_string_lossy().replace('\\', "/");
            found.insert(name, File::of(&path)?);
        }
    }
    Ok(found)
}
