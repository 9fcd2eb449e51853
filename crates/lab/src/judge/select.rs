//! Which rows a comparison looks at, and how they become one value a unit.

use std::collections::{BTreeMap, BTreeSet};

use crate::claim::Over;
use crate::row::{Row, Selector};

/// Where a value was measured, the arm aside: what two arms must share to be paired.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Coordinate {
    study: String,
    case: String,
    seed: u64,
    at: Option<u64>,
    tags: BTreeMap<String, String>,
}

/// What counts as one independent observation.
pub(super) type Unit = (String, Option<u64>);

/// Values by coordinate.
pub(super) type Values = BTreeMap<Coordinate, f64>;

impl Coordinate {
    fn of(row: &Row) -> Self {
        Self {
            study: row.study.clone(),
            case: row.case.clone(),
            seed: row.seed,
            at: row.at.map(f64::to_bits),
            tags: row.tags.clone(),
        }
    }

    fn unit(&self, over: Over) -> Unit {
        match over {
            Over::Seed => (String::new(), Some(self.seed)),
            Over::Case => (self.case.clone(), None),
            Over::CaseSeed => (self.case.clone(), Some(self.seed)),
        }
    }
}

/// Means of what is pushed under one key.
fn averages<K: Ord>(values: impl Iterator<Item = (K, f64)>) -> BTreeMap<K, f64> {
    let mut sums: BTreeMap<K, (f64, usize)> = BTreeMap::new();
    for (key, value) in values {
        let sum = sums.entry(key).or_default();
        *sum = (sum.0 + value, sum.1 + 1);
    }
    sums.into_iter().map(|(key, (sum, count))| (key, sum / count as f64)).collect()
}

/// The rows of `metric` in the selection; of one arm where `arm` is given.
pub(super) fn rows<'a>(
    rows: &'a [Row],
    metric: &'a str,
    arm: Option<&'a str>,
    only: &'a Selector,
) -> impl Iterator<Item = &'a Row> {
    rows.iter()
        .filter(move |row| row.metric == metric && arm.is_none_or(|arm| row.arm == arm) && only.matches(row))
}

/// Values of `metric` for `arm`, by coordinate; or what is missing.
pub(super) fn values(all: &[Row], metric: &str, arm: &str, only: &Selector) -> Result<Values, String> {
    let found = averages(rows(all, metric, Some(arm), only).map(|row| (Coordinate::of(row), row.value)));
    if found.is_empty() { Err(missing(all, metric, Some(arm), only)) } else { Ok(found) }
}

/// One value a unit: the mean over the unit's coordinates.
pub(super) fn by_unit(values: &Values, over: Over) -> BTreeMap<Unit, f64> {
    averages(values.iter().map(|(coordinate, value)| (coordinate.unit(over), *value)))
}

/// Differences `a - b`, one a unit, from the coordinates that both arms have; and how many coordinates only one has.
pub(super) struct Pairs {
    pub(super) differences: Vec<f64>,
    pub(super) unpaired: usize,
}

/// Pairs two arms. A coordinate that only one of them has (a failed trial) is left out and counted.
pub(super) fn pairs(a: &Values, b: &Values, over: Over) -> Pairs {
    let both: Values = a
        .iter()
        .filter_map(|(coordinate, value)| Some((coordinate.clone(), value - b.get(coordinate)?)))
        .collect();
    let unpaired = a.len() + b.len() - 2 * both.len();
    Pairs { differences: by_unit(&both, over).into_values().collect(), unpaired }
}

/// Values of several arms at the seeds that all of them have: one vector an arm, aligned over seeds.
pub(super) fn aligned(arms: &[Values]) -> Vec<Vec<f64>> {
    let by_seed: Vec<_> = arms.iter().map(|values| by_unit(values, Over::Seed)).collect();
    let Some(first) = by_seed.first() else { return Vec::new() };
    let shared: Vec<&Unit> =
        first.keys().filter(|unit| by_seed.iter().all(|arm| arm.contains_key(unit))).collect();
    by_seed.iter().map(|arm| shared.iter().filter_map(|unit| arm.get(unit)).copied().collect()).collect()
}

/// Says, as precisely as the rows allow, why a selection is empty.
pub(super) fn missing(all: &[Row], metric: &str, arm: Option<&str>, only: &Selector) -> String {
    let measured: BTreeSet<&str> =
        all.iter().filter(|row| row.metric == metric).map(|row| row.arm.as_str()).collect();
    if measured.is_empty() {
        let metrics: BTreeSet<&str> = all.iter().map(|row| row.metric.as_str()).collect();
        // A reader of the report has no use for a list of all metrics; a name that was mistyped is a fault of the experiment.
        let close = super::validate::closest(metric, metrics.into_iter());
        let hint = close.map_or(String::new(), |close| format!("; did you mean `{close}`?"));
        return format!("not measured here: no finished trial has the metric `{metric}`{hint}");
    }
    if let Some(arm) = arm.filter(|arm| !measured.contains(arm)) {
        return format!("not measured here: no finished trial has `{metric}` for the arm `{arm}`");
    }
    let arm = arm.map_or(String::new(), |arm| format!(" for the arm `{arm}`"));
    format!("not measured here: no finished trial has `{metric}`{arm} where {}", describe(only))
}

fn describe(only: &Selector) -> String {
    let mut parts = Vec::new();
    parts.extend(only.study.as_ref().map(|study| format!("study = {study}")));
    parts.extend(only.case.as_ref().map(|case| format!("case = {case}")));
    parts.extend(only.at.map(|at| format!("at = {at}")));
    parts.extend(only.tags.iter().map(|(name, value)| format!("{name} = {value}")));
    parts.join(", ")
}
