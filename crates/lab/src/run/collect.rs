//! Rows of all trials in one fixed order, and what is made of them.

use std::path::Path;

use crate::error::RunError;
use crate::executor::Plan;
use crate::judge::{Judgement, judge};
use crate::paper::{Outcome, Paper, Reproduction};
use crate::report::{Report, ReportError};
use crate::row::Row;
use crate::trial::read_rows;

/// Rows in the order of the plan and, within a trial, in the order in which it wrote them.
pub(super) fn rows(plan: &Plan) -> Result<Vec<Row>, RunError> {
    let mut rows = Vec::new();
    for trial in plan.trials.iter().filter(|trial| trial.done.is_some()) {
        rows.extend(read_rows(&trial.folder).map_err(RunError::Present)?);
    }
    Ok(rows)
}

/// Judges, presents, and writes the report with `write`.
pub(super) fn present(
    paper: &dyn Paper,
    reproduction: &dyn Reproduction,
    plan: &Plan,
    rows: Vec<Row>,
    out: &Path,
    run: &serde_json::Value,
    write: impl FnOnce(&Path, &Report<'_>) -> Result<(), ReportError>,
) -> Result<Vec<Judgement>, RunError> {
    let header = reproduction.header();
    let judgements = judge(&header.claims, &rows);
    let done = plan.trials.iter().filter(|trial| trial.done.is_some());
    let trials = done.map(|trial| (trial.key.clone(), trial.folder.clone())).collect();
    let outcome = Outcome { rows, trials };
    let presentation = reproduction.present(&outcome).map_err(RunError::Present)?;
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
