//! A caption traced through the UNet.

use anyhow::Result;
use lab::paper::TrialContext;
use lab::trial::Measure;
use worlds::scenes::{Picture, contact_sheet};

use super::measured::{Effects, Score, mean};
use super::{Bench, Case};
use crate::components::{Component, Group, Part};
use crate::experiment::UnetStudy;
use crate::lockstep::Half;
use crate::trace::{CLEAN, CORRUPTED, Control, Spec, Targets, Trace, What, trace_told};

pub(super) fn run(
    bench: &Bench,
    study: &UnetStudy,
    case: &Case,
    keep: bool,
    context: &mut TrialContext,
) -> Result<()> {
    let halves = study.halves.len();
    for (index, &half) in study.halves.iter().enumerate() {
        let is_main = index == 0;
        let controls = if is_main { study.controls.clone() } else { vec![Control::Clean] };
        let spec = spec(bench, study, case, half, controls)?;
        let mut told = |share: f64| context.progress((index as f64 + share) / halves as f64, half.name());
        let trace = trace_told(&bench.model, &case.probe.caption, &spec, &mut told)?;
        let effects = Effects::of(bench, case, &trace, &study.captions)?;
        let written = Written { study, case, trace: &trace, effects: &effects };
        if is_main {
            effects.write_caption(&trace, spec.corruption.std.unwrap_or(0.0), context)?;
            written.runs(context)?;
            written.derived(context)?;
            if keep {
                written.gallery(context)?;
            }
        }
        if halves > 1 {
            written.half(half, context)?;
        }
    }
    Ok(())
}

fn spec(bench: &Bench, study: &UnetStudy, case: &Case, half: Half, controls: Vec<Control>) -> Result<Spec> {
    let mut settings = case.settings(&study.making);
    settings.half = half;
    let targets = Targets::Unet { reading: study.reading, only: Vec::new(), window: study.window, controls };
    Ok(Spec {
        corruption: case.corruption(&bench.model, &study.making)?,
        settings,
        targets,
        foreign: Some(case.probe.foreign.text.clone()),
    })
}

/// What of a trace becomes rows.
struct Written<'a> {
    study: &'a UnetStudy,
    case: &'a Case,
    trace: &'a Trace,
    effects: &'a Effects,
}

impl Written<'_> {
    /// Recoveries of the components restored from `control`.
    fn recoveries(&self, score: Score, control: Control) -> Vec<(Component, f64)> {
        let one = |(run, what): (usize, &'_ What)| match what {
            What::Component(component, from) if *from == control => {
                Some((component.clone(), self.effects.recovery(score, run)?))
            }
            _ => None,
        };
        self.trace.runs.iter().enumerate().filter_map(one).collect()
    }

    /// The same without the last level: near the output restoring is copying the clean prediction (trap T4), or the foreign one.
    fn inner(&self, score: Score, control: Control) -> Vec<(Component, f64)> {
        let is_inner = |component: &Component| !component.site.path().starts_with("up_blocks.3");
        self.recoveries(score, control).into_iter().filter(|(component, _)| is_inner(component)).collect()
    }

    fn runs(&self, context: &mut TrialContext) -> Result<()> {
        for (run, what) in self.trace.runs.iter().enumerate() {
            let (component, part, control) = match what {
                What::Component(component, control) => {
                    (component.to_string(), component.part.name(), control.name())
                }
                other => (other.to_string(), "none", "none"),
            };
            let tags = [("component", component.as_str()), ("part", part), ("control", control)];
            self.effects.write_run(self.trace, run, &tags, context)?;
        }
        Ok(())
    }

    /// What claims are judged by: numbers of this caption and seed.
    fn derived(&self, context: &mut TrialContext) -> Result<()> {
        for score in self.effects.scores() {
            let attribute = self.case.arm.as_str();
            let row = |metric: &str, arm: Option<&str>, value: f64| {
                let row = Measure::new(metric, value).tag("score", score.name());
                match arm {
                    Some(arm) => row.arm(arm).tag("attribute", attribute),
                    None => row,
                }
            };
            for &control in &self.study.controls {
                let all = self.inner(score, control);
                if let Some(value) = mean(all.iter().map(|(_, recovery)| *recovery)) {
                    context.row_full(row("mean_recovery", Some(control.name()), value))?;
                }
                let best = all.iter().map(|(_, recovery)| *recovery).max_by(f64::total_cmp);
                if let Some(best) = best.filter(|_| control != Control::Noising) {
                    context.row_full(row("best_recovery", Some(control.name()), best))?;
                }
            }
            let all = self.inner(score, Control::Clean);
            if all.is_empty() {
                continue;
            }
            for part in Part::ALL {
                let of_part = all.iter().filter(|(component, _)| component.part == part);
                if let Some(value) = mean(of_part.map(|(_, recovery)| *recovery)) {
                    context.row_full(row("part_recovery", Some(part.name()), value))?;
                }
            }
            let foreign = self.inner(score, Control::Foreign);
            let of_foreign = |component: &Component| {
                foreign.iter().find(|(other, _)| other == component).map(|(_, recovery)| *recovery)
            };
            let is_causal = |(component, recovery): &(Component, f64)| {
                *recovery > self.study.above
                    && of_foreign(component).is_none_or(|foreign| *recovery > foreign)
            };
            for group in Group::ALL {
                let of_group = all.iter().filter(|(component, _)| component.group == group);
                if let Some(value) = mean(of_group.map(|one| f64::from(u8::from(is_causal(one))))) {
                    context.row_full(row("causal_share", Some(group.name()), value))?;
                }
            }
            let causal: Vec<&Component> =
                all.iter().filter(|one| is_causal(one)).map(|(component, _)| component).collect();
            let groups = Group::ALL.into_iter().filter(|&group| causal.iter().any(|one| one.group == group));
            context.row_full(row("causal_components", None, causal.len() as f64))?;
            context.row_full(row("causal_groups", None, groups.count() as f64))?;
        }
        Ok(())
    }

    /// How much restoring this half does, all components but the last level's averaged.
    fn half(&self, half: Half, context: &mut TrialContext) -> Result<()> {
        for score in self.effects.scores() {
            let all = self.inner(score, Control::Clean);
            if let Some(value) = mean(all.iter().map(|(_, recovery)| *recovery)) {
                let row = Measure::new("half_recovery", value).arm(half.name());
                context.row_full(row.tag("score", score.name()).tag("attribute", self.case.arm.clone()))?;
            }
        }
        Ok(())
    }

    /// Clean, corrupted, and the restored pictures of the components that recover most: the artifact `gallery.png`, and their names.
    fn gallery(&self, context: &mut TrialContext) -> Result<()> {
        const SHOWN: usize = 8;
        let restored = |run: &usize| matches!(&self.trace.runs[*run], What::Component(_, Control::Clean));
        let mut order: Vec<usize> = (0..self.trace.runs.len()).filter(restored).collect();
        let score = |run: usize| self.effects.score(Score::Clip, run).unwrap_or(f64::NEG_INFINITY);
        order.sort_by(|&a, &b| score(b).total_cmp(&score(a)));
        order.truncate(SHOWN);
        order.splice(0..0, [CLEAN, CORRUPTED]);
        let (_, height, width, _) = self.trace.pixels.dims4()?;
        if height != width {
            return Ok(());
        }
        let all = sd_mini::stages::unet::to_pictures(&self.trace.pixels)?;
        let row: Vec<Picture> = order.iter().map(|&run| all[run].clone()).collect();
        context.artifact("gallery.png", &contact_sheet(&[row], 1)?)?;
        let names: Vec<String> = order.iter().map(|&run| self.trace.runs[run].to_string()).collect();
        let told = serde_json::json!({"caption": self.case.probe.caption.text, "subject": self.case.probe.caption.subject, "runs": names});
        context.artifact("gallery.json", told.to_string().as_bytes())?;
        Ok(())
    }
}
