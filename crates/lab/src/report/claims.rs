//! Claims and verdicts as a table for programs, and as the phrases that people read.

use super::Report;
use crate::claim::{Claim, Seen, Source, Verdict};
use crate::judge::Judgement;
use crate::table::{Cell, Table, fixed};

/// Name of a verdict in `claims.csv`.
pub(super) fn name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Supported => "supported",
        Verdict::Refuted => "refuted",
        Verdict::Inconclusive => "inconclusive",
        Verdict::NotTestable => "not_testable",
    }
}

/// A verdict as a word and a symbol, so that colour is never needed.
pub(super) fn words(verdict: Verdict) -> (&'static str, &'static str) {
    match verdict {
        Verdict::Supported => ("✓", "supported"),
        Verdict::Refuted => ("✗", "refuted"),
        Verdict::Inconclusive => ("?", "inconclusive"),
        Verdict::NotTestable => ("–", "not testable"),
    }
}

/// How a published statement reached us.
pub(super) fn seen(seen: Seen) -> &'static str {
    match seen {
        Seen::InText => "in the text",
        Seen::Digitised => "read off a figure",
        Seen::AuthorStatement => "stated by the authors",
        Seen::Derived => "derived",
        Seen::NotFound => "not found",
    }
}

/// Place, version and how sure.
pub(super) fn source(source: &Source) -> String {
    format!("{}; {}; {}", source.place, source.version, seen(source.seen))
}

/// The published numbers by name.
pub(super) fn published(claim: &Claim) -> Vec<(String, String)> {
    // A paper prints one column with one number of decimals: 93.9 beside 93.78 was 93.90.
    let decimals = |value: f64| value.to_string().split_once('.').map_or(0, |(_, decimals)| decimals.len());
    let most = claim.published.values().flatten().map(|value| decimals(*value)).max().unwrap_or(0);
    let places = if most <= 2 { most } else { 0 };
    let number = |value: f64| format!("{value:.0$}", places.max(decimals(value)));
    let shown = |value: &Option<f64>| value.map_or("not found".to_owned(), number);
    claim.published.iter().map(|(name, value)| (name.clone(), shown(value))).collect()
}

/// Unit of our number: a difference of percentages is in percentage points.
pub(super) fn unit(claim: &Claim) -> Option<&str> {
    let test = claim.test.all_of.as_ref().and_then(|parts| parts.first()).unwrap_or(&claim.test);
    let difference = test.paired.is_some()
        || test.equivalence.is_some()
        || test.exceeds_all.is_some()
        || test.best_of.is_some()
        || test.spread.is_some();
    claim.unit.as_deref().map(|unit| if difference && unit.starts_with('%') { "points" } else { unit })
}

/// Decimals that show an estimate to two digits of its interval, or to four digits without one.
pub(super) fn decimals(judgement: &Judgement) -> usize {
    let width = judgement.low.zip(judgement.high).map(|(low, high)| (high - low) / 2.0);
    let size = match width.filter(|width| *width > 0.0) {
        Some(width) => width.log10().floor() as i32 - 1,
        None => match judgement.ours.filter(|ours| *ours != 0.0 && ours.fract() != 0.0) {
            Some(ours) => ours.abs().log10().floor() as i32 - 3,
            None => 0,
        },
    };
    usize::try_from((-size).clamp(0, 8)).unwrap_or(0)
}

/// Our estimate and its interval, as `0.36 [0.10, 0.62]`.
pub(super) fn ours(judgement: &Judgement) -> Option<(String, Option<String>)> {
    let decimals = decimals(judgement);
    let interval = judgement.low.zip(judgement.high);
    let interval =
        interval.map(|(low, high)| format!("[{}, {}]", fixed(low, decimals), fixed(high, decimals)));
    judgement.ours.map(|ours| (fixed(ours, decimals), interval))
}

/// Why the verdict is what it is, and what the claim's author adds.
fn note(claim: &Claim, judgement: &Judgement) -> String {
    let parts = [Some(judgement.note.as_str()), claim.note.as_deref()];
    parts.into_iter().flatten().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" — ")
}

/// `claims.csv`.
pub(super) fn table(report: &Report) -> Table {
    let names = ["id", "says", "source", "published", "ours", "ci_low", "ci_high", "n", "verdict", "note"];
    let row = |(claim, judgement): (&Claim, &Judgement)| {
        let printed: Vec<String> =
            published(claim).into_iter().map(|(name, value)| format!("{name} {value}")).collect();
        let unit = claim.unit.as_deref().map_or(String::new(), |unit| format!(" ({unit})"));
        let note = note(claim, judgement);
        vec![
            claim.id.as_str().into(),
            claim.says.as_str().into(),
            source(&claim.source).as_str().into(),
            if printed.is_empty() {
                Cell::Missing
            } else {
                Cell::Text(format!("{}{unit}", printed.join("; ")))
            },
            Cell::number(judgement.ours, 6),
            Cell::number(judgement.low, 6),
            Cell::number(judgement.high, 6),
            Cell::Number(judgement.n as f64, 0),
            name(judgement.verdict).into(),
            if note.is_empty() { Cell::Missing } else { Cell::Text(note) },
        ]
    };
    Table {
        id: "claims".to_owned(),
        title: "Claims".to_owned(),
        caption: String::new(),
        columns: names.map(str::to_owned).to_vec(),
        rows: report.header.claims.iter().zip(report.judgements).map(row).collect(),
    }
}
