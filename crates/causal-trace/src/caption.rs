//! A caption and the words in it that are traced.

use std::ops::Range;

use anyhow::{Context, Result, bail};
use sd_core::models::clip::Tokenizer;
use sd_core::models::clip::tokenizer::Prompt;

/// A caption and its subject: the words whose meaning is destroyed and looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caption {
    /// The whole text.
    pub text: String,
    /// The words of it that name the attribute; where they stand several times, the first place is meant.
    pub subject: String,
}

/// A caption as the text encoder reads it.
#[derive(Clone, Debug)]
pub struct Read {
    /// Its tokens.
    pub prompt: Prompt,
    /// The positions of the subject's tokens, half open: all of its sub-words.
    pub subject: Range<usize>,
    /// The position of the end-of-text token.
    pub end: usize,
}

impl Caption {
    /// `text` with its `subject`.
    #[must_use]
    pub fn new(text: impl Into<String>, subject: impl Into<String>) -> Self {
        Self { text: text.into(), subject: subject.into() }
    }

    /// The tokens of the caption and of its subject.
    ///
    /// # Errors
    /// Where the subject is empty or not in the caption, or the caption does not fit the encoder's window: what is cut off is not traced.
    pub fn read(&self, tokenizer: &Tokenizer) -> Result<Read> {
        let prompt = tokenizer.encode(&self.text)?;
        if let Some(cut) = &prompt.cut {
            bail!(
                "caption `{}`: {} tokens too long for a window of {}\n  found: `{}` would be cut off\n  help: shorten the caption",
                self.text,
                cut.tokens,
                tokenizer.length(),
                cut.text
            );
        }
        let subject = tokenizer.span_of(&prompt, &self.subject).with_context(|| {
            format!(
                "caption `{}`: its subject `{}` must be whole words of it\n  help: write the words as they stand in the caption",
                self.text, self.subject
            )
        })?;
        let end = prompt.spans.iter().rposition(Option::is_some).map_or(1, |last| last + 1);
        Ok(Read { prompt, subject, end })
    }
}

impl Read {
    /// The position of the last sub-word of the subject.
    #[must_use]
    pub fn last_subject(&self) -> usize {
        self.subject.end - 1
    }

    /// The caption's own positions that can carry anything of the subject: from its first token to the end of the text. Padding behind that
    /// carries it as well (trap T2), and is traced where its positions are named.
    #[must_use]
    pub fn carriers(&self) -> Vec<usize> {
        (self.subject.start..=self.end).collect()
    }
}
