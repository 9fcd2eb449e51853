//! `claims`: what a paper says, the numbers it printed and, where there are results, what was found.

use std::path::Path;

use anyhow::Result;
use cli::Scale;
use lab::claim::{Claim, Verdict};
use lab::judge::{Judgement, judge};

use crate::output::print;
use crate::papers::{self, Entry};
use crate::places;

/// Prints the claims of one paper or of all.
pub(crate) fn run(all: &[Entry], typed: &cli::Claims) -> Result<u8> {
    for entry in papers::named(all, typed.paper.as_deref().unwrap_or("all"))? {
        let out = places::results(entry.paper.id(), typed.scale, typed.out.as_deref());
        print(&page(entry, typed.scale, &out)?)?;
    }
    Ok(cli::exit::DONE)
}

fn page(entry: &Entry, scale: Scale, out: &Path) -> Result<String> {
    let claims = entry.paper.open(&places::experiment_of(entry, scale, out)?)?.header().claims;
    let judgements = judgements(&claims, out)?;
    let mut text =
        format!("{}: {}\n{}\n\n", entry.paper.id(), entry.paper.title(), heading(&judgements, out));
    for (index, claim) in claims.iter().enumerate() {
        text += &paragraph(claim, judgements.as_ref().map(|found| &found[index]));
    }
    Ok(text)
}

/// Verdicts over the rows in `out`; `None` where nothing was run yet.
fn judgements(claims: &[Claim], out: &Path) -> Result<Option<Vec<Judgement>>> {
    let rows = out.join("rows.parquet");
    if !rows.exists() {
        return Ok(None);
    }
    Ok(Some(judge(claims, &lab::rows_file::read(&rows)?)))
}

fn heading(judgements: &Option<Vec<Judgement>>, out: &Path) -> String {
    match judgements {
        Some(_) => format!("Verdicts from {}", out.join("rows.parquet").display()),
        None => format!("No results in {} yet: verdicts appear once the paper was reproduced", out.display()),
    }
}

fn paragraph(claim: &Claim, found: Option<&Judgement>) -> String {
    let unit = claim.unit.as_ref().map_or_else(String::new, |unit| format!(" {unit}"));
    let mut text = format!("{:<6} {}\n", claim.id, claim.says);
    text += &format!("       source: {}, {}\n", claim.source.place, claim.source.version);
    if !claim.published.is_empty() {
        text += &format!("       published: {}{unit}\n", published(claim));
    }
    if let Some(found) = found {
        text += &format!("       {}{}\n", verdict(found.verdict), numbers(found));
        if !found.note.is_empty() {
            text += &format!("       note: {}\n", found.note);
        }
    }
    text + "\n"
}

fn published(claim: &Claim) -> String {
    let value = |value: &Option<f64>| value.map_or_else(|| "not found".to_owned(), |value| value.to_string());
    let pairs = claim.published.iter().map(|(name, number)| format!("{name} {}", value(number)));
    pairs.collect::<Vec<_>>().join(", ")
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Supported => "SUPPORTED",
        Verdict::Refuted => "REFUTED",
        Verdict::Inconclusive => "INCONCLUSIVE",
        Verdict::NotTestable => "NOT TESTABLE HERE",
    }
}

fn numbers(found: &Judgement) -> String {
    let Some(ours) = found.ours else { return String::new() };
    let interval = found.low.zip(found.high).map(|(low, high)| format!(" [{low:.4}, {high:.4}]"));
    format!(": ours {ours:.4}{} (n = {})", interval.unwrap_or_default(), found.n)
}
