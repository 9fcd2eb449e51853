//! The papers that this binary reproduces, and their experiment files as they were when it was built.

use anyhow::{Result, bail};
use lab::paper::Paper;

/// A paper and its experiments.
#[derive(Clone, Copy)]
pub struct Entry {
    /// The paper.
    pub paper: &'static dyn Paper,
    /// Scale and text of each experiment file, so that the binary works away from the repository.
    pub experiments: &'static [(&'static str, &'static str)],
}

/// Every paper of this build.
pub const PAPERS: &[Entry] = &[
    Entry {
        paper: diffgrad::DIFFGRAD,
        experiments: &[
            ("quick", include_str!("../../../experiments/diffgrad/quick.yaml")),
            ("standard", include_str!("../../../experiments/diffgrad/standard.yaml")),
            ("paper", include_str!("../../../experiments/diffgrad/paper.yaml")),
        ],
    },
    Entry {
        paper: causal_trace::CAUSAL_TRACE,
        experiments: &[
            ("quick", include_str!("../../../experiments/causal-trace/quick.yaml")),
            ("standard", include_str!("../../../experiments/causal-trace/standard.yaml")),
            ("paper", include_str!("../../../experiments/causal-trace/paper.yaml")),
        ],
    },
    Entry {
        paper: diff_quickfix::DIFF_QUICKFIX,
        experiments: &[
            ("quick", include_str!("../../../experiments/diff-quickfix/quick.yaml")),
            ("standard", include_str!("../../../experiments/diff-quickfix/standard.yaml")),
            ("paper", include_str!("../../../experiments/diff-quickfix/paper.yaml")),
        ],
    },
];

/// The papers that `name` means: one, or every one for `all`.
///
/// # Errors
/// Where no paper is called that; the message lists those that are.
pub(crate) fn named<'a>(papers: &'a [Entry], name: &str) -> Result<Vec<&'a Entry>> {
    let found: Vec<&Entry> =
        papers.iter().filter(|entry| name == "all" || entry.paper.id() == name).collect();
    if found.is_empty() {
        let known: Vec<&str> = papers.iter().map(|entry| entry.paper.id()).collect();
        bail!(
            "no paper is called `{name}`\n  expected: {} or all\n  help: `cargo xtask list` says what each is",
            known.join(", ")
        );
    }
    Ok(found)
}

/// The papers as the bench wants them.
pub(crate) fn bare(papers: &[Entry]) -> Vec<&dyn Paper> {
    papers.iter().map(|entry| entry.paper as &dyn Paper).collect()
}
