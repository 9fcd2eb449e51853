//! The total effect of more and more noise.

use anyhow::Result;
use lab::paper::TrialContext;
use lab::trial::Measure;

use super::{Bench, Case};
use crate::corruption::{Corruption, Sigma};
use crate::experiment::SweepStudy;
use crate::lockstep::{Lockstep, Run};

pub(super) fn run(bench: &Bench, study: &SweepStudy, case: &Case, context: &mut TrialContext) -> Result<()> {
    let (model, caption) = (&bench.model, &case.probe.caption);
    let read = caption.read(&model.tokenizer)?;
    let mut texts = Vec::new();
    let mut sigmas = Vec::new();
    for &sigma in &study.sigmas {
        let corruption = Corruption { sigma, ..case.corruption(model, &study.making)? };
        let encoded = corruption.encode(model, caption, &read)?;
        if texts.is_empty() {
            texts.push(encoded.clean);
        }
        texts.push(encoded.corrupted);
        sigmas.push((sigma, encoded.applied));
    }
    let runs: Vec<Run> = (0..texts.len()).map(|text| Run { text, patch: None }).collect();
    let settings = case.settings(&study.making);
    let mut told = |share: f64| context.progress(share, "sweep");
    let outcome = Lockstep::new(model, &settings, &texts)?.run(&runs, &mut told)?;
    let scores = bench.scores(case, &crate::trace::decode(model, &outcome.latents)?)?;
    for (index, (sigma, applied)) in sigmas.iter().enumerate() {
        let unit = if matches!(sigma, Sigma::Absolute(_)) { "abs" } else { "std" };
        let at = match sigma {
            Sigma::Absolute(value) | Sigma::Deviations(value) => *value,
        };
        let mut write =
            |metric: &str, value: f64| context.row_full(Measure::new(metric, value).at(at).tag("unit", unit));
        let run = 1 + index;
        write("sweep_total_effect_clip", scores.clip[0] - scores.clip[run])?;
        write("sweep_sigma", applied.sigma)?;
        if let (Some(clean), Some(corrupted)) = (scores.class.first(), scores.class.get(run)) {
            write("sweep_total_effect_class", clean.0 - corrupted.0)?;
            write("sweep_corrupted_right", f64::from(u8::from(corrupted.1)))?;
        }
    }
    Ok(())
}
