//! A byte-pair tokenizer in CLIP's format, made for a closed list of words: each of them becomes one token.
//!
//! Byte-pair merges (Sennrich et al., 2016) are learnt from the list, each word counted once, until nothing is left to merge. Texts of
//! other words still have tokens: each byte has one.

use std::collections::BTreeMap;

use sd_core::models::clip::tokenizer::byte_letters;
use sd_core::weights::FolderWriter;
use serde_json::json;

const BEGIN: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// Tokens and merges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vocabulary {
    /// Tokens in the order of their numbers: letters of bytes, the same at a word's end, what is merged, begin and end of text.
    pub tokens: Vec<String>,
    /// Pairs in the order in which they are merged.
    pub merges: Vec<(String, String)>,
}

type Pair = (String, String);

impl Vocabulary {
    /// That of these words.
    #[must_use]
    pub fn of(words: &[String]) -> Self {
        let mut parts: Vec<Vec<String>> = words.iter().map(|word| letters_of(word)).collect();
        let mut merges = Vec::new();
        while let Some(pair) = most_frequent(&parts) {
            parts.iter_mut().for_each(|word| merge(word, &pair));
            merges.push(pair);
        }
        let letters = byte_letters();
        let ends = letters.iter().map(|letter| format!("{letter}</w>"));
        let mut tokens: Vec<String> = letters.iter().map(char::to_string).chain(ends).collect();
        tokens.extend(merges.iter().map(|(left, right)| format!("{left}{right}")));
        tokens.extend([BEGIN.to_owned(), END.to_owned()]);
        Self { tokens, merges }
    }

    /// Number of begin-of-text.
    #[must_use]
    pub fn begin(&self) -> usize {
        self.tokens.len() - 2
    }

    /// Number of end-of-text, which is the padding too.
    #[must_use]
    pub fn end(&self) -> usize {
        self.tokens.len() - 1
    }

    /// The files of the tokenizer's folder, by name.
    #[must_use]
    pub fn files(&self, length: usize) -> [(&'static str, String); 4] {
        let ids: serde_json::Map<_, _> =
            self.tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
        let merges = self.merges.iter().map(|(left, right)| format!("{left} {right}\n")).collect::<String>();
        let special = json!({"bos_token": BEGIN, "eos_token": END, "unk_token": END, "pad_token": END});
        let config = json!({
            "tokenizer_class": "CLIPTokenizer", "model_max_length": length, "bos_token": BEGIN, "eos_token": END,
            "unk_token": END, "pad_token": END, "add_prefix_space": false, "do_lower_case": true, "errors": "replace",
        });
        [
            ("vocab.json", serde_json::Value::Object(ids).to_string()),
            ("merges.txt", format!("#version: 0.2\n{merges}")),
            ("tokenizer_config.json", format!("{config:#}\n")),
            ("special_tokens_map.json", format!("{special:#}\n")),
        ]
    }

    /// Writes the tokenizer of a pipeline.
    ///
    /// # Errors
    /// Where the system refuses.
    pub fn write(&self, length: usize, folder: &mut FolderWriter) -> anyhow::Result<()> {
        let files = self.files(length);
        Ok(folder.tokenizer("CLIPTokenizer", files.iter().map(|(name, text)| (*name, text.as_bytes())))?)
    }
}

/// A word as single letters, the last one marked.
fn letters_of(word: &str) -> Vec<String> {
    let mut letters: Vec<String> = word.chars().map(String::from).collect();
    if let Some(last) = letters.last_mut() {
        last.push_str("</w>");
    }
    letters
}

/// The pair that most words hold; of several the first in the alphabet.
fn most_frequent(words: &[Vec<String>]) -> Option<Pair> {
    let mut counts: BTreeMap<Pair, usize> = BTreeMap::new();
    for pair in words.iter().flat_map(|word| word.windows(2)) {
        *counts.entry((pair[0].clone(), pair[1].clone())).or_default() += 1;
    }
    let most = *counts.values().max()?;
    counts.into_iter().find(|(_, count)| *count == most).map(|(pair, _)| pair)
}

fn merge(word: &mut Vec<String>, (left, right): &Pair) {
    let mut at = 0;
    while at + 1 < word.len() {
        if &word[at] == left && &word[at + 1] == right {
            let tail = word.remove(at + 1);
            word[at].push_str(&tail);
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use sd_core::models::clip::Tokenizer;

    use super::*;

    fn words() -> Vec<String> {
        worlds::scenes::vocabulary()
    }

    #[test]
    fn every_word_is_one_token_of_its_own() {
        let vocabulary = Vocabulary::of(&words());
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in vocabulary.files(20) {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let tokenizer = Tokenizer::open(folder.path()).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        for word in words() {
            let prompt = tokenizer.encode(&word).unwrap();
            assert_eq!(prompt.ids[2], tokenizer.end(), "{word}: {:?}", prompt.ids);
            assert!(seen.insert(prompt.ids[1]), "{word} shares its token");
        }
        assert_eq!(tokenizer.vocabulary(), vocabulary.tokens.len());
        let other = tokenizer.encode("an émeu").unwrap();
        assert!(other.ids[3] != tokenizer.end(), "a strange word has several tokens");
    }

    #[test]
    fn no_token_comes_twice() {
        let mut tokens = Vocabulary::of(&words()).tokens;
        let count = tokens.len();
        tokens.sort();
        tokens.dedup();
        assert_eq!(tokens.len(), count);
    }
}
