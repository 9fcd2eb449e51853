//! From an experiment file to a finished folder: open, plan, execute, collect, judge, present.
//!
//! Exit codes ([`RunError::exit_code`], [`RunSummary::exit_code`]): 0 done, whatever the verdicts; 1 a trial failed, or the
//! run was interrupted, or its outcome could not be written; 2 the command line, the experiment, the data or the output
//! folder does not allow what was asked for.

mod collect;
mod folder;
mod provenance;
mod summary;

use std::io::Write;
use std::path::Path;

pub use summary::{End, RunSummary};

use crate::config::{ConfigError, Document};
use crate::error::RunError;
use crate::executor::{self, Executor, Plan, PoolOutcome, RunOptions};
use crate::lock::FolderLock;
use crate::paper::{Paper, Reproduction};
use crate::progress::Progress;
use crate::report::{write_all, write_only};

/// Opens `document` with the paper that it names.
///
/// # Errors
/// Where the paper is unknown or refuses the document.
pub fn open(papers: &[&dyn Paper], document: &Document) -> Result<Box<dyn Reproduction>, ConfigError> {
    paper_of(papers, document)?.open(document)
}

/// The paper that `document` names in its key `paper`.
///
/// # Errors
/// Where the key is missing or names none of `papers`.
pub fn paper_of<'a>(papers: &[&'a dyn Paper], document: &Document) -> Result<&'a dyn Paper, ConfigError> {
    #[derive(serde::Deserialize)]
    struct Named {
        paper: String,
    }
    let named: Named = document.decode()?;
    papers.iter().copied().find(|paper| paper.id() == named.paper).ok_or_else(|| {
        let known: Vec<String> = papers.iter().map(|paper| format!("`{}`", paper.id())).collect();
        document.error_at("paper", known.join(" or "), format!("`{}`", named.paper), "")
    })
}

/// What [`reproduce`] would run, without running or writing anything; its `Display` is what `--dry-run` shows.
///
/// # Errors
/// Where the experiment is wrong or cannot be planned.
pub fn dry_run(paper: &dyn Paper, document: &Document, options: &RunOptions) -> Result<Plan, RunError> {
    let reproduction = paper.open(document)?;
    let mut plan = plan(&*reproduction, &options.out, options)?;
    if options.rerun {
        plan.forget();
    }
    Ok(plan)
}

/// Runs the experiment `document` of `paper`, and leaves in `options.out` everything that the design lists under outputs.
///
/// Trials that are done are not run again; where all are, this only collects and presents anew. What a run writes, the
/// provenance in `run.json` and `report.html` excepted, depends on the experiment alone and not on jobs, shards or
/// interruptions. Progress goes through `writer`.
///
/// # Errors
/// See [`RunError`]. Failed trials and interruptions are ends ([`RunSummary::end`]).
pub fn reproduce(
    paper: &dyn Paper,
    document: &Document,
    options: &RunOptions,
    writer: Box<dyn Write + Send>,
) -> Result<RunSummary, RunError> {
    let reproduction = paper.open(document)?;
    let mut plan = plan(&*reproduction, &options.out, options)?;
    if options.rerun || !plan.todo().is_empty() {
        // Before anything is written: what is refused leaves nothing behind.
        reproduction.check_data(&options.data).map_err(RunError::Refused)?;
    }
    folder::create(&options.out)?;
    let lock = FolderLock::take(&options.out, options.shard)?;
    folder::claim(paper, document, &*reproduction, options)?;
    plan.look();
    if options.rerun {
        folder::forget(&mut plan)?;
    }
    folder::remove_stale_checkpoints(&plan)?;
    let reused = plan.finished();
    if let Executor::Slurm { sbatch } = &options.executor
        && !plan.todo().is_empty()
    {
        let said = executor::submit(&plan, options, sbatch)?;
        return Ok(RunSummary::new(End::Submitted(said), &plan, reused, PoolOutcome::default(), options));
    }
    let outcome = execute(&mut plan, options, writer)?;
    let summary = RunSummary::new(End::of(&plan, &outcome, options), &plan, reused, outcome, options);
    let summary = conclude(paper, document, &*reproduction, &plan, options, summary)?;
    drop(lock);
    Ok(summary)
}

/// Makes tables, figures, verdicts and the report again from the `rows.parquet` and `run.json` in `out`, without running.
///
/// # Errors
/// Where they are absent or not what they should be, or the outputs cannot be written.
pub fn report(paper: &dyn Paper, document: &Document, out: &Path) -> Result<RunSummary, RunError> {
    let reproduction = paper.open(document)?;
    let rows = crate::rows_file::read(&out.join("rows.parquet"))?;
    let _lock = FolderLock::take(out, None)?;
    let provenance = provenance::read(out)?;
    let judgements = collect::present(paper, &*reproduction, rows, out, &provenance, write_all)?;
    Ok(RunSummary::reported(out, &provenance, judgements))
}

fn plan(reproduction: &dyn Reproduction, out: &Path, options: &RunOptions) -> Result<Plan, RunError> {
    let specs = reproduction.trials(&options.data).map_err(RunError::Refused)?;
    Plan::new(specs, out, options.shard, options.jobs).map_err(RunError::Refused)
}

fn execute(
    plan: &mut Plan,
    options: &RunOptions,
    writer: Box<dyn Write + Send>,
) -> Result<PoolOutcome, RunError> {
    if plan.todo().is_empty() {
        return Ok(PoolOutcome::default());
    }
    let mut progress = Progress::new(options.progress, writer, plan, options.jobs);
    let outcome = executor::run_pool(plan, options, &mut progress);
    progress.close();
    outcome.map_err(RunError::Executor)
}

/// Collects and presents where there is something to show: everything is done, or what could be done is.
fn conclude(
    paper: &dyn Paper,
    document: &Document,
    reproduction: &dyn Reproduction,
    plan: &Plan,
    options: &RunOptions,
    mut summary: RunSummary,
) -> Result<RunSummary, RunError> {
    let partly =
        summary.end == End::Failed && !options.fail_fast && options.shard.is_none() && plan.finished() > 0;
    if summary.end != End::Done && !partly {
        return Ok(summary);
    }
    let _alone = FolderLock::to_present(&options.out)?;
    let rows = collect::rows(plan)?;
    crate::rows_file::write(&options.out.join("rows.parquet"), &rows)?;
    let provenance = provenance::write(paper, document, reproduction, plan, options)?;
    // What `--rerun` discards may have been another configuration's.
    let write = if options.rerun { write_only } else { write_all };
    summary.judgements = collect::present(paper, reproduction, rows, &options.out, &provenance, write)?;
    summary.presented = true;
    Ok(summary)
}
