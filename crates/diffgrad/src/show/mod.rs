//! Tables, figures and explanations made from the rows of a reproduction.

mod images;
mod metrics;
mod synthetic;

use std::collections::BTreeMap;

use lab::paper::{Picture, Presentation};
use lab::row::Row;
use lab::stats::{self, Interval};
use lab::table::{Cell, Table, columns};

use crate::experiment::{DiffGradExperiment, Study};

/// Everything the report shows besides verdicts.
pub(crate) fn present(experiment: &DiffGradExperiment, rows: &[Row]) -> anyhow::Result<Presentation> {
    let mut shown = Presentation {
        metrics: metrics::explained(),
        protocol: metrics::protocol(experiment),
        ..Default::default()
    };
    for (name, study) in &experiment.studies {
        let rows = Rows::of(rows, name);
        match study {
            _ if rows.0.is_empty() => {}
            Study::Identities(_) => shown.tables.push(identities(name, &rows)),
            Study::Synthetic(study) => synthetic::show(experiment, name, study, &rows, &mut shown),
            Study::Images(study) => images::show(experiment, name, study, &rows, &mut shown),
        }
    }
    images::across(experiment, rows, &mut shown);
    shown.pictures = pictures(experiment)?;
    Ok(shown)
}

/// The rows of one study.
pub(crate) struct Rows<'a>(Vec<&'a Row>);

impl<'a> Rows<'a> {
    fn of(rows: &'a [Row], study: &str) -> Self {
        Self(rows.iter().filter(|row| row.study == study).collect())
    }

    /// Values of a metric without coordinate in one arm and case, by seed.
    fn by_seed(&self, metric: &str, arm: &str, case: &str) -> BTreeMap<u64, f64> {
        self.select(metric, arm, case)
            .filter(|row| row.at.is_none())
            .map(|row| (row.seed, row.value))
            .collect()
    }

    /// The one value of a metric that has no seed.
    fn one(&self, metric: &str, arm: &str, case: &str) -> Option<f64> {
        self.by_seed(metric, arm, case).into_values().next()
    }

    /// A curve: values by coordinate (in its order), one a seed.
    fn curve(&self, metric: &str, arm: &str, case: &str) -> Vec<(f64, Vec<f64>)> {
        let mut points: Vec<(f64, u64, f64)> =
            self.select(metric, arm, case).filter_map(|row| Some((row.at?, row.seed, row.value))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let mut curve: Vec<(f64, Vec<f64>)> = Vec::new();
        for (at, _, value) in points {
            match curve.last_mut() {
                Some((last, values)) if *last == at => values.push(value),
                _ => curve.push((at, vec![value])),
            }
        }
        curve
    }

    fn select(&self, metric: &str, arm: &str, case: &str) -> impl Iterator<Item = &&'a Row> {
        self.0.iter().filter(move |row| row.metric == metric && row.arm == arm && row.case == case)
    }
}

/// Mean and 95 % t-interval; no interval with a single value, nothing with none.
pub(crate) fn summary(values: &[f64]) -> Option<Interval> {
    let mean = stats::mean(values).ok()?;
    let alone = Interval { estimate: mean, low: mean, high: mean, n: values.len() };
    Some(stats::t_interval(values, 0.95).unwrap_or(alone))
}

fn identities(study: &str, rows: &Rows<'_>) -> Table {
    let lines = [
        (
            "golden_error",
            "Fused pass against the golden vectors, diffGrad as written: largest error",
            "≤ 1e-11",
        ),
        ("golden_error_as_run", "The same, diffGrad as run", "≤ 1e-11"),
        (
            "half_step_is_adam_at_half_lr_error",
            "Control ξ = ½ against Adam at half the learning rate: largest error",
            "≤ 1e-12",
        ),
        ("xi_lowest_minus_half", "Lowest ξ over random gradient changes, minus ½", "≥ 0"),
        ("one_minus_xi_highest", "1 − highest ξ over random gradient changes", "> 0"),
        ("xi_without_change_minus_half", "|ξ − ½| where the gradient did not change", "0"),
        ("large_change_minus_adam", "1 − ξ where the gradient changed by 40", "≤ 1e-15"),
        ("bound_excess", "mean(ξ) − ½ − ‖Δg‖/(4√d), largest over random tensors", "≤ 0"),
    ];
    let row = |(metric, what, wanted): (&str, &str, &str)| {
        let value = rows.one(metric, "engine", "");
        let shown = value.map_or(Cell::Missing, |value| Cell::Text(format!("{value:.2e}")));
        vec![Cell::from(what), shown, Cell::from(wanted)]
    };
    Table {
        id: format!("{study}_identities"),
        title: "What must hold exactly".to_owned(),
        caption: "Measured in double precision before anything is trained.".to_owned(),
        columns: columns(&["identity", "measured", "expected"]),
        rows: lines.into_iter().map(row).collect(),
    }
}

/// Contact sheets of the drawn data sets in use. Real data is not shown: a report carries no data set.
fn pictures(experiment: &DiffGradExperiment) -> anyhow::Result<Vec<Picture>> {
    let mut shown = Vec::new();
    for name in experiment.data.values().filter(|name| name.starts_with("shapes")) {
        let (train, _) = worlds::classification::load(name, std::path::Path::new(""))?;
        let classes: Vec<usize> = (0..train.classes.min(10)).collect();
        shown.push(Picture {
            id: format!("data_{name}"),
            title: format!("Training pictures of `{name}`"),
            caption: "Drawn from a seed; one row a class. The networks see them reduced to the study's side."
                .to_owned(),
            png: worlds::classification::contact_sheet(&train, &classes, 8, 2)?,
        });
    }
    Ok(shown)
}
