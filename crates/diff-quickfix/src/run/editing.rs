//! One concept, edited by every method of a study; the same captions and the same noise for all.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use lab::paper::TrialContext;
use lab::trial::Measure;
use sd_core::pipeline::StableDiffusion;
use worlds::scenes::{Picture, contact_sheet};

use super::{Bench, Drawn, distance, share};
use crate::edit::leakage;
use crate::experiment::{EditingStudy, Matching, QuickfixExperiment};
use crate::methods::{Applied, Job, Method};
use crate::model::Changed;
use crate::suites::{Item, Set};

/// In how many of the phrase's pictures the concept has to be gone for a training to be compared with the edit.
const ERASED: f64 = 0.5;

/// Of which sets a gallery shows a picture.
const SHOWN: [Set; 4] = [Set::Phrase, Set::ConceptFirst, Set::Surrounding, Set::Unrelated];

pub(super) fn run(
    bench: &Bench,
    experiment: &QuickfixExperiment,
    study: &EditingStudy,
    item: &Item,
    keeps: bool,
    context: &mut TrialContext,
) -> Result<()> {
    let seed = context.seed();
    let draw = |pipeline: &StableDiffusion| bench.draw(pipeline, item, &study.asking, study.making, seed);
    let unedited = draw(&bench.model.pipeline)?;
    let mut gallery = vec![row(&unedited)?];
    let mut names = vec!["unedited".to_owned()];
    let mut reference: Option<Reference> = None;
    for (index, arm) in study.arms.iter().enumerate() {
        let method = &experiment.arms[arm].method;
        context.progress(index as f64 / study.arms.len() as f64, arm);
        let written = Written { bench, item, arm, unedited: &unedited };
        if *method == Method::Unedited {
            written.pictures(&unedited, context)?;
            written.shown(context)?;
            continue;
        }
        let gone = reference.as_ref().and_then(|reference| reference.gone);
        let applied = apply(bench, study, item, method, gone, seed)?;
        let drawn = draw(&bench.model.with(&applied.changed)?)?;
        written.pictures(&drawn, context)?;
        written.work(&applied, context)?;
        written.leakage(&applied, context)?;
        match &reference {
            Some(reference) => written.ratios(&applied, reference, context)?,
            None => reference = Some(Reference::of(bench, item, &applied, &drawn)?),
        }
        if keeps {
            gallery.push(row(&drawn)?);
            names.push(experiment.arms[arm].label.clone());
        }
    }
    if keeps {
        write_gallery(item, &gallery, &names, &unedited, context)?;
    }
    Ok(())
}

/// What others are compared with: the first method that edits.
struct Reference {
    seconds: f64,
    flops: f64,
    /// In how many of the phrases' pictures the concept is gone; none without a classifier.
    gone: Option<f64>,
}

impl Reference {
    fn of(bench: &Bench, item: &Item, applied: &Applied, drawn: &[Drawn]) -> Result<Self> {
        let phrase = drawn.iter().find(|drawn| drawn.set == Set::Phrase).context("no phrase was drawn")?;
        let gone = bench.found(&phrase.pixels, |_| item.old.clone())?.map(|found| 1.0 - share(&found));
        Ok(Self { seconds: applied.seconds, flops: applied.flops, gone })
    }
}

/// Applies a method; trainings are looked at on the phrases' captions, for when they first erase as much as the reference.
fn apply(
    bench: &Bench,
    study: &EditingStudy,
    item: &Item,
    method: &Method,
    gone: Option<f64>,
    seed: u64,
) -> Result<Applied> {
    // A reference that erases little or nothing is matched by doing nothing.
    let matching = gone.filter(|gone| *gone >= ERASED).zip(study.matching.as_ref());
    let asked = item.asked(Set::Phrase, study.asking.phrase, seed);
    let purpose = format!("{}/{}", item.name, Set::Phrase.name());
    let mut is_gone = |changed: &Changed| -> Result<bool> {
        let Some((gone, Matching { within, .. })) = matching else { return Ok(false) };
        let wanted = gone - within;
        let pipeline = bench.model.with(changed)?;
        let pixels = bench.pictures(&pipeline, &asked, study.making, &purpose, seed)?;
        let found = bench.found(&pixels, |_| item.old.clone())?.context("there is no classifier")?;
        Ok(1.0 - share(&found) >= wanted - 1e-9)
    };
    method.apply(&mut Job {
        model: &bench.model,
        items: std::slice::from_ref(item),
        seed,
        making: study.making,
        is_gone: &mut is_gone,
        every: matching.map_or(usize::MAX, |(_, matching)| matching.every.max(1)),
    })
}

/// Rows of one method.
struct Written<'a> {
    bench: &'a Bench,
    item: &'a Item,
    arm: &'a str,
    unedited: &'a [Drawn],
}

impl Written<'_> {
    fn measure(&self, metric: &str, value: f64) -> Measure {
        Measure::new(metric, value).arm(self.arm).tag("suite", self.item.suite().name())
    }

    /// What the judges say of the pictures.
    fn pictures(&self, drawn: &[Drawn], context: &mut TrialContext) -> Result<()> {
        let mut olds: BTreeMap<Set, Vec<bool>> = BTreeMap::new();
        for (drawn, before) in drawn.iter().zip(self.unedited) {
            let set = drawn.set;
            let off = distance(&drawn.pixels, &before.pixels)?;
            context.row_full(self.measure("distance", off).tag("set", set.name()))?;
            let cosine = self.bench.cosine(drawn)?;
            context.row_full(self.measure("cosine", cosine).tag("set", set.name()))?;
            if set == Set::Phrase {
                context.row_full(self.measure("cosine_drop", self.bench.cosine(before)? - cosine))?;
                let gain = self.bench.anchor_cosine(drawn)? - self.bench.anchor_cosine(before)?;
                context.row_full(self.measure("anchor_cosine_gain", gain))?;
            }
            if set == Set::Unrelated {
                context.row_full(self.measure("interference", off))?;
            }
            if set.has_concept() {
                if let Some(old) = self.bench.found(&drawn.pixels, |_| self.item.old.clone())? {
                    context.row_full(self.measure("old_found", share(&old)).tag("set", set.name()))?;
                    olds.insert(set, old);
                }
                if let Some(new) = self.bench.found(&drawn.pixels, |_| self.item.new.clone())? {
                    context.row_full(self.measure("new_found", share(&new)).tag("set", set.name()))?;
                }
                continue;
            }
            if let Some(right) = self.bench.found(&drawn.pixels, |index| drawn.asked[index].right.clone())? {
                let metric = match set {
                    Set::Surrounding => "specificity",
                    Set::Anchor => "anchor_right",
                    _ => "unrelated_right",
                };
                context.row_full(self.measure(metric, share(&right)))?;
            }
        }
        if let Some(phrase) = olds.remove(&Set::Phrase) {
            context.row_full(self.measure("efficacy", 1.0 - share(&phrase)))?;
        }
        let others: Vec<bool> = olds.into_values().flatten().collect();
        if !others.is_empty() {
            context.row_full(self.measure("generality", 1.0 - share(&others)))?;
        }
        Ok(())
    }

    /// Whether the unedited model draws the concept at all: a condition of every claim.
    fn shown(&self, context: &mut TrialContext) -> Result<()> {
        let phrase = self.unedited.iter().find(|drawn| drawn.set == Set::Phrase);
        let found =
            phrase.map(|drawn| self.bench.found(&drawn.pixels, |_| self.item.old.clone())).transpose()?;
        if let Some(found) = found.flatten() {
            context.row_full(self.measure("concept_shown", share(&found)))?;
        }
        Ok(())
    }

    /// What the method took.
    fn work(&self, applied: &Applied, context: &mut TrialContext) -> Result<()> {
        for (metric, value) in [
            ("seconds", applied.seconds),
            ("picture_seconds", applied.pictures),
            ("flops", applied.flops),
            ("iterations", applied.iterations as f64),
            ("parameters", applied.parameters as f64),
        ] {
            context.row_full(self.measure(metric, value))?;
        }
        if let Some(arrived) = applied.arrived {
            context.row_full(self.measure("arrived", f64::from(u8::from(arrived))))?;
        }
        if let Some(matched) = &applied.matched {
            context.row_full(self.measure("seconds_to_match", matched.seconds))?;
            context.row_full(self.measure("iterations_to_match", matched.iterations as f64))?;
        }
        Ok(())
    }

    /// What the change of the text encoder's matrix does to captions that it is not about.
    fn leakage(&self, applied: &Applied, context: &mut TrialContext) -> Result<()> {
        let Some(solved) = &applied.solved else { return Ok(()) };
        let unrelated = self.unedited.iter().find(|drawn| drawn.set == Set::Unrelated);
        let captions: Vec<&str> = unrelated
            .into_iter()
            .flat_map(|drawn| &drawn.asked)
            .map(|asked| asked.caption.as_str())
            .collect();
        if let Some(layer) = edited_layer(applied).filter(|_| !captions.is_empty()) {
            let leak = leakage(&self.bench.model.keys(), solved, layer, &captions)?;
            context.row_full(self.measure("leakage", leak))?;
        }
        context.row_full(self.measure("size", solved.size()))?;
        if let Some([before, after]) = solved.residuals.filter(|[before, _]| *before > 0.0) {
            context.row_full(self.measure("residual", after / before))?;
        }
        Ok(())
    }

    /// Time and work as multiples of the reference's.
    fn ratios(&self, applied: &Applied, reference: &Reference, context: &mut TrialContext) -> Result<()> {
        let mut write = |metric: &str, value: f64, of: f64| match of > 0.0 {
            true => context.row_full(self.measure(metric, value / of)),
            false => Ok(()),
        };
        write("seconds_ratio", applied.seconds, reference.seconds)?;
        write("seconds_ratio_without_pictures", applied.seconds - applied.pictures, reference.seconds)?;
        write("flops_ratio", applied.flops, reference.flops)?;
        if let Some(matched) = &applied.matched {
            write("match_ratio", matched.seconds, reference.seconds)?;
            write("match_ratio_without_pictures", matched.seconds - applied.pictures, reference.seconds)?;
            write("match_flops_ratio", matched.flops, reference.flops)?;
        }
        Ok(())
    }
}

/// The layer whose matrix a method changed.
fn edited_layer(applied: &Applied) -> Option<usize> {
    let name = applied.changed.text.keys().next()?;
    name.strip_prefix("text_model.encoder.layers.")?.split('.').next()?.parse().ok()
}

/// The first picture of every set that is shown.
fn row(drawn: &[Drawn]) -> Result<Vec<Picture>> {
    let first = |one: &Drawn| sd_mini::stages::unet::to_pictures(&one.pixels.narrow(0, 0, 1)?);
    let rows: Vec<Vec<Picture>> = shown(drawn).map(first).collect::<Result<_>>()?;
    Ok(rows.concat())
}

fn shown(drawn: &[Drawn]) -> impl Iterator<Item = &Drawn> {
    drawn.iter().filter(|drawn| SHOWN.contains(&drawn.set))
}

/// The artifact `gallery.png`, a row a method, and what is seen.
fn write_gallery(
    item: &Item,
    rows: &[Vec<Picture>],
    names: &[String],
    drawn: &[Drawn],
    context: &mut TrialContext,
) -> Result<()> {
    context.artifact("gallery.png", &contact_sheet(rows, 1)?)?;
    let captions: Vec<&str> = shown(drawn).map(|drawn| drawn.asked[0].caption.as_str()).collect();
    let told = serde_json::json!({"edit": item.change.to_string(), "rows": names, "captions": captions});
    context.artifact("gallery.json", told.to_string().as_bytes())?;
    Ok(())
}
