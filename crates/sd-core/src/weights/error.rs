//! What can go wrong with files of weights: each error names the place, what was expected, what was found and what to do.

use std::path::{Path, PathBuf};

use super::Misfit;

/// What to do with a file that is not what it was.
pub(super) const FETCH_AGAIN: &str = "the file is truncated or damaged: remove it and fetch it again";

/// A file or folder of weights could not be used.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// A file breaks a rule of its format.
    #[error("{}: {place}: expected {expected}, found {found}; {action}", path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// Where in it: the header, a tensor, a key.
        place: String,
        /// What the rule asks for.
        expected: String,
        /// What the file has.
        found: String,
        /// What to do.
        action: String,
    },
    /// The file holds something else than safetensors: a pickle, a page, a pointer.
    #[error("{}: expected a safetensors file, found {found}; {action}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What to do.
        action: String,
    },
    /// A file or folder that is needed is not there.
    #[error("{}: expected {expected}, found {found}; {action}", path.display())]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there instead.
        found: String,
        /// What to do.
        action: String,
    },
    /// The tensors are not those of the model.
    #[error(transparent)]
    Misfit(Box<Misfit>),
    /// The tensors fit, and the model could not be built or written all the same.
    #[error("{}: {source}", path.display())]
    Tensor {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: candle_core::Error,
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

impl WeightsError {
    /// A file that breaks a rule at `place`.
    pub(super) fn broken(
        path: &Path,
        place: impl Into<String>,
        expected: impl ToString,
        found: impl ToString,
        action: impl Into<String>,
    ) -> Self {
        Self::Broken {
            path: path.to_owned(),
            place: place.into(),
            expected: expected.to_string(),
            found: found.to_string(),
            action: action.into(),
        }
    }

    /// Something that should be at `path` and is not.
    pub(super) fn absent(
        path: &Path,
        expected: impl Into<String>,
        found: impl Into<String>,
        action: impl Into<String>,
    ) -> Self {
        let (expected, found, action) = (expected.into(), found.into(), action.into());
        Self::Absent { path: path.to_owned(), expected, found, action }
    }

    /// A failed system call on `path`.
    pub(super) fn io(path: &Path, action: &'static str, source: std::io::Error) -> Self {
        Self::Io { path: path.to_owned(), action, source }
    }
}

/// Gives the result of a system call its place.
pub(super) fn io<T>(
    path: &Path,
    action: &'static str,
    result: std::io::Result<T>,
) -> Result<T, WeightsError> {
    result.map_err(|source| WeightsError::io(path, action, source))
}

/// The first `most` of `items`, and how many more there are.
pub(super) fn listed<T: std::fmt::Display>(items: &[T], most: usize) -> String {
    let shown: Vec<String> = items.iter().take(most).map(ToString::to_string).collect();
    match items.len().saturating_sub(most) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The names in a folder, sorted, for a message; `nothing` where there are none.
pub(super) fn names_in(folder: &Path) -> String {
    let Ok(entries) = std::fs::read_dir(folder) else { return "no such folder".to_owned() };
    let mut names: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned())).collect();
    names.sort();
    if names.is_empty() { "an empty folder".to_owned() } else { listed(&names, 20) }
}
