//! Many concepts at once.

use anyhow::{Context, Result};
use lab::paper::TrialContext;
use lab::trial::Measure;
use sd_core::pipeline::StableDiffusion;

use super::{Bench, distance, share};
use crate::edit::leakage;
use crate::experiment::{JointStudy, QuickfixExperiment};
use crate::methods::{Job, Method};
use crate::suites::{self, Asked, Item, Set};

pub(super) fn run(
    bench: &Bench,
    experiment: &QuickfixExperiment,
    study: &JointStudy,
    count: usize,
    context: &mut TrialContext,
) -> Result<()> {
    let seed = context.seed();
    let all = suites::all(seed);
    let (edited, others) = all.split_at(count.min(all.len()));
    let method = &experiment.arms.get(&study.arm).context("the experiment has no such arm")?.method;
    let mut never = |_: &crate::model::Changed| Ok(false);
    let making = study.making;
    let applied = method.apply(&mut Job {
        model: &bench.model,
        items: edited,
        seed,
        making,
        is_gone: &mut never,
        every: usize::MAX,
    })?;
    let pipeline = bench.model.with(&applied.changed)?;
    let mut row = |metric: &str, value: f64| context.row_full(Measure::new(metric, value).at(count as f64));
    row("joint_seconds", applied.seconds)?;
    let shown = |pipeline: &StableDiffusion, item: &Item| -> Result<Option<f64>> {
        let asked = item.asked(Set::Phrase, study.asking.phrase, seed);
        let purpose = format!("{}/{}", item.name, Set::Phrase.name());
        let pixels = bench.pictures(pipeline, &asked, making, &purpose, seed)?;
        Ok(bench.found(&pixels, |_| item.old.clone())?.map(|found| share(&found)))
    };
    let (mut gone, mut before) = (Vec::new(), Vec::new());
    for item in edited {
        gone.extend(shown(&pipeline, item)?.map(|shown| 1.0 - shown));
        before.extend(shown(&bench.model.pipeline, item)?);
    }
    if !gone.is_empty() {
        row("joint_efficacy", gone.iter().sum::<f64>() / gone.len() as f64)?;
        row("joint_least_efficacy", gone.iter().copied().fold(f64::INFINITY, f64::min))?;
        row("joint_shown", before.iter().sum::<f64>() / before.len() as f64)?;
    }
    let kept = rest(others, study.asking.surrounding, seed);
    if !kept.is_empty() {
        let pixels = bench.pictures(&pipeline, &kept, making, "joint/kept", seed)?;
        if let Some(found) = bench.found(&pixels, |index| kept[index].right.clone())? {
            row("joint_specificity", share(&found))?;
        }
    }
    // The same for every count.
    let unrelated = suites::unrelated_to_all(study.asking.unrelated, seed);
    if !unrelated.is_empty() {
        let [after, before] = [&pipeline, &bench.model.pipeline]
            .map(|pipeline| bench.pictures(pipeline, &unrelated, making, "joint/unrelated", seed));
        row("joint_interference", distance(&after?, &before?)?)?;
        if let (Some(solved), Method::DiffQuickfix(settings)) = (&applied.solved, method) {
            let captions: Vec<&str> = unrelated.iter().map(|asked| asked.caption.as_str()).collect();
            row("joint_leakage", leakage(&bench.model.keys(), solved, settings.layer, &captions)?)?;
        }
    }
    Ok(())
}

/// Captions of the concepts that are not edited, in turn.
fn rest(others: &[Item], count: usize, seed: u64) -> Vec<Asked> {
    let one = |index: usize| {
        let item = others.get(index % others.len().max(1))?;
        item.asked(Set::Phrase, 1 + index / others.len(), seed).pop()
    };
    (0..count).filter_map(one).collect()
}
