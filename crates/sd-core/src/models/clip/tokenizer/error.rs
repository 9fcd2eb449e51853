//! What can be wrong with a tokenizer's folder.

use std::path::PathBuf;

/// Why a tokenizer could not be read or used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// There is no vocabulary.
    #[error(
        "{}: no tokenizer in this folder: {missing} is not there. Expected vocab.json and merges.txt, or tokenizer.json; a \
         diffusers pipeline has them in its folder `tokenizer`",
        folder.display()
    )]
    Absent {
        /// Where it was looked for.
        folder: PathBuf,
        /// The file that is missing.
        missing: &'static str,
    },
    /// A file cannot be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// A file is no JSON, or JSON of another shape.
    #[error("{}: {source}. The file is damaged or of another kind: fetch it again", file.display())]
    Json {
        /// The file.
        file: PathBuf,
        /// What is wrong, with line and column.
        source: serde_json::Error,
    },
    /// A value is not what it must be.
    #[error("{}: {key}: expected {expected}, found {found}", file.display())]
    Value {
        /// The file.
        file: PathBuf,
        /// The key, parts joined by dots.
        key: String,
        /// What may stand there.
        expected: &'static str,
        /// What stands there.
        found: String,
    },
    /// Two tokens have one number.
    #[error("{}: the tokens {first:?} and {second:?} both have the number {id}; each needs its own", file.display())]
    Duplicate {
        /// The vocabulary.
        file: PathBuf,
        /// The number.
        id: u32,
        /// A token.
        first: String,
        /// Another token.
        second: String,
    },
    /// A line of the merges is no pair.
    #[error("{}: merge {number}: expected two tokens with one blank between them, found {found:?}", file.display())]
    Merge {
        /// The file.
        file: PathBuf,
        /// Which merge, from 1, not counting a first line `#version`.
        number: usize,
        /// What stands there.
        found: String,
    },
    /// A merge names a token that the vocabulary does not have.
    #[error(
        "{}: merge {number} is about the token {token:?}, which {} does not have: the two do not belong together, take both from one \
         model",
        file.display(), vocabulary.display()
    )]
    Unmatched {
        /// The merges.
        file: PathBuf,
        /// The vocabulary.
        vocabulary: PathBuf,
        /// Which merge, from 1.
        number: usize,
        /// The token.
        token: String,
    },
    /// A special token is not in the vocabulary.
    #[error(
        "{}: there is no {role} token: {token:?} is not in the vocabulary; take vocabulary and special_tokens_map.json from one \
         model",
        file.display()
    )]
    Special {
        /// The vocabulary.
        file: PathBuf,
        /// What the token is for.
        role: &'static str,
        /// The token.
        token: String,
    },
    /// A phrase is not among the tokens of a prompt.
    #[error(
        "the phrase {phrase:?} is not in the prompt {text:?}{}; whole words are looked for, capitals do not matter",
        if *cut { " as far as it was kept (its end was cut off)" } else { "" }
    )]
    Phrase {
        /// What was looked for.
        phrase: String,
        /// Where it was looked for.
        text: String,
        /// Whether the prompt's end had been cut off.
        cut: bool,
    },
    /// The engine behind refuses something.
    #[error("tokenizer: {0}")]
    Engine(String),
}

impl TokenizerError {
    pub(super) fn engine(error: tokenizers::Error) -> Self {
        Self::Engine(error.to_string())
    }
}
