//! A caption traced through the UNet.

use anyhow::Result;
use lab::paper::TrialContext;
use worlds::scenes::{Picture, contact_sheet};

use super::measured::Measured;
use super::{Bench, Case};
use crate::effects::Score;
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
        let measured = Measured::of(bench, case, &trace)?;
        let written = Written { case, half, trace: &trace, measured: &measured };
        if is_main {
            measured.write_caption(case, &trace, spec.corruption.std.unwrap_or(0.0), context)?;
            written.whole(context)?;
            if keep {
                written.gallery(context)?;
            }
        }
        written.restored(context)?;
    }
    Ok(())
}

fn spec(bench: &Bench, study: &UnetStudy, case: &Case, half: Half, controls: Vec<Control>) -> Result<Spec> {
    let mut settings = case.settings(&study.making);
    settings.half = half;
    settings.restored_steps = study.restored_steps.map(|[first, end]| first..end);
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
    case: &'a Case,
    half: Half,
    trace: &'a Trace,
    measured: &'a Measured,
}

impl Written<'_> {
    /// The runs in which no component is restored: the same in every half.
    fn whole(&self, context: &mut TrialContext) -> Result<()> {
        for (run, what) in self.trace.runs.iter().enumerate() {
            if !matches!(what, What::Component(..)) {
                let name = what.to_string();
                self.row(run, [&name, "none", "none"], context)?;
            }
        }
        Ok(())
    }

    fn restored(&self, context: &mut TrialContext) -> Result<()> {
        for (run, what) in self.trace.runs.iter().enumerate() {
            if let What::Component(component, control) = what {
                let name = component.to_string();
                self.row(run, [&name, component.part.name(), control.name()], context)?;
            }
        }
        Ok(())
    }

    fn row(
        &self,
        run: usize,
        [component, part, control]: [&str; 3],
        context: &mut TrialContext,
    ) -> Result<()> {
        let tags =
            [("component", component), ("part", part), ("control", control), ("half", self.half.name())];
        self.measured.write_run(self.trace, run, &tags, context)
    }

    /// Clean, corrupted, and the restored pictures of the components that recover most: the artifact `gallery.png`, and their names.
    fn gallery(&self, context: &mut TrialContext) -> Result<()> {
        const SHOWN: usize = 8;
        let restored = |run: &usize| matches!(&self.trace.runs[*run], What::Component(_, Control::Clean));
        let mut order: Vec<usize> = (0..self.trace.runs.len()).filter(restored).collect();
        let score = |run: usize| self.measured.score(Score::Clip, run).unwrap_or(f64::NEG_INFINITY);
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
