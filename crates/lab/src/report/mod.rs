//! What a run leaves for people and programs: `claims.csv`, `tables/`, `figures/` and one self-contained `report.html`.

mod claims;
mod page;
mod parts;
mod pictures;
mod provenance;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;

use crate::atomic::{self, AtomicError};
use crate::judge::Judgement;
use crate::paper::{Header, Presentation};
use crate::row::Row;
use crate::{figure, table};

pub use page::html;
pub(crate) use pictures::with_kept;

/// Everything a report is made of.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// The experiment.
    pub header: &'a Header,
    /// Title of the paper.
    pub title: &'a str,
    /// How to cite it.
    pub citation: &'a str,
    /// Verdicts, one for every claim of `header.claims`, in the same order.
    pub judgements: &'a [Judgement],
    /// Tables, figures, pictures, metrics and protocol.
    pub presentation: &'a Presentation,
    /// The content of `run.json`: provenance.
    pub run: &'a serde_json::Value,
    /// Every row, for the counts shown in the provenance.
    pub rows: &'a [Row],
}

/// Why an output could not be made or written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file could not be put in its place.
    #[error(transparent)]
    Write(#[from] atomic::AtomicError),
    /// A table does not hold together.
    #[error(transparent)]
    Table(#[from] table::TableError),
    /// A figure does not hold together.
    #[error(transparent)]
    Figure(#[from] figure::FigureError),
    /// A table, figure or picture cannot be stored under its id.
    #[error("{kind} `{id}`: expected an id of its own, of letters, digits, `-` and `_`; found {found}")]
    Id {
        /// Table, figure or picture.
        kind: &'static str,
        /// The id.
        id: String,
        /// What is wrong with it.
        found: &'static str,
    },
    /// A picture is not what it says.
    #[error("picture `{id}`: expected a PNG file, found {found} bytes of something else")]
    Picture {
        /// Id of the picture.
        id: String,
        /// Number of bytes.
        found: usize,
    },
}

/// Writes `claims.csv`, `tables/*.csv`, `tables/*.md`, `figures/*.svg`, `figures/*.png` with `figures/pictures.json` (what they show) and
/// `report.html` under `out`, each atomically, the report last.
///
/// # Errors
/// Where a table, a figure or a file cannot be made; what was written before stays whole.
pub fn write_all(out: &Path, report: &Report) -> Result<(), ReportError> {
    let files = files(report)?;
    for folder in ["tables", "figures"] {
        atomic::create_dir_all_synced(out.join(folder))?;
    }
    for (name, bytes) in files {
        atomic::write_bytes(out.join(name), &bytes)?;
    }
    Ok(())
}

/// As [`write_all`]; then removes the tables and figures beside them that this report does not have, as an earlier configuration leaves
/// them in the folder. Files of other kinds stay.
///
/// # Errors
/// See [`write_all`]; and where a file cannot be removed.
pub fn write_only(out: &Path, report: &Report) -> Result<(), ReportError> {
    write_all(out, report)?;
    let shown = report.presentation;
    let tables =
        shown.tables.iter().flat_map(|table| ["csv", "md"].map(|kind| format!("{}.{kind}", table.id)));
    let figures = shown.figures.iter().map(|figure| format!("{}.svg", figure.id));
    let pictures = shown.pictures.iter().map(|picture| format!("{}.png", picture.id));
    let told = (!shown.pictures.is_empty()).then(|| "pictures.json".to_owned());
    remove_others(&out.join("tables"), &["csv", "md"], &tables.collect())?;
    remove_others(
        &out.join("figures"),
        &["svg", "png", "json"],
        &figures.chain(pictures).chain(told).collect(),
    )
}

/// Removes from a folder the files of these kinds that are not among those to keep.
fn remove_others(folder: &Path, kinds: &[&str], keep: &BTreeSet<String>) -> Result<(), ReportError> {
    let failed = |path: &Path, doing, source| AtomicError { path: path.to_owned(), doing, source };
    let entries = fs::read_dir(folder).map_err(|source| failed(folder, "list a folder", source))?;
    for entry in entries {
        let path = entry.map_err(|source| failed(folder, "list a folder", source))?.path();
        let kind = path.extension().and_then(OsStr::to_str);
        let stale = kind.is_some_and(|kind| kinds.contains(&kind))
            && path.file_name().and_then(OsStr::to_str).is_some_and(|name| !keep.contains(name));
        if stale {
            fs::remove_file(&path).map_err(|source| failed(&path, "remove a file", source))?;
        }
    }
    Ok(())
}

/// Every file with its path under the output folder. All are made before the first is written.
fn files(report: &Report) -> Result<Vec<(String, Vec<u8>)>, ReportError> {
    let shown = report.presentation;
    check_ids("table", shown.tables.iter().map(|table| &table.id))?;
    let drawn = shown.figures.iter().map(|figure| &figure.id);
    check_ids("figure", drawn.chain(shown.pictures.iter().map(|picture| &picture.id)))?;
    let mut files = vec![("claims.csv".to_owned(), table::csv(&claims::table(report))?)];
    for table in &shown.tables {
        files.push((format!("tables/{}.csv", table.id), table::csv(table)?));
        files.push((format!("tables/{}.md", table.id), table::markdown(table)?.into_bytes()));
    }
    for figure in &shown.figures {
        files.push((format!("figures/{}.svg", figure.id), figure::render(figure)?.into_bytes()));
    }
    for picture in &shown.pictures {
        if !picture.png.starts_with(b"\x89PNG\r\n\x1a\n") {
            return Err(ReportError::Picture { id: picture.id.clone(), found: picture.png.len() });
        }
        files.push((format!("figures/{}.png", picture.id), picture.png.clone()));
    }
    if !shown.pictures.is_empty() {
        files.push((pictures::FILE.to_owned(), pictures::told(&shown.pictures)));
    }
    files.push(("report.html".to_owned(), html(report)?.into_bytes()));
    Ok(files)
}

/// Ids become file names: nothing may leave the folder or overwrite another.
fn check_ids<'a>(kind: &'static str, ids: impl Iterator<Item = &'a String>) -> Result<(), ReportError> {
    let mut seen = BTreeSet::new();
    for id in ids {
        let wrong = |found| ReportError::Id { kind, id: id.clone(), found };
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if id.is_empty() || !id.chars().all(plain) {
            return Err(wrong("another character, or none"));
        }
        if !seen.insert(id.to_ascii_lowercase()) {
            return Err(wrong("it twice"));
        }
    }
    Ok(())
}
