//! What must hold exactly, measured on the model that is traced: section 7 of the specification.

use std::collections::BTreeSet;

use anyhow::Result;
use candle_core::{DType, Tensor};
use lab::paper::TrialContext;
use lab::trial::Measure;
use sd_core::models::unet::cost;
use sd_core::taps::{Kind, Site};

use super::Bench;
use crate::caption::Caption;
use crate::components::{Component, Reading, components};
use crate::corruption::{Corruption, Sigma};
use crate::experiment::IdentityStudy;
use crate::lockstep::{Change, Donor, Lockstep, Patch, Run, Settings};
use crate::looped;
use crate::trace::{CLEAN, CORRUPTED};

pub(super) fn run(bench: &Bench, study: &IdentityStudy, context: &mut TrialContext) -> Result<()> {
    let model = &bench.model;
    let caption = Caption::new("a photo of a dog", "dog");
    let read = caption.read(&model.tokenizer)?;
    let corruption = Corruption { sigma: Sigma::Absolute(0.5), ..Corruption::default() };
    let encoded = corruption.encode(model, &caption, &read)?;
    let texts = [encoded.clean, encoded.corrupted];
    let memory = study.memory_mb.map(|megabytes| megabytes * 1_000_000);
    let settings = Settings { steps: study.steps, guidance: 4.0, memory, ..Settings::default() };
    let all = components(model.unet.config(), Reading::Module)?;
    let sites: Vec<Site> = all.iter().map(|one| one.site.clone()).collect();
    let last = all
        .iter()
        .rev()
        .find_map(|one| one.site.path().split_once(".transformer_blocks").map(|(path, _)| path.to_owned()));
    let restored = |sites: Vec<Site>, donor| Run {
        text: CORRUPTED,
        patch: Some(Patch { sites, donor, change: Change::None }),
    };
    let plain = |text| Run { text, patch: None };
    let mut runs = vec![plain(CLEAN), plain(CORRUPTED)];
    runs.push(restored(vec![Site::new(last.unwrap_or_default(), Kind::Stream)], Donor::Run(CLEAN)));
    runs.push(restored(sites.clone(), Donor::Run(CLEAN)));
    let fixed = runs.len();
    for site in &sites {
        runs.push(restored(vec![site.clone()], Donor::Run(CLEAN)));
        runs.push(restored(vec![site.clone()], Donor::Run(CORRUPTED)));
    }
    let latents = Lockstep::new(model, &settings, &texts)?.run(&runs, &mut |_| {})?.latents;
    let mut write =
        |case: &str, value: f64| context.row_full(Measure::new("identity_difference", value).case(case));
    write("I2", difference(&latents, 2, &latents, CLEAN)?)?;
    write("I5", difference(&latents, 3, &latents, CLEAN)?)?;
    let mut donors = 0f64;
    for index in 0..sites.len() {
        donors = donors.max(difference(&latents, fixed + 2 * index + 1, &latents, CORRUPTED)?);
    }
    write("I3", donors)?;
    let mut loops = 0f64;
    for index in (0..sites.len()).step_by(9) {
        let alone = looped::one(model, &settings, [&texts[0], &texts[1]], &sites[index..=index])?;
        loops = loops.max(difference(&latents, fixed + 2 * index, &alone, 2)?);
    }
    write("I6", loops)?;
    // The corruption must have done something, or all of this would hold of nothing.
    context.row("identity_total_effect", difference(&latents, CORRUPTED, &latents, CLEAN)?)?;
    downstream(bench, context)
}

/// How much of a pass lies behind each component, in every reading (trap T4).
fn downstream(bench: &Bench, context: &mut TrialContext) -> Result<()> {
    let config = bench.model.unet.config();
    let mut names = BTreeSet::new();
    for reading in [Reading::Module, Reading::Branch, Reading::Stream] {
        names.extend(components(config, reading)?.iter().map(Component::to_string));
    }
    let size = config.sample_size.unwrap_or(64);
    let tokens = bench.model.text_encoder.config().max_position_embeddings;
    for (site, share) in cost::behind(config, [size, size], tokens)? {
        if names.contains(&site.to_string()) {
            context.row_full(Measure::new("downstream", share).tag("component", site.to_string()))?;
        }
    }
    Ok(())
}

/// Largest absolute difference of two rows.
fn difference(a: &Tensor, i: usize, b: &Tensor, j: usize) -> Result<f64> {
    let difference = (a.get(i)? - b.get(j)?)?.abs()?.flatten_all()?.max(0)?;
    Ok(difference.to_dtype(DType::F64)?.to_scalar()?)
}
