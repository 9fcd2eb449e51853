//! `list`: the papers, their scales, and what each needs.

use anyhow::Result;
use cli::Scale;
use lab::executor::{readable_bytes, readable_seconds};

use crate::output::{columns, print};
use crate::papers::Entry;
use crate::places;

const CORES: f64 = 2.0;

/// Prints every paper with its scales.
pub(crate) fn run(papers: &[Entry]) -> Result<u8> {
    for entry in papers {
        print(&format!("{}: {}\n", entry.paper.id(), entry.paper.title()))?;
        print(&columns(&scales(entry)?))?;
    }
    print(
        "\nTimes are estimates for two cores. `cargo xtask reproduce <paper> --dry-run` lists the trials.\n",
    )?;
    Ok(cli::exit::DONE)
}

fn scales(entry: &Entry) -> Result<Vec<Vec<String>>> {
    let head = ["  scale", "trials", "time", "disk", "data"].map(str::to_owned).to_vec();
    let rows =
        Scale::ALL.iter().filter(|scale| entry.experiments.iter().any(|(name, _)| *name == scale.name()));
    std::iter::once(Ok(head)).chain(rows.map(|scale| row(entry, *scale))).collect()
}

fn row(entry: &Entry, scale: Scale) -> Result<Vec<String>> {
    let reproduction = entry.paper.open(&places::experiment(entry, scale)?)?;
    let trials = reproduction.trials(&places::data(None))?;
    let seconds: f64 = trials.iter().map(|trial| trial.seconds).sum();
    let bytes = trials.iter().map(|trial| trial.bytes).sum();
    let mut data: Vec<String> = reproduction.header().data.into_values().collect();
    data.sort();
    data.dedup();
    let data = if data.is_empty() { "none".to_owned() } else { data.join(", ") };
    Ok(vec![
        format!("  {scale}"),
        trials.len().to_string(),
        readable_seconds(seconds / CORES),
        readable_bytes(bytes),
        data,
    ])
}
