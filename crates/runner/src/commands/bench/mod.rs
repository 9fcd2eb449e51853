//! `bench`: times under the names that the PyTorch program prints, so that the two join into one table.

pub mod cases;
mod compare;
mod timing;

use std::fs;

use anyhow::{Context as _, Result, bail};

use crate::output::{print, say};
use cases::{Amount, Case};
use compare::Rows;
use timing::Times;

/// Times every case that was asked for and prints it as it comes, or joined with another program's times at the end.
pub(crate) fn run(typed: &cli::Bench) -> Result<u8> {
    let cli::BenchDevice::Cpu = typed.device;
    let theirs = typed.vs.as_deref().map(read).transpose()?;
    let cases = chosen(&typed.only, typed.implementation)?;
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

fn chosen(prefix: &str, implementation: cli::Implementation) -> Result<Vec<Case>> {
    let all = cases::all(implementation);
    let names: Vec<String> = all.iter().map(|case| case.name.clone()).collect();
    let wanted = |case: &Case| case.name.starts_with(prefix) && !(prefix.is_empty() && case.heavy());
    let chosen: Vec<Case> = all.into_iter().filter(wanted).collect();
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

/// What each case reaches of the bound that was timed with it: the product of matrices for arithmetic, the copy for memory.
fn shares(rates: &[(&Case, f64)]) -> Vec<String> {
    let roof = |case: &Case| -> Option<(&'static str, f64)> {
        let (kind, name) = match case.work {
            Amount::Flops(_) => ("GEMM", "matmul/"),
            Amount::Bytes(_) => ("copy", "copy/f32/flat100m"),
        };
        let (roof, ms) = rates.iter().find(|(other, _)| other.name.starts_with(name))?;
        Some((kind, rate(roof.work, *ms)))
    };
    let line = |(case, ms): &(&Case, f64)| {
        let (kind, roof) = roof(case)?;
        let unit = if kind == "GEMM" { "GFLOP/s" } else { "GB/s" };
        let ours = rate(case.work, *ms);
        let share = 100.0 * ours / roof;
        Some(format!("{}: {ours:.1} {unit}, {share:.0} % of the {kind} rate of {roof:.1} {unit}", case.name))
    };
    rates.iter().filter_map(line).collect()
}

/// 10⁹ operations or bytes a second.
fn rate(work: Amount, ms: f64) -> f64 {
    let (Amount::Bytes(amount) | Amount::Flops(amount)) = work;
    amount as f64 / ms / 1e6
}
