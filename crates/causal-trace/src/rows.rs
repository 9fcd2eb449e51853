//! Rows of one study, by what they are about.

use std::collections::BTreeMap;

use lab::row::Row;
use lab::stats::{self, Interval};

/// The rows of one study.
pub(crate) struct Rows<'a>(pub(crate) Vec<&'a Row>);

impl<'a> Rows<'a> {
    pub(crate) fn of(rows: &'a [Row], study: &str) -> Self {
        Self(rows.iter().filter(|row| row.study == study).collect())
    }

    /// The rows of a metric of an arm.
    pub(crate) fn select(&self, metric: &str, arm: &str) -> impl Iterator<Item = &&'a Row> {
        self.0.iter().filter(move |row| row.metric == metric && row.arm == arm)
    }

    /// Values of a metric of an arm whose tags are these among others.
    pub(crate) fn values(&self, metric: &str, arm: &str, tags: &[(&str, &str)]) -> Vec<f64> {
        let matches = |row: &&&Row| {
            tags.iter().all(|(name, value)| row.tags.get(*name).is_some_and(|tag| tag == value))
        };
        self.select(metric, arm).filter(matches).map(|row| row.value).collect()
    }

    /// One value for each (case, seed), by that.
    pub(crate) fn by_unit(
        &self,
        metric: &str,
        arm: &str,
        tags: &[(&str, &str)],
    ) -> BTreeMap<(&'a str, u64), f64> {
        let matches = |row: &&&Row| {
            tags.iter().all(|(name, value)| row.tags.get(*name).is_some_and(|tag| tag == value))
        };
        self.select(metric, arm)
            .filter(matches)
            .map(|row| ((row.case.as_str(), row.seed), row.value))
            .collect()
    }

    /// One value for each (case, seed, component), by that.
    pub(crate) fn by_run(
        &self,
        metric: &str,
        arm: &str,
        tags: &[(&str, &str)],
    ) -> BTreeMap<(&'a str, u64, &'a str), f64> {
        let component = |row: &&'a Row| row.tags.get("component").map_or("", String::as_str);
        let matches = |row: &&&'a Row| {
            tags.iter().all(|(name, value)| row.tags.get(*name).is_some_and(|tag| tag == value))
        };
        let found = self.select(metric, arm).filter(matches);
        found.map(|row| ((row.case.as_str(), row.seed, component(row)), row.value)).collect()
    }
}

/// Mean with a 95 % percentile bootstrap over captions and seeds; no interval with a single value, nothing with none.
pub(crate) fn summary(values: &[f64]) -> Option<Interval> {
    let mean = stats::mean(values).ok()?;
    let alone = Interval { estimate: mean, low: mean, high: mean, n: values.len() };
    let average = |units: &[usize]| units.iter().map(|&unit| values[unit]).sum::<f64>() / units.len() as f64;
    Some(stats::bootstrap(values.len(), 0.95, average).unwrap_or(alone))
}
