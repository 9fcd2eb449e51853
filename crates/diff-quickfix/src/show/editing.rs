//! What editing one concept does, by method.

use lab::figure::{Axis, Content, Estimate, Figure, Panel, Series};
use lab::paper::Presentation;
use lab::row::Rows;
use lab::stats::{self, bootstrap_mean};
use lab::table::{Cell, Table, columns};

use super::{label, median};
use crate::experiment::{EditingStudy, QuickfixExperiment};
use crate::methods::Method;
use crate::suites::{Set, Suite};

pub(super) fn show(
    experiment: &QuickfixExperiment,
    name: &str,
    study: &EditingStudy,
    rows: &Rows<'_>,
    shown: &mut Presentation,
) {
    shown.tables.push(methods(experiment, name, study, rows));
    shown.tables.push(suites(experiment, name, study, rows));
    shown.tables.push(sets(experiment, name, study, rows));
    shown.tables.push(work(experiment, name, study, rows));
    shown.figures.extend(quality(experiment, name, study, rows));
    shown.figures.extend(tradeoff(experiment, name, study, rows));
    shown.figures.extend(times(experiment, name, study, rows));
}

/// The arms that edit.
fn edited<'a>(
    experiment: &'a QuickfixExperiment,
    study: &'a EditingStudy,
) -> impl Iterator<Item = &'a String> {
    study.arms.iter().filter(|arm| experiment.arms[*arm].method != Method::Unedited)
}

fn methods(experiment: &QuickfixExperiment, name: &str, study: &EditingStudy, rows: &Rows<'_>) -> Table {
    let line = |arm: &String| {
        let [efficacy, low, high] = Cell::interval(bootstrap_mean(&rows.values("efficacy", arm, &[])), 3);
        let one = |metric: &str| stats::mean(&rows.values(metric, arm, &[])).ok();
        vec![
            Cell::from(label(experiment, arm).as_str()),
            Cell::Number(rows.values("efficacy", arm, &[]).len() as f64, 0),
            efficacy,
            low,
            high,
            Cell::number(one("generality"), 3),
            Cell::number(one("specificity"), 3),
            Cell::number(one("unrelated_right"), 3),
            Cell::number(one("anchor_right"), 3),
            Cell::number(one("interference"), 4),
            Cell::number(one("leakage"), 4),
            Cell::number(one("cosine_drop"), 4),
        ]
    };
    Table {
        id: format!("{name}_methods"),
        title: format!("Methods, study `{name}`"),
        caption: "Means over edits and seeds. Efficacy: share of the phrase's pictures without the concept, with a 95 % bootstrap interval; \
                  generality: the same in other words and with the concept first; specificity: share of surrounding concepts that are still \
                  drawn; unrelated and anchor: share of pictures that show all that their captions say; interference: root of the mean \
                  squared difference to the unedited model's picture of the same noise, unrelated captions; leakage: ‖ΔW k‖/‖W₀ k‖ over them; \
                  drop of the judge's cosine with the concept's caption."
            .to_owned(),
        columns: columns(&[
            "method",
            "n",
            "efficacy",
            "ci_low",
            "ci_high",
            "generality",
            "specificity",
            "unrelated_right",
            "anchor_right",
            "interference",
            "leakage",
            "cosine_drop",
        ]),
        rows: study.arms.iter().map(line).collect(),
    }
}

fn suites(experiment: &QuickfixExperiment, name: &str, study: &EditingStudy, rows: &Rows<'_>) -> Table {
    let mut lines = Vec::new();
    for arm in &study.arms {
        for suite in Suite::ALL {
            let tags = [("suite", suite.name())];
            let values = rows.values("efficacy", arm, &tags);
            if values.is_empty() {
                continue;
            }
            let one = |metric: &str| stats::mean(&rows.values(metric, arm, &tags)).ok();
            let phrase = [("suite", suite.name()), ("set", "phrase")];
            lines.push(vec![
                Cell::from(label(experiment, arm).as_str()),
                Cell::from(suite.name()),
                Cell::Number(values.len() as f64, 0),
                Cell::number(stats::mean(&values).ok(), 3),
                Cell::number(stats::mean(&rows.values("new_found", arm, &phrase)).ok(), 3),
                Cell::number(one("generality"), 3),
                Cell::number(one("specificity"), 3),
                Cell::number(one("concept_shown"), 3),
            ]);
        }
    }
    Table {
        id: format!("{name}_suites"),
        title: format!("Kinds of concepts, study `{name}`"),
        caption: "As before, by kind of concept; `new_found`: share of the phrase's pictures that show what the concept is to act as; \
                  `concept_shown`: share in which the unedited model draws the concept."
            .to_owned(),
        columns: columns(&[
            "method",
            "suite",
            "n",
            "efficacy",
            "new_found",
            "generality",
            "specificity",
            "concept_shown",
        ]),
        rows: lines,
    }
}

fn sets(experiment: &QuickfixExperiment, name: &str, study: &EditingStudy, rows: &Rows<'_>) -> Table {
    let mut lines = Vec::new();
    for arm in &study.arms {
        for set in Set::ALL {
            let tags = [("set", set.name())];
            let one = |metric: &str| stats::mean(&rows.values(metric, arm, &tags)).ok();
            if one("distance").is_none() {
                continue;
            }
            lines.push(vec![
                Cell::from(label(experiment, arm).as_str()),
                Cell::from(set.name()),
                Cell::number(one("old_found"), 3),
                Cell::number(one("new_found"), 3),
                Cell::number(one("distance"), 4),
                Cell::number(one("cosine"), 4),
            ]);
        }
    }
    Table {
        id: format!("{name}_sets"),
        title: format!("Sets of captions, study `{name}`"),
        caption: "Share of pictures that show the concept and what it is to act as; distance to the unedited model's pictures; cosine of each \
                  picture and its own caption by the judge."
            .to_owned(),
        columns: columns(&["method", "set", "old_found", "new_found", "distance", "cosine"]),
        rows: lines,
    }
}

fn work(experiment: &QuickfixExperiment, name: &str, study: &EditingStudy, rows: &Rows<'_>) -> Table {
    let line = |arm: &String| {
        let of = |metric: &str| median(rows.values(metric, arm, &[]));
        let text =
            |value: Option<f64>| value.map_or(Cell::Missing, |value| Cell::Text(format!("{value:.3e}")));
        vec![
            Cell::from(label(experiment, arm).as_str()),
            Cell::number(of("seconds"), 4),
            Cell::number(of("picture_seconds"), 2),
            text(of("flops")),
            Cell::number(of("iterations"), 0),
            Cell::number(stats::mean(&rows.values("arrived", arm, &[])).ok(), 2),
            Cell::number(of("iterations_to_match"), 0),
            Cell::number(of("seconds_to_match"), 4),
            Cell::number(of("match_ratio"), 1),
            Cell::number(of("match_ratio_without_pictures"), 1),
            text(of("match_flops_ratio")),
            Cell::number(of("parameters"), 0),
            Cell::number(of("seconds_ratio"), 1),
            Cell::number(of("seconds_ratio_without_pictures"), 1),
            text(of("flops_ratio")),
        ]
    };
    Table {
        id: format!("{name}_work"),
        title: format!("Time and work, study `{name}`"),
        caption: "Medians over edits and seeds. Seconds of the method on the CPU, its own pictures of the anchor among them, loading and judging \
                  left out; floating-point operations, a multiply-accumulate as two; steps of a training, how often it erased as much as the \
                  reference by its last step, steps and seconds until it first did (all of it where it never did), and that as a multiple of the \
                  reference's time and work; numbers that it changes; ratios of the whole to the reference, the first method that edits. All \
                  ratios depend on the sizes of the denoiser and the text encoder: they are not Stable Diffusion's."
            .to_owned(),
        columns: columns(&[
            "method",
            "seconds",
            "picture_seconds",
            "flops",
            "iterations",
            "arrived",
            "iterations_to_match",
            "seconds_to_match",
            "match_ratio",
            "match_ratio_without_pictures",
            "match_flops_ratio",
            "parameters",
            "seconds_ratio",
            "seconds_ratio_without_pictures",
            "flops_ratio",
        ]),
        rows: edited(experiment, study).map(line).collect(),
    }
}

/// Efficacy, generality and specificity side by side.
fn quality(
    experiment: &QuickfixExperiment,
    name: &str,
    study: &EditingStudy,
    rows: &Rows<'_>,
) -> Option<Figure> {
    let panel = |(title, metric): (&str, &str)| {
        let one = |arm: &String| {
            let values = rows.values(metric, arm, &[]);
            let interval = bootstrap_mean(&values)?;
            Some(Estimate {
                label: label(experiment, arm),
                value: interval.estimate,
                interval: (interval.n > 1).then_some((interval.low, interval.high)),
                samples: values,
                published: None,
            })
        };
        let estimates: Vec<Estimate> = study.arms.iter().filter_map(one).collect();
        (!estimates.is_empty()).then(|| Panel {
            title: title.to_owned(),
            x: Axis { label: "share of pictures".to_owned(), range: Some((0.0, 1.0)), log: false },
            y: Axis::default(),
            content: Content::Intervals(estimates),
        })
    };
    let panels: Vec<Panel> = [
        ("Efficacy: the concept is gone", "efficacy"),
        ("Generality: gone in other words", "generality"),
        ("Specificity: surrounding concepts stay", "specificity"),
        ("Unrelated captions are still followed", "unrelated_right"),
    ]
    .into_iter()
    .filter_map(panel)
    .collect();
    (!panels.is_empty()).then(|| Figure {
        id: format!("{name}_quality"),
        title: format!("What an edit does, study `{name}`"),
        caption: "Means over edits and seeds with 95 % bootstrap intervals; small marks are single edits."
            .to_owned(),
        panels,
        columns: 2,
    })
}

/// Efficacy against interference; methods that differ in λ alone are joined.
fn tradeoff(
    experiment: &QuickfixExperiment,
    name: &str,
    study: &EditingStudy,
    rows: &Rows<'_>,
) -> Option<Figure> {
    let point = |arm: &String| {
        let mean = |metric: &str| stats::mean(&rows.values(metric, arm, &[])).ok();
        Some((mean("interference")?, mean("efficacy")?))
    };
    let lambda = |arm: &String| match &experiment.arms[arm].method {
        Method::DiffQuickfix(settings) => Some(settings.lambda),
        _ => None,
    };
    let arms: Vec<&String> = edited(experiment, study).collect();
    let lambdas: Vec<Option<f64>> = arms.iter().map(|arm| lambda(arm)).collect();
    let is_sweep =
        lambdas.len() > 2 && lambdas.windows(2).all(|pair| pair[0].is_some() && pair[0] != pair[1]);
    let mut series: Vec<Series> = arms
        .iter()
        .filter_map(|arm| {
            Some(Series {
                label: label(experiment, arm),
                points: vec![point(arm)?],
                band: Vec::new(),
                scatter: true,
            })
        })
        .collect();
    if is_sweep {
        let mut joined: Vec<(f64, f64)> = arms.iter().filter_map(|arm| point(arm)).collect();
        joined.sort_by(|a, b| a.0.total_cmp(&b.0));
        series.push(Series { label: "λ".to_owned(), points: joined, band: Vec::new(), scatter: false });
    }
    (!series.is_empty()).then(|| Figure {
        id: format!("{name}_tradeoff"),
        title: format!("Efficacy against interference, study `{name}`"),
        caption: "Means over edits and seeds. Right: more change where none was asked for. Up: more of the concept gone.".to_owned(),
        panels: vec![Panel {
            title: String::new(),
            x: Axis { label: "interference: distance to the unedited picture, unrelated captions".to_owned(), ..Axis::default() },
            y: Axis { label: "efficacy".to_owned(), range: Some((0.0, 1.05)), log: false },
            content: Content::Lines(series),
        }],
        columns: 1,
    })
}

fn times(
    experiment: &QuickfixExperiment,
    name: &str,
    study: &EditingStudy,
    rows: &Rows<'_>,
) -> Option<Figure> {
    let panel = |title: &str, metric: &str, unit: &str| {
        let one = |arm: &String| {
            let values: Vec<f64> =
                rows.values(metric, arm, &[]).into_iter().filter(|value| *value > 0.0).collect();
            Some(Estimate {
                label: label(experiment, arm),
                value: median(values.clone())?,
                interval: None,
                samples: values,
                published: None,
            })
        };
        let estimates: Vec<Estimate> = edited(experiment, study).filter_map(one).collect();
        (!estimates.is_empty()).then(|| Panel {
            title: title.to_owned(),
            x: Axis { label: unit.to_owned(), range: None, log: true },
            y: Axis::default(),
            content: Content::Intervals(estimates),
        })
    };
    let panels: Vec<Panel> = [
        panel("Time of an edit", "seconds", "seconds on the CPU"),
        panel("Until it first erases as much as the reference", "seconds_to_match", "seconds on the CPU"),
        panel("Work of an edit", "flops", "floating-point operations"),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!panels.is_empty()).then(|| Figure {
        id: format!("{name}_times"),
        title: format!("What an edit takes, study `{name}`"),
        caption: "Medians over edits and seeds; small marks are single edits.".to_owned(),
        panels,
        columns: 2,
    })
}
