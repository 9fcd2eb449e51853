//! Pictures of clean, corrupted and restored runs.

use anyhow::Result;
use lab::paper::{Outcome, Picture};
use lab::row::Rows;

/// The galleries that trials of a study kept, as far as their folders are there.
pub(super) fn of(study: &str, rows: &Rows<'_>, outcome: &Outcome) -> Result<Vec<Picture>> {
    let galleries = outcome.galleries(rows)?.into_iter();
    let picture = galleries.map(|gallery| Picture {
        id: format!("{study}_{}", gallery.case),
        title: format!("“{}”, subject “{}”", gallery.text("caption"), gallery.text("subject")),
        caption: format!("From left to right: {}.", gallery.list("runs", ", ")),
        png: gallery.png,
    });
    Ok(picture.collect())
}
