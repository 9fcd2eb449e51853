//! The files of a tokenizer's folder: vocabulary, merges and settings, checked.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::TokenizerError;

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// The length of a prompt where no file says it.
const LENGTH: usize = 77;
/// transformers writes 10³⁰ for "no limit"; no encoder has a position embedding for this many.
const NO_LIMIT: f64 = 1e6;

/// Tokens with their numbers, and the pairs that are merged, the first first.
pub(super) struct Vocabulary {
    pub(super) ids: HashMap<String, u32>,
    pub(super) merges: Vec<(String, String)>,
}

/// What a tokenizer's folder holds.
pub(super) struct Files {
    /// The file that the vocabulary is from.
    pub(super) source: PathBuf,
    pub(super) vocabulary: Vocabulary,
    /// `added_tokens` of `tokenizer.json`.
    pub(super) added: Vec<Value>,
    /// `added_tokens.json`.
    pub(super) added_ids: Settings,
    /// `tokenizer_config.json`.
    pub(super) config: Settings,
    /// `special_tokens_map.json`.
    pub(super) special: Settings,
    /// Ids in a prompt.
    pub(super) length: usize,
}

/// A JSON object with the file that it is from; empty where there is no such file.
pub(super) struct Settings {
    pub(super) file: PathBuf,
    pub(super) values: Object,
}

impl Settings {
    fn read(folder: &Path, name: &str) -> Result<Self, TokenizerError> {
        let file = folder.join(name);
        Ok(Self { values: optional(&file)?.unwrap_or_default(), file })
    }

    /// A value that is there and not `null`.
    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.values.get(key).filter(|value| !value.is_null())
    }

    fn wrong(&self, key: &str, expected: &'static str, found: &Value) -> TokenizerError {
        let (file, key) = (self.file.clone(), key.to_owned());
        TokenizerError::Value { file, key, expected, found: found.to_string() }
    }
}

impl Files {
    /// Reads all of them. `tokenizer.json` goes before `vocab.json`, as in transformers.
    pub(super) fn read(folder: &Path) -> Result<Self, TokenizerError> {
        let whole = folder.join("tokenizer.json");
        let config = Settings::read(folder, "tokenizer_config.json")?;
        check_class(&config)?;
        let length = length(&config)?;
        let mut files = Self {
            source: whole.clone(),
            vocabulary: Vocabulary { ids: HashMap::new(), merges: Vec::new() },
            added: Vec::new(),
            added_ids: Settings::read(folder, "added_tokens.json")?,
            special: Settings::read(folder, "special_tokens_map.json")?,
            config,
            length,
        };
        match optional::<Whole>(&whole)? {
            Some(content) => files.take(content)?,
            None => files.read_parts(folder)?,
        }
        Ok(files)
    }

    /// The vocabulary of `tokenizer.json`.
    fn take(&mut self, content: Whole) -> Result<(), TokenizerError> {
        if content.model.kind.as_deref().is_some_and(|kind| kind != "BPE") {
            return Err(TokenizerError::Value {
                file: self.source.clone(),
                key: "model.type".to_owned(),
                expected: "\"BPE\", which CLIP's tokenizer is",
                found: format!("{:?}", content.model.kind.unwrap_or_default()),
            });
        }
        let merges = content.model.merges.into_iter().map(MergeEntry::pair);
        self.vocabulary = Vocabulary::new(&self.source, content.model.vocab, &self.source, merges)?;
        self.added = content.added_tokens;
        Ok(())
    }

    /// The vocabulary of `vocab.json` and `merges.txt`.
    fn read_parts(&mut self, folder: &Path) -> Result<(), TokenizerError> {
        let [vocab, merges] = ["vocab.json", "merges.txt"].map(|name| folder.join(name));
        let absent = |missing| TokenizerError::Absent { folder: folder.to_owned(), missing };
        let ids = optional(&vocab)?.ok_or_else(|| absent("vocab.json"))?;
        let lines = text(&merges)?.ok_or_else(|| absent("merges.txt"))?;
        let pairs =
            lines.lines().filter(|line| !line.starts_with("#version")).map(|line| split(line.trim_end()));
        self.vocabulary = Vocabulary::new(&vocab, ids, &merges, pairs)?;
        self.source = vocab;
        Ok(())
    }
}

impl Vocabulary {
    /// Checks that numbers are not used twice, and that every merge joins two known tokens into a third.
    fn new(
        source: &Path,
        ids: HashMap<String, u32>,
        merges_file: &Path,
        merges: impl Iterator<Item = Result<(String, String), String>>,
    ) -> Result<Self, TokenizerError> {
        check_numbers(source, &ids)?;
        let mut checked = Vec::new();
        for (index, merge) in merges.enumerate() {
            let number = index + 1;
            let file = || merges_file.to_owned();
            let (left, right) =
                merge.map_err(|found| TokenizerError::Merge { file: file(), number, found })?;
            let joined = format!("{left}{right}");
            if let Some(token) = [&left, &right, &joined].into_iter().find(|token| !ids.contains_key(*token))
            {
                let (token, vocabulary) = (token.clone(), source.to_owned());
                return Err(TokenizerError::Unmatched { file: file(), vocabulary, number, token });
            }
            checked.push((left, right));
        }
        Ok(Self { ids, merges: checked })
    }
}

fn check_numbers(file: &Path, ids: &HashMap<String, u32>) -> Result<(), TokenizerError> {
    let mut tokens: Vec<(u32, &String)> = ids.iter().map(|(token, id)| (*id, token)).collect();
    tokens.sort_unstable();
    match tokens.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        None => Ok(()),
        Some(pair) => Err(TokenizerError::Duplicate {
            file: file.to_owned(),
            id: pair[0].0,
            first: pair[0].1.clone(),
            second: pair[1].1.clone(),
        }),
    }
}

/// The two tokens of a line `left right`; the line where it is anything else.
fn split(line: &str) -> Result<(String, String), String> {
    match line.split_once(' ') {
        Some((left, right)) if !left.is_empty() && !right.is_empty() && !right.contains(' ') => {
            Ok((left.to_owned(), right.to_owned()))
        }
        _ => Err(line.to_owned()),
    }
}

/// What is read of `tokenizer.json`. Its normaliser and pre-tokenizer are not: as in transformers, CLIP's are fixed.
#[derive(serde::Deserialize)]
struct Whole {
    model: Model,
    #[serde(default)]
    added_tokens: Vec<Value>,
}

#[derive(serde::Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: HashMap<String, u32>,
    merges: Vec<MergeEntry>,
}

/// A merge, in the older and in the newer way of writing it.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum MergeEntry {
    Line(String),
    Pair((String, String)),
}

impl MergeEntry {
    fn pair(self) -> Result<(String, String), String> {
        match self {
            Self::Line(line) => split(&line),
            Self::Pair(pair) => Ok(pair),
        }
    }
}

fn check_class(config: &Settings) -> Result<(), TokenizerError> {
    match config.get("tokenizer_class") {
        None => Ok(()),
        Some(Value::String(class)) if class == "CLIPTokenizer" || class == "CLIPTokenizerFast" => Ok(()),
        Some(other) => Err(config.wrong("tokenizer_class", "CLIPTokenizer or CLIPTokenizerFast", other)),
    }
}

fn length(config: &Settings) -> Result<usize, TokenizerError> {
    let Some(value) = config.get("model_max_length").or_else(|| config.get("max_len")) else {
        return Ok(LENGTH);
    };
    match value.as_f64() {
        Some(length) if length > NO_LIMIT => Ok(LENGTH),
        Some(length) if length >= 3.0 && length.fract() == 0.0 => Ok(length as usize),
        _ => {
            Err(config.wrong("model_max_length", "a whole number of at least 3 (begin, a token, end)", value))
        }
    }
}

/// A JSON file, where it is there.
fn optional<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, TokenizerError> {
    let Some(text) = text(file)? else { return Ok(None) };
    let parsed = serde_json::from_str(&text);
    parsed.map(Some).map_err(|source| TokenizerError::Json { file: file.to_owned(), source })
}

/// A text file, where it is there.
fn text(file: &Path) -> Result<Option<String>, TokenizerError> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TokenizerError::Read { file: file.to_owned(), source }),
    }
}
