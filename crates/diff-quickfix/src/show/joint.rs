//! What editing many concepts at once does.

use lab::figure::{Axis, Content, Figure, Panel, Series};
use lab::paper::Presentation;
use lab::row::Rows;
use lab::stats::{self, bootstrap_mean};
use lab::table::{Cell, Table, columns};

use super::{label, median};
use crate::experiment::{JointStudy, QuickfixExperiment};

pub(super) fn show(
    experiment: &QuickfixExperiment,
    name: &str,
    study: &JointStudy,
    rows: &Rows<'_>,
    shown: &mut Presentation,
) {
    shown.tables.push(table(experiment, name, study, rows));
    shown.figures.extend(figure(name, study, rows));
}

fn table(experiment: &QuickfixExperiment, name: &str, study: &JointStudy, rows: &Rows<'_>) -> Table {
    let line = |&count: &usize| {
        let at = count as f64;
        let [efficacy, low, high] = Cell::interval(bootstrap_mean(&rows.at("joint_efficacy", at)), 3);
        let one = |metric: &str| stats::mean(&rows.at(metric, at)).ok();
        vec![
            Cell::Number(at, 0),
            Cell::Number(rows.at("joint_efficacy", at).len() as f64, 0),
            efficacy,
            low,
            high,
            Cell::number(one("joint_least_efficacy"), 3),
            Cell::number(one("joint_shown"), 3),
            Cell::number(one("joint_specificity"), 3),
            Cell::number(one("joint_interference"), 4),
            Cell::number(one("joint_leakage"), 4),
            Cell::number(median(rows.at("joint_seconds", at)), 4),
        ]
    };
    Table {
        id: format!("{name}_joint"),
        title: format!("Many concepts at once: {}", label(experiment, &study.arm)),
        caption: "Efficacy: mean over the edited concepts of the share of pictures without them, with a 95 % bootstrap interval over seeds; \
                  that of the concept that is erased least; how often the unedited model draws them; \
                  specificity: share of pictures of the other concepts that show them; interference and leakage over unrelated captions; \
                  median seconds."
            .to_owned(),
        columns: columns(&[
            "concepts",
            "n",
            "efficacy",
            "ci_low",
            "ci_high",
            "least_efficacy",
            "shown_before",
            "specificity",
            "interference",
            "leakage",
            "seconds",
        ]),
        rows: study.counts.iter().map(line).collect(),
    }
}

fn figure(name: &str, study: &JointStudy, rows: &Rows<'_>) -> Option<Figure> {
    let series = |(label, metric): (&str, &str)| {
        let points: Vec<(f64, lab::stats::Interval)> = study
            .counts
            .iter()
            .filter_map(|&count| Some((count as f64, bootstrap_mean(&rows.at(metric, count as f64))?)))
            .collect();
        (!points.is_empty()).then(|| Series {
            label: label.to_owned(),
            band: points.iter().map(|(_, interval)| (interval.low, interval.high)).collect(),
            points: points.into_iter().map(|(at, interval)| (at, interval.estimate)).collect(),
            scatter: false,
        })
    };
    let panel = |title: &str, unit: &str, of: &[(&str, &str)]| {
        let all: Vec<Series> = of.iter().copied().filter_map(series).collect();
        (!all.is_empty()).then(|| Panel {
            title: title.to_owned(),
            x: Axis { label: "concepts edited at once".to_owned(), ..Axis::default() },
            y: Axis { label: unit.to_owned(), ..Axis::default() },
            content: Content::Lines(all),
        })
    };
    let shares =
        [("edited concepts are gone", "joint_efficacy"), ("other concepts are drawn", "joint_specificity")];
    let costs = [("interference", "joint_interference"), ("leakage", "joint_leakage")];
    let panels: Vec<Panel> = [
        panel("Edited and other concepts", "share of pictures", &shares),
        panel("What else moves", "share", &costs),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!panels.is_empty()).then(|| Figure {
        id: format!("{name}_joint"),
        title: "Many concepts at once".to_owned(),
        caption: "Means over seeds, bands 95 % bootstrap intervals.".to_owned(),
        panels,
        columns: 2,
    })
}
