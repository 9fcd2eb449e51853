//! CLIP's tokenizer: byte-level BPE with an end-of-word mark, the ids of transformers' `CLIPTokenizer`.
//!
//! A text is brought to Unicode's NFC, every run of white space becomes one blank, letters become small; it is cut into words
//! (special tokens, English contractions, runs of letters, single digits, runs of anything else that is not white space), each
//! word is written as bytes, and pairs of bytes are merged in the order of `merges.txt`. What the encoder reads is
//! `begin, tokens…, end, padding…` of a fixed length, 77 for every Stable Diffusion.
//!
//! [`Tokenizer::encode`] also says which bytes of the text each token stands for, and what was cut off; [`Tokenizer::span_of`]
//! finds a phrase (the subject that a causal trace corrupts) among the tokens.

mod error;
mod files;
mod phrase;
mod special;
#[cfg(test)]
mod tests;

use std::ops::Range;
use std::path::Path;

use candle_core::{Device, Tensor, bail};
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::normalizers::replace::ReplacePattern;
use tokenizers::normalizers::{Lowercase, NFC, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence as PreTokenizers;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{Encoding, SplitDelimiterBehavior};

pub use error::TokenizerError;
use files::Files;

/// What ends the last token of a word.
const END_OF_WORD: &str = "</w>";
/// What counts as a word, in this order.
const WORD: &str =
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";

/// A tokenizer read from a diffusers or transformers folder.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    backend: tokenizers::Tokenizer,
    begin: u32,
    end: u32,
    pad: u32,
    length: usize,
}

/// A text as the encoder reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prompt {
    /// The text that was encoded.
    pub text: String,
    /// `begin, tokens…, end, padding…`: [`Tokenizer::length`] numbers.
    pub ids: Vec<u32>,
    /// The bytes of `text` that each of `ids` stands for; `None` for begin, end and padding. Where one character is several
    /// tokens, each of them has the whole character.
    pub spans: Vec<Option<Range<usize>>>,
    /// What did not fit and was left out.
    pub cut: Option<Cut>,
}

/// The letter that stands for each byte in CLIP's vocabulary, in the vocabulary's order: the bytes that can be printed stand for
/// themselves, then the others for characters from 256 on (GPT-2's `bytes_to_unicode`).
#[must_use]
pub fn byte_letters() -> Vec<char> {
    let own = |byte: &u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let (printable, others): (Vec<u8>, Vec<u8>) = (0..=u8::MAX).partition(own);
    let moved = (0..others.len() as u32).filter_map(|index| char::from_u32(256 + index));
    printable.into_iter().map(char::from).chain(moved).collect()
}

/// The end of a text that did not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The text from the first token that was left out.
    pub text: String,
    /// How many tokens were left out.
    pub tokens: usize,
}

impl Tokenizer {
    /// The tokenizer in `folder`: `tokenizer.json`, or `vocab.json` and `merges.txt`; beside them, where present,
    /// `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`, which say what pads (end-of-text in
    /// Stable Diffusion 1.x, `!` in 2.x) and how long a prompt is.
    ///
    /// # Errors
    /// Where a file is missing or no JSON, the vocabulary and the merges do not fit together, a special token is not in the
    /// vocabulary, or the folder holds another kind of tokenizer.
    pub fn open(folder: &Path) -> Result<Self, TokenizerError> {
        let files = Files::read(folder)?;
        let special = special::Special::read(&files)?;
        special.check(&files)?;
        let mut backend = engine(files.vocabulary, &special.unknown)?;
        backend.add_tokens(special.tokens).map_err(TokenizerError::engine)?;
        let id = |token: &str| backend.token_to_id(token).unwrap_or_default();
        let (begin, end, pad) = (id(&special.begin), id(&special.end), id(&special.pad));
        Ok(Self { begin, end, pad, length: files.length, backend })
    }

    /// How many ids every prompt has, padding and the tokens at both ends among them.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The id in front of every prompt.
    #[must_use]
    pub fn begin(&self) -> u32 {
        self.begin
    }

    /// The id after every prompt.
    #[must_use]
    pub fn end(&self) -> u32 {
        self.end
    }

    /// The id that fills a prompt up.
    #[must_use]
    pub fn pad(&self) -> u32 {
        self.pad
    }

    /// How many ids there are: the rows that the encoder's token embedding must have at least.
    #[must_use]
    pub fn vocabulary(&self) -> usize {
        self.backend.get_vocab_size(true)
    }

    /// The token with a number, as the vocabulary writes it: bytes as letters, `</w>` after a word's last.
    #[must_use]
    pub fn token(&self, id: u32) -> Option<String> {
        self.backend.id_to_token(id)
    }

    /// The ids of a text, padded, and cut where it is too long: [`Prompt::cut`] then holds what was left out.
    ///
    /// # Errors
    /// Where the engine fails, which no text is known to bring about.
    pub fn encode(&self, text: &str) -> Result<Prompt, TokenizerError> {
        let encoding = self.pieces(text)?;
        let kept = encoding.len().min(self.length - 2);
        let mut ids = vec![self.begin];
        ids.extend_from_slice(&encoding.get_ids()[..kept]);
        ids.push(self.end);
        ids.resize(self.length, self.pad);
        let mut spans = vec![None];
        spans.extend(whole_spans(text, encoding.get_offsets()).into_iter().take(kept).map(Some));
        spans.resize(self.length, None);
        Ok(Prompt { text: text.to_owned(), ids, spans, cut: cut(text, &encoding, kept) })
    }

    /// The tokens of a text alone, nothing around them.
    fn pieces(&self, text: &str) -> Result<Encoding, TokenizerError> {
        self.backend.encode(text, false).map_err(TokenizerError::engine)
    }
}

fn cut(text: &str, encoding: &Encoding, kept: usize) -> Option<Cut> {
    let &(start, _) = encoding.get_offsets().get(kept)?;
    Some(Cut { text: text[start..].to_owned(), tokens: encoding.len() - kept })
}

/// The engine gives a letter that was composed of several characters the first of them alone; this gives it all: nothing but white
/// space is without a token, so what follows a token and is no white space is its own.
fn whole_spans(text: &str, offsets: &[(usize, usize)]) -> Vec<Range<usize>> {
    let mut limit = text.len();
    let mut spans: Vec<Range<usize>> = Vec::with_capacity(offsets.len());
    for &(start, end) in offsets.iter().rev() {
        limit = spans.last().filter(|next| next.start > start).map_or(limit, |next| next.start);
        // A token may end and the next begin inside one character, which both then have.
        let rest = &text[end..limit.max(end)];
        spans.push(start..end + rest.find(char::is_whitespace).unwrap_or(rest.len()));
    }
    spans.reverse();
    spans
}

impl Prompt {
    /// The ids of several prompts as a tensor (B, T) of `u32`, what the text encoder takes.
    ///
    /// # Errors
    /// Where there is no prompt, or they have different lengths.
    pub fn stack(prompts: &[Self], device: &Device) -> candle_core::Result<Tensor> {
        let Some(first) = prompts.first() else { bail!("no prompt to stack; expected at least one") };
        if let Some(other) = prompts.iter().find(|prompt| prompt.ids.len() != first.ids.len()) {
            bail!(
                "prompts of {} and {} ids; one tokenizer gives one length",
                first.ids.len(),
                other.ids.len()
            );
        }
        let ids: Vec<u32> = prompts.iter().flat_map(|prompt| prompt.ids.iter().copied()).collect();
        Tensor::from_vec(ids, (prompts.len(), first.ids.len()), device)
    }
}

/// The machine behind: how text is normalised, cut into words and merged.
fn engine(vocabulary: files::Vocabulary, unknown: &str) -> Result<tokenizers::Tokenizer, TokenizerError> {
    let model = BPE::builder()
        .vocab_and_merges(vocabulary.ids.into_iter().collect::<Vocab>(), vocabulary.merges)
        .unk_token(unknown.to_owned())
        .continuing_subword_prefix(String::new())
        .end_of_word_suffix(END_OF_WORD.to_owned())
        .build()
        .map_err(TokenizerError::engine)?;
    let blanks =
        Replace::new(ReplacePattern::Regex(r"\s+".to_owned()), " ").map_err(TokenizerError::engine)?;
    let words = Split::new(SplitPattern::Regex(WORD.to_owned()), SplitDelimiterBehavior::Removed, true)
        .map_err(TokenizerError::engine)?;
    let mut engine = tokenizers::Tokenizer::new(model);
    let normalizer = Normalizers::new(vec![NFC.into(), blanks.into(), Lowercase.into()]);
    engine.with_normalizer(Some(normalizer)).map_err(TokenizerError::engine)?;
    let bytes = ByteLevel::new(false, true, true);
    engine.with_pre_tokenizer(Some(PreTokenizers::new(vec![words.into(), bytes.into()])));
    Ok(engine)
}
