//! Many concepts at once.

use anyhow::{Context, Result};
use lab::paper::TrialContext;
use lab::trial::Measure;

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
    let mut gone = Vec::new();
    for item in edited {
        let asked = item.asked(Set::Phrase, study.asking.phrase, seed);
        let pixels = bench.pictures(
            &pipeline,
            &asked,
            making,
            &format!("{}/{}", item.name, Set::Phrase.name()),
            seed,
        )?;
        if let Some(found) = bench.found(&pixels, |_| item.old.clone())? {
            gone.push(1.0 - share(&found));
        }
    }
    if !gone.is_empty() {
        row("joint_efficacy", gone.iter().sum::<f64>() / gone.len() as f64)?;
    }
    let kept = rest(others, study.asking.surrounding, seed);
    if !kept.is_empty() {
        let pixels = bench.pictures(&pipeline, &kept, making, "joint/kept", seed)?;
        if let Some(found) = bench.found(&pixels, |index| kept[index].right.clone())? {
            row("joint_specificity", share(&found))?;
        }
    }
    // The captions of one edit's rest of the world: the same for every count.
    let first = all.first().context("there is no edit")?;
    let unrelated = first.asked(Set::Unrelated, study.asking.unrelated, seed);
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
