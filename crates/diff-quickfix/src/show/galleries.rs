//! Pictures before and after, by method.

use anyhow::Result;
use lab::paper::{Outcome, Picture};
use lab::row::Rows;

/// The galleries that trials of a study kept, as far as their folders are there.
pub(super) fn of(study: &str, rows: &Rows<'_>, outcome: &Outcome) -> Result<Vec<Picture>> {
    let galleries = outcome.galleries(rows)?.into_iter();
    let picture = galleries.map(|gallery| Picture {
        id: format!("{study}_{}", gallery.case),
        title: gallery.text("edit").to_owned(),
        caption: format!(
            "Rows, from the top: {}. Columns: {}. The noise of a column is the same in every row.",
            gallery.list("rows", ", "),
            gallery.list("captions", " | ")
        ),
        png: gallery.png,
    });
    Ok(picture.collect())
}
