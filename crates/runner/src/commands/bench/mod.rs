//! `bench`: times under the names that the PyTorch program prints, so that the two join into one table.

mod cases;
mod compare;
mod timing;

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::output::{print, say};
use cases::Case;
use compare::Rows;
use timing::Times;

/// Times every case that was asked for and prints it as it comes, or joined with another program's times at the end.
pub(crate) fn run(typed: &cli::Bench) -> Result<u8> {
    let cli::BenchDevice::Cpu = typed.device;
    let theirs = typed.vs.as_deref().map(read).transpose()?;
    let cases = chosen(&typed.only)?;
    let threads = typed.threads.unwrap_or_else(super::reproduce::cores);
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global().context("starting threads")?;
    print(theirs.as_ref().map_or(timing::HEADER, |_| compare::HEADER))?;
    let mut rates = Vec::new();
    for case in &cases {
        let times = timing::time((case.prepare)()?, typed.reps);
        print(&line(case, &times, theirs.as_ref()))?;
        rates.push((case, times.median));
    }
    shares(&rates).iter().for_each(|share| say(share));
    Ok(cli::exit::DONE)
}

fn read(path: &std::path::Path) -> Result<Rows> {
    let text =
        fs::read_to_string(path).with_context(|| format!("{}: cannot read the times", path.display()))?;
    compare::parse(&text).map_err(|fault| anyhow::anyhow!("{}:{fault}", path.display()))
}

fn chosen(prefix: &str) -> Result<Vec<Case>> {
    let all = cases::all();
    let names: Vec<String> = all.iter().map(|case| case.name.clone()).collect();
    let chosen: Vec<Case> = all.into_iter().filter(|case| case.name.starts_with(prefix)).collect();
    if chosen.is_empty() {
        bail!("no case begins with `{prefix}`\n  expected: {}", names.join("\n            "));
    }
    Ok(chosen)
}

fn line(case: &Case, times: &Times, theirs: Option<&Rows>) -> String {
    match theirs {
        None => times.line(&case.name),
        Some(rows) => compare::line(&case.name, times.median, rows.get(&case.name).copied()),
    }
}

/// For each step whose copy was timed too: its memory rate as a share of the copy's. A copy moves 8 bytes a number.
fn shares(rates: &[(&Case, f64)]) -> Vec<String> {
    let rate = |case: &Case, ms: f64| case.bytes as f64 / ms / 1e6;
    let copy_of = |case: &Case| {
        let (_, size) = case.name.split_once('/')?;
        let copy = rates.iter().find(|(other, _)| other.name == format!("copy/{size}"))?;
        Some(rate(copy.0, copy.1))
    };
    let steps = rates.iter().filter(|(case, _)| !case.name.starts_with("copy/"));
    let share = |(case, ms): &(&Case, f64)| {
        let (ours, copy) = (rate(case, *ms), copy_of(case)?);
        Some(format!(
            "{}: {ours:.1} GB/s, {:.0} % of the copy rate of {copy:.1} GB/s",
            case.name,
            100.0 * ours / copy
        ))
    };
    steps.filter_map(share).collect()
}
