//! How a run ended, for the exit code and the last words on the terminal.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::claim::Verdict;
use crate::error::{EXIT_DONE, EXIT_FAILED};
use crate::executor::{Failure, Plan, PoolOutcome, RunOptions};
use crate::judge::Judgement;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Every trial is done and presented.
    Done,
    /// This shard's trials are done; other shards' are not yet.
    ShardDone,
    /// A trial failed.
    Failed,
    /// A signal stopped it.
    Interrupted,
    /// A job array was submitted; what the scheduler said.
    Submitted(String),
}

impl End {
    pub(super) fn of(plan: &Plan, outcome: &PoolOutcome, options: &RunOptions) -> End {
        if outcome.interrupted {
            End::Interrupted
        } else if !outcome.failures.is_empty() || !plan.todo().is_empty() {
            End::Failed
        } else if options.shard.is_some() && !others_done(plan) {
            End::ShardDone
        } else {
            End::Done
        }
    }
}

/// Whether the trials of the other shards are done by now: the last shard to end presents.
fn others_done(plan: &Plan) -> bool {
    let mut now = plan.clone();
    now.look();
    now.complete()
}

/// What a run did.
#[derive(Clone, Debug)]
pub struct RunSummary {
    /// How it ended.
    pub end: End,
    /// Output folder.
    pub out: PathBuf,
    /// Trials in the plan.
    pub trials: usize,
    /// Trials that are done.
    pub finished: usize,
    /// Of these, those that were done before.
    pub reused: usize,
    /// Trials that this run finished.
    pub ran: usize,
    /// Trials that failed.
    pub failures: Vec<Failure>,
    /// Verdicts, where the outcome was presented.
    pub judgements: Vec<Judgement>,
    /// Whether tables, figures and the report were written.
    pub presented: bool,
    again: String,
}

impl RunSummary {
    pub(super) fn new(
        end: End,
        plan: &Plan,
        reused: usize,
        outcome: PoolOutcome,
        options: &RunOptions,
    ) -> RunSummary {
        RunSummary {
            end,
            out: options.out.clone(),
            trials: plan.trials.len(),
            finished: plan.finished(),
            reused,
            ran: outcome.ran,
            failures: outcome.failures,
            judgements: Vec::new(),
            presented: false,
            again: options.again.clone(),
        }
    }

    /// The summary of an earlier run that was presented again; its numbers are those of its `run.json`.
    pub(super) fn reported(out: &Path, run: &serde_json::Value, judgements: Vec<Judgement>) -> RunSummary {
        let number =
            |name: &str| run["trials"][name].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        RunSummary {
            end: End::Done,
            out: out.to_owned(),
            trials: number("planned"),
            finished: number("done"),
            reused: number("done"),
            ran: 0,
            failures: Vec::new(),
            judgements,
            presented: true,
            again: String::new(),
        }
    }

    /// 0 where everything asked for was done, 1 where a trial failed or the run was interrupted.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self.end {
            End::Done | End::ShardDone | End::Submitted(_) => EXIT_DONE,
            End::Failed | End::Interrupted => EXIT_FAILED,
        }
    }

    /// Number of claims with `verdict`.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.judgements.iter().filter(|judgement| judgement.verdict == verdict).count()
    }

    fn verdicts(&self) -> String {
        let named = [
            (Verdict::Supported, "supported"),
            (Verdict::Refuted, "refuted"),
            (Verdict::Inconclusive, "inconclusive"),
            (Verdict::NotTestable, "not testable here"),
        ];
        let parts: Vec<String> =
            named.iter().map(|(verdict, name)| format!("{} {name}", self.count(*verdict))).collect();
        format!("{} claims: {}", self.judgements.len(), parts.join(", "))
    }
}

/// The last words: what was done, what failed, where the report is, and how to go on.
impl fmt::Display for RunSummary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (finished, trials) = (self.finished, self.trials);
        match &self.end {
            End::Done => write!(formatter, "{finished} trials done, {} of them now", self.ran)?,
            End::ShardDone => write!(
                formatter,
                "this shard is done; {finished} of all {trials} trials are\nthe last shard to end writes the report, \
                 as does a run without --shard"
            )?,
            End::Failed => {
                let failed = self.failures.len();
                write!(formatter, "{failed} of {trials} trials failed, {finished} are done")?;
                for failure in &self.failures {
                    write!(formatter, "\n{failure}")?;
                }
                write!(formatter, "\nto run again what is not done: {}", self.again)?;
            }
            End::Interrupted => write!(
                formatter,
                "interrupted; {finished} of {trials} trials are done and kept\nto go on: {}",
                self.again
            )?,
            End::Submitted(said) => write!(
                formatter,
                "{} trials submitted: {said}\nwhen they are done, the report: {}",
                trials - finished,
                self.again
            )?,
        }
        if self.presented {
            write!(formatter, "\n{}\nreport: {}", self.verdicts(), self.out.join("report.html").display())?;
        }
        Ok(())
    }
}
