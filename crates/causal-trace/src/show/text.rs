//! What restoring states of the text encoder shows.

use std::collections::{BTreeMap, BTreeSet};

use lab::figure::{Axis, Content, Figure, Panel};
use lab::paper::Presentation;
use lab::row::Rows;
use lab::stats;
use lab::table::{Cell, Table, columns};

use super::{label, over_captions};
use crate::effects::{FIRST, Score, State, state};
use crate::experiment::{TextStudy, TraceExperiment};

pub(super) fn show(
    experiment: &TraceExperiment,
    name: &str,
    study: &TextStudy,
    rows: &Rows<'_>,
    shown: &mut Presentation,
) {
    shown.tables.push(states(experiment, name, study, rows));
    let maps = maps(experiment, name, study, rows);
    // Attributes none of whose captions is kept have no panel.
    if !maps.panels.is_empty() {
        shown.figures.push(maps);
    }
}

/// Places of tokens in the order of a caption.
fn tokens(rows: &Rows<'_>, arm: &str) -> Vec<String> {
    let found: BTreeSet<&String> =
        rows.select("recovery_clip", arm, &[]).filter_map(|row| row.tags.get("token")).collect();
    let place = |token: &&String| match token.as_str() {
        "end" => 1000,
        "last subject" => 0,
        other => other.trim_start_matches("last subject ").parse::<i64>().unwrap_or(500),
    };
    let mut ordered: Vec<&String> = found.into_iter().collect();
    ordered.sort_by_key(place);
    ordered.into_iter().cloned().collect()
}

fn layers(rows: &Rows<'_>, arm: &str) -> usize {
    let layer = |row: &lab::row::Row| row.tags.get("layer")?.parse::<usize>().ok();
    rows.select("recovery_clip", arm, &[]).filter_map(layer).max().map_or(0, |last| last + 1)
}

fn maps(experiment: &TraceExperiment, name: &str, study: &TextStudy, rows: &Rows<'_>) -> Figure {
    let mut panels = Vec::new();
    for arm in &study.arms {
        let (tokens, layers) = (tokens(rows, arm), layers(rows, arm));
        if tokens.is_empty() {
            continue;
        }
        for part in &study.parts {
            let value = |layer: usize, token: &String| {
                let layer = layer.to_string();
                let tags = [("part", part.name()), ("layer", layer.as_str()), ("token", token.as_str())];
                stats::mean(&rows.values("recovery_clip", arm, &tags)).ok()
            };
            panels.push(Panel {
                title: format!("{}: {}", label(experiment, arm), part.name()),
                x: Axis { label: "token".to_owned(), ..Axis::default() },
                y: Axis { label: "recovery of the CLIP-Score".to_owned(), ..Axis::default() },
                content: Content::Heat {
                    rows: (0..layers).map(|layer| format!("layer {layer}")).collect(),
                    columns: tokens.iter().map(|token| token.replace("last subject", "last")).collect(),
                    values: (0..layers)
                        .map(|layer| tokens.iter().map(|token| value(layer, token)).collect())
                        .collect(),
                },
            });
        }
    }
    Figure {
        id: format!("{name}_states"),
        title: "What restoring one state of the text encoder brings back".to_owned(),
        caption: "Mean recovery over the kept captions. Tokens are counted from the last subject token; `end` is end-of-text, which every \
                  caption has, while few have a token far behind the subject."
            .to_owned(),
        panels,
        columns: study.parts.len().clamp(1, 3),
    }
}

/// Share of the kept captions, seeds averaged, for which the first self-attention at the last subject token is the only state above the
/// threshold; blocks, which carry the whole stream, are left out.
fn only_first(study: &TextStudy, rows: &Rows<'_>, arm: &str, score: Score) -> Option<stats::Interval> {
    let mut captions: BTreeMap<&str, BTreeMap<State<'_>, Vec<f64>>> = BTreeMap::new();
    for row in rows.select(score.recovery(), arm, &[]) {
        let state = state(&row.tags);
        if state[0] != "block" && state[0] != "none" {
            captions.entry(&row.case).or_default().entry(state).or_default().push(row.value);
        }
    }
    let is_above = |values: &[f64]| stats::mean(values).is_ok_and(|mean| mean > study.above);
    let is_only = |states: &BTreeMap<State<'_>, Vec<f64>>| {
        states.contains_key(&FIRST)
            && states.iter().all(|(state, values)| is_above(values) == (*state == FIRST))
    };
    let hits = captions.values().filter(|states| is_only(states)).count();
    stats::wilson(hits, captions.len(), 0.95).ok()
}

fn states(experiment: &TraceExperiment, name: &str, study: &TextStudy, rows: &Rows<'_>) -> Table {
    let line = |(arm, score): (&String, Score)| {
        let tags = [("score", score.name()), ("attribute", arm.as_str())];
        let of = |what: &str| over_captions(rows, "state_recovery", what, &tags);
        let first = of("first_attention");
        let [mean, low, high] = Cell::interval(first, 3);
        let [other, other_low, other_high] = Cell::interval(of("other_state"), 3);
        let [mlp, mlp_low, mlp_high] = Cell::interval(of("mlp_state"), 3);
        let [share, share_low, share_high] = Cell::interval(only_first(study, rows, arm, score), 3);
        let one = |metric: &str| stats::mean(&rows.values(metric, arm, &[("score", score.name())])).ok();
        vec![
            Cell::from(label(experiment, arm).as_str()),
            Cell::from(score.name()),
            Cell::Number(first.map_or(0, |first| first.n) as f64, 0),
            mean,
            low,
            high,
            other,
            other_low,
            other_high,
            mlp,
            mlp_low,
            mlp_high,
            share,
            share_low,
            share_high,
            Cell::number(one("best_is_first_attention"), 3),
            Cell::number(one("causal_states"), 2),
            Cell::number(one("causal_mlps"), 2),
        ]
    };
    Table {
        id: format!("{name}_states"),
        title: "States of the text encoder".to_owned(),
        caption: format!(
            "Recovery where the output of the first self-attention at the last subject token is restored (the paper's only causal \
             state), of the strongest other state and of the strongest MLP (those of the largest mean, one state for all captions), with 95 % \
             bootstrap intervals over captions; of how many captions (seeds averaged) that first state is the only one above {0}, with Wilson's interval: \
             the paper's statement, caption by caption; how often it is the best of all states of a caption and above; and how many states, and MLPs among them, exceed {0} for a caption.",
            study.above
        ),
        columns: columns(&[
            "attribute",
            "score",
            "n",
            "first_attention",
            "ci_low",
            "ci_high",
            "other_state",
            "other_low",
            "other_high",
            "mlp_state",
            "mlp_low",
            "mlp_high",
            "only_first",
            "only_low",
            "only_high",
            "first_is_best",
            "causal_states",
            "causal_mlps",
        ]),
        rows: study.arms.iter().flat_map(|arm| Score::ALL.map(|score| (arm, score))).map(line).collect(),
    }
}
