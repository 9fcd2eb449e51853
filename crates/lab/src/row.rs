//! A measurement: the only thing that travels from a trial to a table, a figure or a claim.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// One measured number and the coordinates it was measured at (tidy, long format: one row, one value).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    /// Key of the trial that measured it.
    pub trial: String,
    /// Name of the study (a key of `studies:` in the experiment).
    pub study: String,
    /// Name of the arm (a key of `arms:`), or of what stands in its place.
    pub arm: String,
    /// Name of the case within the study, such as `c10-b128`; empty where a study has one case.
    pub case: String,
    /// Seed of the trial.
    pub seed: u64,
    /// What was measured, such as `test_acc_last5`. Units are part of the metric's documentation.
    pub metric: String,
    /// Coordinate along a curve (epoch, iteration, grid value), where the metric has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<f64>,
    /// The value. A trial never writes a NaN or an infinity: it leaves the row out and says why in its log.
    pub value: f64,
    /// Further named coordinates (caption, component, layer, …), for papers that need them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

/// The rows of one study, in their order.
#[derive(Clone, Debug)]
pub struct Rows<'a>(pub Vec<&'a Row>);

impl<'a> Rows<'a> {
    /// Those of `study`.
    #[must_use]
    pub fn of(rows: &'a [Row], study: &str) -> Self {
        Self(rows.iter().filter(|row| row.study == study).collect())
    }

    /// The rows of a metric of an arm whose tags are these among others.
    pub fn select(&self, metric: &str, arm: &str, tags: &[(&str, &str)]) -> impl Iterator<Item = &'a Row> {
        self.0.iter().copied().filter(move |row| {
            let has = |(name, value): &(&str, &str)| row.tags.get(*name).is_some_and(|tag| tag == value);
            row.metric == metric && row.arm == arm && tags.iter().all(has)
        })
    }

    /// Their values.
    #[must_use]
    pub fn values(&self, metric: &str, arm: &str, tags: &[(&str, &str)]) -> Vec<f64> {
        self.select(metric, arm, tags).map(|row| row.value).collect()
    }

    /// Their values by (case, seed); where several share these, the last.
    #[must_use]
    pub fn by_unit(&self, metric: &str, arm: &str, tags: &[(&str, &str)]) -> BTreeMap<(&'a str, u64), f64> {
        self.select(metric, arm, tags).map(|row| ((row.case.as_str(), row.seed), row.value)).collect()
    }

    /// Values of a metric of every arm at one place along its curve.
    #[must_use]
    pub fn at(&self, metric: &str, at: f64) -> Vec<f64> {
        self.0.iter().filter(|row| row.metric == metric && row.at == Some(at)).map(|row| row.value).collect()
    }
}

/// Which rows a claim, a table or a figure looks at. An absent field matches every row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Selector {
    /// Name of the study.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub study: Option<String>,
    /// Name of the case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub case: Option<String>,
    /// Coordinate along the curve, compared exactly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<f64>,
    /// Further named coordinates that must be equal.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
}

impl Selector {
    /// Whether `row` lies in the selection.
    #[must_use]
    pub fn matches(&self, row: &Row) -> bool {
        self.study.as_ref().is_none_or(|study| *study == row.study)
            && self.case.as_ref().is_none_or(|case| *case == row.case)
            && self.at.is_none_or(|at| row.at == Some(at))
            && self.tags.iter().all(|(name, value)| row.tags.get(name) == Some(value))
    }
}
