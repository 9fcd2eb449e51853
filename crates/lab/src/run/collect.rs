//! Rows of all trials in one fixed order, and what is made of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::RunError;
use crate::executor::Plan;
use crate::judge::{Judgement, judge};
use crate::paper::{Outcome, Paper, Reproduction};
use crate::report::{self, Report, ReportError};
use crate::row::Row;
use crate::trial::read_rows;

/// Rows by metric, since like numbers side by side take less room in `rows.parquet`; then in the order of the plan and, within a
/// trial, in the order in which it wrote them.
pub(super) fn rows(plan: &Plan) -> Result<Vec<Row>, RunError> {
    let mut rows = Vec::new();
    for trial in plan.trials.iter().filter(|trial| trial.done.is_some()) {
        rows.extend(read_rows(&trial.folder).map_err(RunError::Present)?);
    }
    rows.sort_by(|a, b| a.metric.cmp(&b.metric));
    Ok(rows)
}

/// Judges, presents, and writes the report with `write`.
pub(super) fn present(
    paper: &dyn Paper,
    reproduction: &dyn Reproduction,
    rows: Vec<Row>,
    out: &Path,
    run: &serde_json::Value,
    write: impl FnOnce(&Path, &Report<'_>) -> Result<(), ReportError>,
) -> Result<Vec<Judgement>, RunError> {
    let header = reproduction.header();
    let trials = folders(&rows, out);
    let missing = rows.iter().any(|row| !trials.contains_key(&row.trial));
    let derived = reproduction.derived(&rows);
    let rows = [rows, derived].concat();
    let judgements = judge(&header.claims, &rows);
    let outcome = Outcome { rows, trials };
    let mut presentation = reproduction.present(&outcome).map_err(RunError::Present)?;
    if missing {
        // Rows outlive the trials that drew the pictures, as in a clone of the results.
        presentation.pictures = report::with_kept(out, presentation.pictures).map_err(RunError::Present)?;
    }
    let report = Report {
        header: &header,
        title: paper.title(),
        citation: paper.citation(),
        judgements: &judgements,
        presentation: &presentation,
        run,
        rows: &outcome.rows,
    };
    write(out, &report)?;
    Ok(judgements)
}

/// Folders of the trials that `rows` came from, as far as they are there: results may be shown without them.
fn folders(rows: &[Row], out: &Path) -> BTreeMap<String, PathBuf> {
    let mut folders = BTreeMap::new();
    for row in rows {
        if !folders.contains_key(&row.trial) {
            folders.insert(row.trial.clone(), out.join("trials").join(&row.trial));
        }
    }
    folders.retain(|_, folder| folder.join("DONE").exists());
    folders
}
