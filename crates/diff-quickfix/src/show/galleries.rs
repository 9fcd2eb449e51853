//! Pictures before and after, by method.

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context, Result};
use lab::paper::{Outcome, Picture};

use super::Rows;

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
        let list = |key: &str| -> Vec<String> {
            told[key]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|one| one.as_str())
                .map(str::to_owned)
                .collect()
        };
        all.push(Picture {
            id: format!("{study}_{}", row.case),
            title: told["edit"].as_str().unwrap_or_default().to_owned(),
            caption: format!(
                "Rows, from the top: {}. Columns: {}. The noise of a column is the same in every row.",
                list("rows").join(", "),
                list("captions").join(" | ")
            ),
            png,
        });
    }
    all.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(all)
}
