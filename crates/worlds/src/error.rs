//! What can go wrong with data: each error names the place, the rule, what was found and what to do.

use std::path::{Path, PathBuf};

/// A data set could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// No data set has this name.
    #[error("no data set is called `{name}`; known are {known}{hint}")]
    Unknown {
        /// The name asked for.
        name: String,
        /// Every known name.
        known: String,
        /// `, did you mean …?` or nothing.
        hint: String,
    },
    /// The data set is not on this machine.
    #[error(
        "data set `{name}` is not here: looked for {looked}.\nGet it in one of two ways:\n  \
             1. `cargo xtask datasets fetch {name}`\n  2. `--data DIR`, where DIR holds {layout}"
    )]
    Absent {
        /// Its name.
        name: String,
        /// The places looked at.
        looked: String,
        /// The folder layouts that are understood.
        layout: String,
    },
    /// A file breaks a rule of its format.
    #[error("{}: {rule}: expected {expected}, found {found}; {action}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// The rule, in words.
        rule: String,
        /// What the rule asks for.
        expected: String,
        /// What the file has.
        found: String,
        /// What to do.
        action: String,
    },
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

impl DataError {
    /// A file that breaks `rule`.
    pub(crate) fn broken(
        path: &Path,
        rule: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
        action: impl Into<String>,
    ) -> Self {
        Self::Broken {
            path: path.to_owned(),
            rule: rule.into(),
            expected: expected.to_string(),
            found: found.to_string(),
            action: action.into(),
        }
    }

    /// A failed system call on `path`.
    pub(crate) fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), action, source }
    }
}
