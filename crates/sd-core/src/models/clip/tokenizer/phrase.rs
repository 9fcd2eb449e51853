//! Finding words of a prompt among its tokens.

use std::ops::Range;

use super::{END_OF_WORD, Prompt, Tokenizer, TokenizerError};

impl Tokenizer {
    /// Where `phrase` first stands in a prompt, as positions in [`Prompt::ids`]; the last subject token is `end - 1`.
    ///
    /// Whole words are compared, as tokens: capitals, kinds of blanks and ways of writing an accent do not matter, and `cat`
    /// is not in `catfish`.
    ///
    /// # Errors
    /// Where the phrase is empty or not in what was kept of the prompt.
    pub fn span_of(&self, prompt: &Prompt, phrase: &str) -> Result<Range<usize>, TokenizerError> {
        let first = self.spans_of(prompt, phrase)?.into_iter().next();
        first.ok_or_else(|| TokenizerError::Phrase {
            phrase: phrase.to_owned(),
            text: prompt.text.clone(),
            cut: prompt.cut.is_some(),
        })
    }

    /// Every place where `phrase` stands in a prompt, as [`Self::span_of`]; two places may overlap.
    ///
    /// # Errors
    /// Where the engine fails.
    pub fn spans_of(&self, prompt: &Prompt, phrase: &str) -> Result<Vec<Range<usize>>, TokenizerError> {
        let pieces = self.pieces(phrase)?;
        let wanted = pieces.get_ids();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let starts = (1..prompt.ids.len()).filter(|start| {
            prompt.ids[*start..].starts_with(wanted)
                && prompt.spans[*start + wanted.len() - 1].is_some()
                && self.ends_word(prompt.ids[start - 1])
        });
        Ok(starts.map(|start| start..start + wanted.len()).collect())
    }

    /// Whether a word ends with this token: it says so, or it is special.
    fn ends_word(&self, id: u32) -> bool {
        let special = self.backend.get_added_vocabulary().simple_id_to_token(id).is_some();
        special || self.token(id).is_some_and(|token| token.ends_with(END_OF_WORD))
    }
}

impl Prompt {
    /// The positions in `ids` of all tokens that stand for any of these bytes of the text; empty where none does.
    #[must_use]
    pub fn tokens_over(&self, bytes: Range<usize>) -> Range<usize> {
        let touches = |span: &Option<Range<usize>>| {
            span.as_ref().is_some_and(|span| span.start < bytes.end && bytes.start < span.end)
        };
        let first = self.spans.iter().position(touches).unwrap_or(0);
        let last = self.spans.iter().rposition(touches).map_or(first, |last| last + 1);
        first..last
    }
}
