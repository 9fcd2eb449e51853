//! How much noise it takes.

use std::collections::BTreeMap;

use lab::figure::{Axis, Content, Figure, Panel, Series};
use lab::paper::Presentation;
use lab::row::Rows;
use lab::stats::bootstrap_mean;
use lab::table::{Cell, Table, columns};

use super::label;
use crate::corruption::Sigma;
use crate::experiment::{SweepStudy, TraceExperiment};
use crate::sets::by_case;

pub(super) fn show(
    experiment: &TraceExperiment,
    name: &str,
    study: &SweepStudy,
    rows: &Rows<'_>,
    shown: &mut Presentation,
) {
    shown.figures.push(figure(experiment, name, study, rows));
    shown.tables.push(table(experiment, name, study, rows));
}

/// Values of a metric by noise, those in standard deviations: of each caption, its seeds averaged.
fn by_noise(rows: &Rows<'_>, metric: &str, arm: &str, unit: &str) -> Vec<(f64, Vec<f64>)> {
    let mut found: BTreeMap<u64, BTreeMap<(&str, u64), f64>> = BTreeMap::new();
    for row in rows.select(metric, arm, &[("unit", unit)]) {
        if let Some(at) = row.at {
            found.entry(at.to_bits()).or_default().insert((row.case.as_str(), row.seed), row.value);
        }
    }
    let of = |(at, units)| (f64::from_bits(at), by_case(&units).into_values().collect());
    let mut found: Vec<(f64, Vec<f64>)> = found.into_iter().map(of).collect();
    found.sort_by(|a, b| a.0.total_cmp(&b.0));
    found
}

/// The smallest noise whose mean total effect reaches 80 % of the largest (specification, section 2.2); none where none has any.
fn chosen(effects: &[(f64, Vec<f64>)]) -> Option<f64> {
    let means: Vec<(f64, f64)> =
        effects.iter().filter_map(|(at, values)| Some((*at, lab::stats::mean(values).ok()?))).collect();
    let plateau = means.iter().map(|(_, mean)| *mean).max_by(f64::total_cmp).filter(|most| *most > 0.0)?;
    means.into_iter().find(|(_, mean)| *mean >= 0.8 * plateau).map(|(at, _)| at)
}

fn figure(experiment: &TraceExperiment, name: &str, study: &SweepStudy, rows: &Rows<'_>) -> Figure {
    let series = |metric: &str| -> Vec<Series> {
        let one = |arm: &String| {
            let points: Vec<(f64, lab::stats::Interval)> = by_noise(rows, metric, arm, "std")
                .into_iter()
                .filter_map(|(at, values)| Some((at, bootstrap_mean(&values)?)))
                .collect();
            Series {
                label: label(experiment, arm),
                band: points.iter().map(|(_, interval)| (interval.low, interval.high)).collect(),
                points: points.into_iter().map(|(at, interval)| (at, interval.estimate)).collect(),
                scatter: false,
            }
        };
        study.arms.iter().map(one).collect()
    };
    let panel = |title: &str, metric: &str, unit: &str| Panel {
        title: title.to_owned(),
        x: Axis {
            label: "σ in standard deviations of the subjects' embeddings".to_owned(),
            ..Axis::default()
        },
        y: Axis { label: unit.to_owned(), ..Axis::default() },
        content: Content::Lines(series(metric)),
    };
    Figure {
        id: format!("{name}_sigma"),
        title: "How much noise it takes to destroy a subject".to_owned(),
        caption: "Mean over captions, bands 95 % bootstrap intervals over them.".to_owned(),
        panels: vec![
            panel("Total effect on the CLIP-Score", "sweep_total_effect_clip", "S(clean) − S(corrupted)"),
            panel(
                "Attribute still found by the classifier",
                "sweep_corrupted_right",
                "share of corrupted pictures",
            ),
        ],
        columns: 2,
    }
}

fn table(experiment: &TraceExperiment, name: &str, study: &SweepStudy, rows: &Rows<'_>) -> Table {
    let mut lines = Vec::new();
    for arm in &study.arms {
        let chosen = chosen(&by_noise(rows, "sweep_total_effect_clip", arm, "std"));
        for sigma in &study.sigmas {
            let (unit, at) = match sigma {
                Sigma::Absolute(at) => ("abs", at),
                Sigma::Deviations(at) => ("std", at),
            };
            let of = |metric: &str| {
                let found = by_noise(rows, metric, arm, unit).into_iter().find(|(other, _)| other == at);
                found.and_then(|(_, values)| bootstrap_mean(&values))
            };
            let effect = of("sweep_total_effect_clip");
            let [mean, low, high] = Cell::interval(effect, 4);
            lines.push(vec![
                Cell::from(label(experiment, arm).as_str()),
                Cell::from(sigma.to_string().as_str()),
                Cell::number(of("sweep_sigma").map(|interval| interval.estimate), 4),
                mean,
                low,
                high,
                Cell::number(of("sweep_corrupted_right").map(|interval| interval.estimate), 3),
                match *sigma == Sigma::Deviations(chosen.unwrap_or(f64::NAN)) {
                    true => Cell::from("smallest of 80 % of the plateau"),
                    false => Cell::Missing,
                },
            ]);
        }
    }
    Table {
        id: format!("{name}_sigma"),
        title: "Noise and its effect".to_owned(),
        caption: "σ as asked and in the units of the embeddings; total effect in cosines with a 95 % bootstrap interval over captions; how often the classifier \
                  still finds the attribute."
            .to_owned(),
        columns: columns(&["attribute", "sigma", "absolute", "total_effect", "ci_low", "ci_high", "corrupted_right", "chosen"]),
        rows: lines,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_noise_of_the_plateau_is_chosen() {
        let of = |means: &[f64]| -> Vec<(f64, Vec<f64>)> {
            means.iter().enumerate().map(|(at, mean)| (at as f64, vec![mean - 0.1, mean + 0.1])).collect()
        };
        assert_eq!(chosen(&of(&[0.1, 0.5, 0.85, 1.0, 0.95])), Some(2.0));
        assert_eq!(chosen(&of(&[-0.3, -0.1])), None);
        assert_eq!(chosen(&[]), None);
    }
}
