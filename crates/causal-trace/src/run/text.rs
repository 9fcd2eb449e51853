//! A caption traced through the text encoder.

use anyhow::Result;
use lab::paper::TrialContext;
use lab::trial::Measure;

use super::measured::Effects;
use super::{Bench, Case};
use crate::caption::Read;
use crate::components::{TextPart, TextState};
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
    let captions = &study.captions;
    let effects = Effects::of(bench, case, &trace, captions)?;
    effects.write_caption(&trace, spec.corruption.std.unwrap_or(0.0), context)?;
    for (run, what) in trace.runs.iter().enumerate() {
        let (part, layer, token) = match what {
            What::Text(state) => {
                (state.part.name(), state.layer.to_string(), label(&trace.read, state.token))
            }
            other => ("none", "none".to_owned(), other.to_string()),
        };
        let tags = [("part", part), ("layer", layer.as_str()), ("token", token.as_str())];
        effects.write_run(&trace, run, &tags, context)?;
    }
    for score in effects.scores() {
        let states: Vec<(TextState, f64)> = trace
            .runs
            .iter()
            .enumerate()
            .filter_map(|(run, what)| match what {
                What::Text(state) => Some((*state, effects.recovery(score, run)?)),
                _ => None,
            })
            .collect();
        derived(study, case, &trace.read, score.name(), &states, context)?;
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

/// What claims are judged by: numbers of this caption and seed.
fn derived(
    study: &TextStudy,
    case: &Case,
    read: &Read,
    score: &str,
    states: &[(TextState, f64)],
    context: &mut TrialContext,
) -> Result<()> {
    let branches = || states.iter().filter(|(state, _)| state.part != TextPart::Block);
    let Some(&(ref best, recovery)) = branches().max_by(|a, b| a.1.total_cmp(&b.1)) else { return Ok(()) };
    let claimed = TextState { part: TextPart::SelfAttn, layer: 0, token: read.last_subject() };
    let attribute = case.arm.as_str();
    let row = |metric: &str, value: f64| Measure::new(metric, value).tag("score", score);
    let is_claimed = *best == claimed && recovery > study.above;
    context.row_full(row("best_is_first_attention", f64::from(u8::from(is_claimed))))?;
    let above = branches().filter(|(_, recovery)| *recovery > study.above);
    context.row_full(row("causal_states", above.clone().count() as f64))?;
    let mlps = above.filter(|(state, _)| state.part == TextPart::Mlp).count();
    context.row_full(row("causal_mlps", mlps as f64))?;
    let arm = |name: &str, value: f64| row("state_recovery", value).arm(name).tag("attribute", attribute);
    if let Some((_, recovery)) = states.iter().find(|(state, _)| *state == claimed) {
        context.row_full(arm("first_attention", *recovery))?;
    }
    for part in [TextPart::SelfAttn, TextPart::Mlp] {
        let most = states.iter().filter(|(state, _)| state.part == part).map(|(_, recovery)| *recovery);
        if let Some(most) = most.max_by(f64::total_cmp) {
            context.row_full(arm(part.name(), most))?;
        }
    }
    Ok(())
}
