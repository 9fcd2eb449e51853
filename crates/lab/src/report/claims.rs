//! Claims and verdicts as a table for programs, and as the phrases that people read.

use super::Report;
use crate::claim::{Claim, Seen, Source, Test, Verdict};
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
    let number = |value: &Option<f64>| value.map_or("not found".to_owned(), |value| value.to_string());
    claim.published.iter().map(|(name, value)| (name.clone(), number(value))).collect()
}

/// What our number is, in the terms of the test.
pub(super) fn quantity(test: &Test) -> Option<String> {
    let pair = |a: &str, b: &str, metric: &str| format!("{metric}: {a} − {b}");
    let paired = test.paired.as_ref().map(|part| pair(&part.a, &part.b, &part.metric));
    let equal = test.equivalence.as_ref().map(|part| pair(&part.a, &part.b, &part.metric));
    let mean = test.mean.as_ref().map(|part| format!("{}: mean of {}", part.metric, part.arm));
    let share = test.proportion.as_ref().map(|part| format!("{}: share of {}", part.metric, part.arm));
    let all = test.exceeds_all.as_ref().map(|part| pair(&part.a, "best of the others", &part.metric));
    let best =
        test.best_of.as_ref().map(|part| pair("best of the group", "best of the others", &part.metric));
    let spread = test.spread.as_ref().map(|part| pair("best arm", "worst arm", &part.metric));
    let check = test.check.as_ref().map(|part| format!("{}: worst value", part.metric));
    let parts = test.all_of.as_ref().map(|_| "the part that decides".to_owned());
    [paired, equal, mean, share, all, best, spread, check, parts].into_iter().flatten().next()
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
