//! Verdicts: every claim of an experiment held against the rows that were measured.
//!
//! * An estimate with an interval is *supported* where the interval lies wholly where `expect` says, *refuted* where it lies
//!   wholly elsewhere, else *inconclusive*. `refuted_below` adds the pre-registered refutation: the interval holds 0 (or
//!   lies below it) and ends below the published margin.
//! * Fewer than six equal values are inconclusive, whatever they are: their interval has no width, and the sign test needs six.
//! * An equivalence is supported where the interval lies inside `±within`, refuted where it lies wholly outside.
//! * An exact check is supported or refuted by its worst value.
//! * A failed gate replaces the verdict, and its note says what was measured; the estimate stays visible.
//! * What was not measured is *not testable* with a note that says what is missing. Nothing here panics or fails.

mod compare;
mod expect;
mod quantity;
mod select;
#[cfg(test)]
mod tests;
mod validate;

use serde::Serialize;

use crate::claim::{Claim, Gate, Otherwise, Verdict};
use crate::row::Row;
use compare::{Found, join};
pub use quantity::quantity;
pub use validate::validate;

/// What was found about one claim.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Judgement {
    /// Id of the claim.
    pub claim: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Our estimate, in the unit of the metric; absent where nothing could be estimated.
    pub ours: Option<f64>,
    /// Lower end of the interval, where there is one.
    pub low: Option<f64>,
    /// Upper end of the interval.
    pub high: Option<f64>,
    /// Independent units (pairs, seeds, rows of a check) behind the estimate.
    pub n: usize,
    /// Why the verdict is what it is, in words.
    pub note: String,
}

/// Judges every claim, in order. Never fails: what cannot be judged is `not_testable` with a note that says what is missing.
#[must_use]
pub fn judge(claims: &[Claim], rows: &[Row]) -> Vec<Judgement> {
    claims.iter().map(|claim| one(claim, rows)).collect()
}

fn one(claim: &Claim, rows: &[Row]) -> Judgement {
    let found =
        claim.gates.iter().fold(compare::test(&claim.test, rows), |found, gate| behind(found, gate, rows));
    Judgement {
        claim: claim.id.clone(),
        verdict: found.verdict,
        ours: found.ours,
        low: found.ends.map(|ends| ends.0),
        high: found.ends.map(|ends| ends.1),
        n: found.n,
        note: found.note,
    }
}

/// Applies a gate: what fails it keeps its numbers and loses its verdict.
fn behind(found: Found, gate: &Gate, rows: &[Row]) -> Found {
    let Some(failure) = failure(gate, rows).filter(|_| found.ours.is_some()) else { return found };
    let verdict = match gate.otherwise {
        Otherwise::NotTestable => Verdict::NotTestable,
        Otherwise::Inconclusive if found.verdict == Verdict::NotTestable => Verdict::NotTestable,
        Otherwise::Inconclusive => Verdict::Inconclusive,
    };
    let note = join(&[&format!("gate failed: {failure}: {}", gate.because), &found.note]);
    Found { verdict, note, ..found }
}

/// The arm that fails the gate and its value, or what is missing to read it; `None` where the gate holds.
fn failure(gate: &Gate, rows: &[Row]) -> Option<String> {
    let mut sums = std::collections::BTreeMap::<&str, (f64, usize)>::new();
    for row in select::rows(rows, &gate.metric, gate.arm.as_deref(), &gate.only) {
        let sum = sums.entry(&row.arm).or_default();
        *sum = (sum.0 + row.value, sum.1 + 1);
    }
    if sums.is_empty() {
        return Some(select::missing(rows, &gate.metric, gate.arm.as_deref(), &gate.only));
    }
    let (least, most) = (gate.at_least.unwrap_or(f64::NEG_INFINITY), gate.at_most.unwrap_or(f64::INFINITY));
    let means = sums.into_iter().map(|(arm, (sum, count))| (arm, sum / count as f64));
    let (arm, value) = means.into_iter().find(|(_, value)| !(*value >= least && *value <= most))?;
    Some(format!("`{}` of `{arm}` is {}, {}", gate.metric, short(value), bounds(gate)))
}

fn bounds(gate: &Gate) -> String {
    match (gate.at_least, gate.at_most) {
        (Some(least), Some(most)) => format!("needed {least} to {most}"),
        (Some(least), None) => format!("needed at least {least}"),
        (None, Some(most)) => format!("needed at most {most}"),
        (None, None) => "needed to be a number".to_owned(),
    }
}

/// A number with at most four significant decimals, for notes.
fn short(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { value.abs().log10().floor() as i32 };
    let decimals = usize::try_from((3 - digits).clamp(0, 12)).unwrap_or(0);
    let text = format!("{value:.decimals$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
