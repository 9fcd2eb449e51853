//! Pictures of clean, corrupted and restored runs.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};
use lab::paper::{Outcome, Picture};

use crate::rows::Rows;

/// The galleries that trials of a study kept, as far as their folders are there.
pub(super) fn of(study: &str, rows: &Rows<'_>, outcome: &Outcome) -> Result<Vec<Picture>> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for row in &rows.0 {
        let Some(folder) = outcome.trials.get(&row.trial).filter(|_| seen.insert(row.trial.clone())) else {
            continue;
        };
        let path = folder.join("gallery.png");
        if !path.is_file() {
            continue;
        }
        let png = fs::read(&path).with_context(|| path.display().to_string())?;
        let told = folder.join("gallery.json");
        let text = fs::read_to_string(&told).with_context(|| told.display().to_string())?;
        let told: serde_json::Value =
            serde_json::from_str(&text).with_context(|| told.display().to_string())?;
        let runs: Vec<&str> =
            told["runs"].as_array().into_iter().flatten().filter_map(|run| run.as_str()).collect();
        let (caption, subject) =
            (told["caption"].as_str().unwrap_or_default(), told["subject"].as_str().unwrap_or_default());
        all.push(Picture {
            id: format!("{study}_{}", row.case),
            title: format!("“{caption}”, subject “{subject}”"),
            caption: format!("From left to right: {}.", runs.join(", ")),
            png,
        });
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(all)
}
