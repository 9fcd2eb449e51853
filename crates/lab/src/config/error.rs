//! What can be wrong with an experiment file or an override, as one message: where, what, what was expected, what was
//! found, what to do.

use std::fmt;
use std::path::PathBuf;

/// An experiment that cannot be read or does not make sense. Exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be opened or is not text.
    #[error("{path}: cannot read the experiment file: {source}\n  help: {help}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
        /// What to do.
        help: String,
    },
    /// The text was read, and something in it is wrong.
    #[error("{0}")]
    Invalid(Box<Problem>),
}

impl ConfigError {
    /// Line and column (from 1) in the file, where the error has them.
    #[must_use]
    pub fn line_column(&self) -> Option<(u64, u64)> {
        match self {
            ConfigError::Read { .. } => None,
            ConfigError::Invalid(problem) => match problem.origin {
                Origin::File { at, .. } => at,
                Origin::CommandLine { .. } => None,
            },
        }
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        ConfigError::Invalid(Box::new(problem))
    }
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    /// Where it was read.
    pub origin: Origin,
    /// What is wrong.
    pub what: String,
    /// What would be right; left out of the message where empty.
    pub expected: String,
    /// What stands there; left out of the message where empty.
    pub found: String,
    /// What to do; left out of the message where empty.
    pub help: String,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// The experiment file.
    File {
        /// Its name.
        name: String,
        /// Line and column, from 1, where known.
        at: Option<(u64, u64)>,
    },
    /// An override.
    CommandLine {
        /// The override as it was typed.
        typed: String,
        /// The file that it was applied to.
        name: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::File { name, at: Some((line, column)) } => write!(formatter, "{name}:{line}:{column}"),
            Origin::File { name, at: None } => write!(formatter, "{name}"),
            Origin::CommandLine { typed, name } => {
                write!(formatter, "command line, -s {typed} (applied to {name})")
            }
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.origin, self.what)?;
        for (name, text) in [("expected", &self.expected), ("found", &self.found), ("help", &self.help)] {
            if !text.is_empty() {
                write!(formatter, "\n  {name}: {text}")?;
            }
        }
        Ok(())
    }
}
