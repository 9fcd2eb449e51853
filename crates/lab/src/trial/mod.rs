//! One trial: its key, what it may write while it runs, and how it is run as a process of its own.
//!
//! ```text
//! trials/<key>/  trial.json      what it is: study, arm, case, seed, configuration
//!                log.txt         what it said
//!                rows.jsonl      its rows, one JSON object a line
//!                <artifacts>
//!                checkpoint/     kept while it is unfinished, removed once it is done
//!                DONE            digests of trial.json, rows.jsonl and the artifacts; the trial counts only with it
//! ```

mod child;
mod context;
mod done;

pub use child::{ChildOptions, WATCH_STDIN, run_child};
pub(crate) use context::Sink;
pub use context::{Measure, TrialError};
pub use done::Payload;
pub(crate) use done::{Done, read_rows};

use serde_json::json;

use crate::digest;
use crate::paper::TrialSpec;

impl TrialSpec {
    /// The trial's name on disk: the first 16 hexadecimal digits of the SHA-256 of its study, arm, case, seed and
    /// configuration as canonical JSON. Its expected cost plays no part.
    #[must_use]
    pub fn key(&self) -> String {
        let mut digest = digest::of_json(&self.identity());
        digest.truncate(16);
        digest
    }

    /// What the key is made of.
    pub(crate) fn identity(&self) -> serde_json::Value {
        json!({
            "study": self.study, "arm": self.arm, "case": self.case, "seed": self.seed, "config": self.config,
        })
    }

    /// `study/arm/case/seed 3`, for people.
    #[must_use]
    pub fn label(&self) -> String {
        let mut parts = vec![self.study.as_str(), self.arm.as_str()];
        if !self.case.is_empty() {
            parts.push(&self.case);
        }
        format!("{} seed {}", parts.join("/"), self.seed)
    }
}

#[cfg(test)]
mod tests;
