//! Special tokens: which they are, and which of them are found inside a text.
//!
//! A special token that stands in a text is not taken apart. Whether it is looked for in the text as written or in the
//! normalised text depends on how the folder's files write it down, and the last file wins; the rules here are those of
//! transformers 5.23, so that `!` in a prompt is padding's id for Stable Diffusion 2.x and a word for 1.x, as there.

use std::path::Path;

use serde_json::Value;
use tokenizers::AddedToken;

use super::TokenizerError;
use super::files::{Files, Settings};

const BEGIN: &str = "<|startoftext|>";
const END: &str = "<|endoftext|>";

/// The roles that a token can have, in the order in which they are added, with CLIP's token for them.
const ROLES: [(&str, Option<&str>); 7] = [
    ("bos_token", Some(BEGIN)),
    ("eos_token", Some(END)),
    ("unk_token", Some(END)),
    ("sep_token", None),
    ("pad_token", Some(END)),
    ("cls_token", None),
    ("mask_token", None),
];

/// The tokens with a role, and all that are added to the vocabulary or found whole inside a text.
pub(super) struct Special {
    pub(super) begin: String,
    pub(super) end: String,
    pub(super) unknown: String,
    pub(super) pad: String,
    /// In the order in which they are added: a later one replaces an earlier one of the same content.
    pub(super) tokens: Vec<AddedToken>,
    /// Contents of those that a file lists with a number.
    listed: Vec<String>,
}

/// A token as a file writes it.
#[derive(Clone, PartialEq)]
enum Written {
    /// By its content alone: special, and looked for in the text as written.
    Plain(String),
    Full(AddedToken),
}

impl Written {
    fn content(&self) -> &str {
        match self {
            Self::Plain(content) => content,
            Self::Full(token) => &token.content,
        }
    }

    /// The token, special since it has a role.
    fn token(&self) -> AddedToken {
        match self {
            Self::Plain(content) => AddedToken::from(content.as_str(), true),
            Self::Full(token) => AddedToken { special: true, ..token.clone() },
        }
    }
}

impl Special {
    /// What the files say, CLIP's own where they do not.
    pub(super) fn read(files: &Files) -> Result<Self, TokenizerError> {
        let mut listed = listed(files)?;
        listed.sort_by_key(|(id, _)| *id);
        let listed: Vec<AddedToken> = listed.into_iter().map(|(_, token)| token).collect();
        let roles = roles(files, &listed)?;
        let named =
            |role: &str| roles.iter().find(|(name, _)| *name == role).map(|(_, token)| token.content());
        let or = |role: &str, token: &str| named(role).unwrap_or(token).to_owned();
        Ok(Self {
            begin: or("bos_token", BEGIN),
            end: or("eos_token", END),
            unknown: or("unk_token", END),
            pad: or("pad_token", END),
            listed: listed.iter().map(|token| token.content.clone()).collect(),
            tokens: added(listed, roles.iter().map(|(_, token)| token).chain(&extra(files)?)),
        })
    }

    /// Whether the tokens that every prompt needs are in the vocabulary, or listed with a number.
    pub(super) fn check(&self, files: &Files) -> Result<(), TokenizerError> {
        let roles = [
            ("begin-of-text", &self.begin),
            ("end-of-text", &self.end),
            ("unknown", &self.unknown),
            ("padding", &self.pad),
        ];
        let known = |token: &String| files.vocabulary.ids.contains_key(token) || self.listed.contains(token);
        match roles.into_iter().find(|(_, token)| !known(token)) {
            None => Ok(()),
            Some((role, token)) => {
                let (file, token) = (files.source.clone(), token.clone());
                Err(TokenizerError::Special { file, role, token })
            }
        }
    }
}

/// The listed tokens, then those with a role that are not listed and not there already.
fn added<'a>(listed: Vec<AddedToken>, named: impl Iterator<Item = &'a Written>) -> Vec<AddedToken> {
    let mut pushed: Vec<&Written> = Vec::new();
    for token in named {
        if !listed.iter().any(|other| other.content == token.content()) && !pushed.contains(&token) {
            pushed.push(token);
        }
    }
    let named = pushed.into_iter().map(Written::token);
    listed.into_iter().chain(named).collect()
}

/// The token of each role: `special_tokens_map.json` before `tokenizer_config.json`, unless the latter lists its tokens.
fn roles(files: &Files, listed: &[AddedToken]) -> Result<Vec<(&'static str, Written)>, TokenizerError> {
    let mut roles = Vec::new();
    for (role, usual) in ROLES {
        let written = match (files.special.get(role), files.config.get(role)) {
            (Some(value), _) if !lists_tokens(files) => {
                Some(written(&files.special, role, value, Some(true))?)
            }
            (_, Some(value)) => Some(written(&files.config, role, value, None)?),
            _ => usual.map(|token| Written::Plain(token.to_owned())),
        };
        let Some(written) = written else { continue };
        let full = listed.iter().find(|token| token.content == written.content());
        roles.push((role, full.cloned().map_or(written, Written::Full)));
    }
    Ok(roles)
}

/// Tokens without a role that a file wants found whole.
fn extra(files: &Files) -> Result<Vec<Written>, TokenizerError> {
    let sources = [Some(&files.config), Some(&files.special).filter(|_| !lists_tokens(files))];
    let mut extra = Vec::new();
    for settings in sources.into_iter().flatten() {
        for key in ["extra_special_tokens", "additional_special_tokens"] {
            let Some(Value::Array(values)) = settings.get(key) else { continue };
            for value in values {
                extra.push(written(settings, key, value, Some(true))?);
            }
        }
    }
    Ok(extra)
}

fn lists_tokens(files: &Files) -> bool {
    files.config.values.contains_key("added_tokens_decoder")
}

/// Tokens listed with a number and their flags.
fn listed(files: &Files) -> Result<Vec<(u32, AddedToken)>, TokenizerError> {
    match files.config.values.get("added_tokens_decoder") {
        Some(Value::Object(entries)) => {
            let file = &files.config.file;
            let entry =
                |(id, value): (&String, &Value)| Ok((number(file, id)?, full(file, id, value, None)?));
            entries.iter().map(entry).collect()
        }
        Some(other) => Err(wrong(&files.config.file, "added_tokens_decoder", other)),
        None => listed_elsewhere(files),
    }
}

/// The tokens of `added_tokens.json`, and those of `tokenizer.json`, which go before them.
fn listed_elsewhere(files: &Files) -> Result<Vec<(u32, AddedToken)>, TokenizerError> {
    let mut listed = Vec::new();
    for (content, value) in &files.added_ids.values {
        let id = as_id(value).ok_or_else(|| wrong(&files.added_ids.file, content, value))?;
        listed.push((id, AddedToken::from(content.as_str(), has_role(files, content))));
    }
    for value in &files.added {
        let id = value.get("id").and_then(as_id);
        let id = id.ok_or_else(|| wrong(&files.source, "added_tokens", value))?;
        listed.retain(|(other, _)| *other != id);
        listed.push((id, full(&files.source, "added_tokens", value, None)?));
    }
    Ok(listed)
}

fn has_role(files: &Files, content: &str) -> bool {
    let is = |value: &Value| value.as_str().or_else(|| value.get("content")?.as_str()) == Some(content);
    ROLES.iter().any(|(role, _)| files.special.get(role).or_else(|| files.config.get(role)).is_some_and(is))
}

fn as_id(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|id| u32::try_from(id).ok())
}

fn number(file: &Path, id: &str) -> Result<u32, TokenizerError> {
    id.parse().map_err(|_| wrong(file, "added_tokens_decoder", &Value::from(id)))
}

/// A token that is written by its content, or with its flags.
fn written(
    from: &Settings,
    key: &str,
    value: &Value,
    special: Option<bool>,
) -> Result<Written, TokenizerError> {
    match value {
        Value::String(content) => Ok(Written::Plain(content.clone())),
        _ => full(&from.file, key, value, special).map(Written::Full),
    }
}

/// A token with its flags; `special` in place of what the file says of that, where given.
fn full(file: &Path, key: &str, value: &Value, special: Option<bool>) -> Result<AddedToken, TokenizerError> {
    let Some(content) = value.get("content").and_then(Value::as_str) else {
        return Err(wrong(file, key, value));
    };
    let flag = |name: &str| value.get(name).and_then(Value::as_bool);
    let special = special.or_else(|| flag("special")).unwrap_or(false);
    Ok(AddedToken {
        content: content.to_owned(),
        single_word: flag("single_word").unwrap_or(false),
        lstrip: flag("lstrip").unwrap_or(false),
        rstrip: flag("rstrip").unwrap_or(false),
        normalized: flag("normalized").unwrap_or(!special),
        special,
    })
}

fn wrong(file: &Path, key: &str, value: &Value) -> TokenizerError {
    TokenizerError::Value {
        file: file.to_owned(),
        key: key.to_owned(),
        expected: "a token: its text, or an object with `content`; listed tokens with their number",
        found: value.to_string(),
    }
}
