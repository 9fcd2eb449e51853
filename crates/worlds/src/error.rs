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
    /// A name that is none of `known`, with the nearest of them where one is near.
    pub(crate) fn unknown(name: &str, known: &[&str]) -> Self {
        Self::Unknown { name: name.to_owned(), known: known.join(", "), hint: hint(name, known) }
    }

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

/// `; did you mean …?` with the nearest of `known` where one is near.
pub(crate) fn hint(name: &str, known: &[&str]) -> String {
    let near =
        known.iter().min_by_key(|other| distance(name, other)).filter(|other| distance(name, other) <= 2);
    near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default()
}

/// Letters to change, add or drop to make one word of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, &y) in b.iter().enumerate() {
            let cheapest = (diagonal + usize::from(x != y)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], cheapest);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_name_is_suggested_and_a_far_one_is_not() {
        let known = ["cifar10", "cifar100", "shapes10"];
        let message = |name| DataError::unknown(name, &known).to_string();
        assert_eq!(
            message("cifra10"),
            "no data set is called `cifra10`; known are cifar10, cifar100, shapes10; did you mean `cifar10`?"
        );
        assert!(!message("imagenet").contains("did you mean"));
    }
}
