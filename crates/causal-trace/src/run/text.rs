//! A caption traced through the text encoder.

use anyhow::Result;
use lab::paper::TrialContext;

use super::measured::Measured;
use super::{Bench, Case};
use crate::caption::Read;
use crate::experiment::TextStudy;
use crate::trace::{Spec, Targets, What, trace_told};

pub(super) fn run(bench: &Bench, study: &TextStudy, case: &Case, context: &mut TrialContext) -> Result<()> {
    let spec = Spec {
        corruption: case.corruption(&bench.model, &study.making)?,
        settings: case.settings(&study.making),
        targets: Targets::Text { parts: study.parts.clone(), tokens: Vec::new() },
        foreign: None,
    };
    let mut told = |share: f64| context.progress(share, "text encoder");
    let trace = trace_told(&bench.model, &case.probe.caption, &spec, &mut told)?;
    let measured = Measured::of(bench, case, &trace)?;
    measured.write_caption(case, &trace, spec.corruption.std.unwrap_or(0.0), context)?;
    for (run, what) in trace.runs.iter().enumerate() {
        let (part, layer, token) = match what {
            What::Text(state) => {
                (state.part.name(), state.layer.to_string(), label(&trace.read, state.token))
            }
            other => ("none", "none".to_owned(), other.to_string()),
        };
        let tags = [("part", part), ("layer", layer.as_str()), ("token", token.as_str())];
        measured.write_run(&trace, run, &tags, context)?;
    }
    Ok(())
}

/// How a token's place is called: counted from the last subject token, whatever the caption.
pub(crate) fn label(read: &Read, token: usize) -> String {
    let last = read.last_subject();
    match token {
        _ if token == read.end => "end".to_owned(),
        _ if token == last => "last subject".to_owned(),
        _ if token < last => format!("last subject -{}", last - token),
        _ => format!("+{}", token - last),
    }
}
