//! The one place that knows the YAML library: text to a tree of nodes that remember where they stood, and back.
//!
//! The budget is tight because an experiment file is small: what asks for more is a mistake or an attack (alias bombs,
//! deep nesting), and is refused while it is read, before memory is spent on it.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_yaml::options::{DuplicateKeyPolicy, MergeKeyPolicy, NonFiniteFloatPolicy};
use serde_yaml::{Options, Spanned};

/// Longest text that is looked at, in bytes.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// Where a node stood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Line and column, from 1.
    File(u64, u64),
    /// The override of this index.
    Override(usize),
}

/// A value and where it stood. Equality looks at values only.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// What a node holds. A map keeps the order of the text.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Float(f64),
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// One key of a map with its own place.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) place: Place,
    pub(crate) value: Node,
}

/// Why a text is no YAML that we take.
#[derive(Clone, Debug)]
pub(crate) struct YamlError {
    /// Line and column, from 1, where known.
    pub(crate) at: Option<(u64, u64)>,
    /// What is wrong, in one line.
    pub(crate) what: String,
    /// What to do; may be empty.
    pub(crate) help: &'static str,
}

/// Reads one document.
pub(crate) fn parse(text: &str) -> Result<Node, YamlError> {
    if text.len() > MAX_BYTES {
        let what = format!("the text has {} bytes; at most {MAX_BYTES} are read", text.len());
        return Err(YamlError { at: None, what, help: "" });
    }
    serde_yaml::from_str_with_options(text, options()).map_err(|error| describe(&error))
}

/// Writes a value as a document; of a tree, one that [`parse`] reads back to an equal one.
pub(crate) fn write(value: &impl Serialize) -> Result<String, YamlError> {
    serde_yaml::to_string(value).map_err(|error| YamlError { at: None, what: error.to_string(), help: "" })
}

fn options() -> Options {
    serde_yaml::options! {
        budget: serde_yaml::budget! {
            max_reader_input_bytes: Some(MAX_BYTES),
            max_events: 200_000,
            max_nodes: 100_000,
            max_depth: 32,
            flow_nesting_limit: 32,
            max_documents: 1,
            max_anchors: 64,
            max_aliases: 256,
            max_merge_keys: 64,
            max_recorded_anchor_events: 20_000,
            max_recorded_anchor_bytes: MAX_BYTES,
            max_total_scalar_bytes: MAX_BYTES,
        },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: 20_000,
            max_replay_stack_depth: 8,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        merge_keys: MergeKeyPolicy::Merge,
        non_finite_float_policy: NonFiniteFloatPolicy::PassThrough,
        strict_booleans: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    }
}

fn describe(error: &serde_yaml::Error) -> YamlError {
    let at = error.location().map(|place| (place.line(), place.column())).filter(|(line, _)| *line > 0);
    let error = error.without_snippet();
    if let serde_yaml::Error::DuplicateMappingKey { key, .. } = error {
        let what = format!("key `{}` stands here a second time", key.as_deref().unwrap_or("?"));
        return YamlError { at, what, help: "keep one of them" };
    }
    let full = error.to_string();
    if full.contains("budget breached") || full.contains("limit exceeded") {
        let what = format!("asks for more memory than an experiment file may ({})", first_part(&full));
        return YamlError { at, what, help: "write it out with fewer aliases and less nesting" };
    }
    YamlError {
        at,
        what: format!("not YAML: {}", first_part(&full)),
        help: "check indentation, quotes and brackets here",
    }
}

/// The library's message without its own notes of the place.
fn first_part(full: &str) -> &str {
    let line = full.lines().next().unwrap_or_default();
    line.split(" at line ").next().unwrap_or(line)
}

impl Node {
    /// A short description for messages: the kind and, for a scalar, the value.
    pub(crate) fn describe(&self) -> String {
        match &self.value {
            Value::Null => "nothing (null)".to_owned(),
            Value::Bool(value) => format!("`{value}`"),
            Value::Int(value) => format!("`{value}`"),
            Value::Uint(value) => format!("`{value}`"),
            Value::Float(value) => format!("`{value}`"),
            Value::Text(text) => format!("text `{}`", shorten(text)),
            Value::List(items) => format!("a list of {}", items.len()),
            Value::Map(entries) => format!("a mapping with {} keys", entries.len()),
        }
    }

    /// Sets every place of the tree.
    pub(crate) fn move_to(&mut self, place: Place) {
        self.place = place;
        match &mut self.value {
            Value::List(items) => items.iter_mut().for_each(|item| item.move_to(place)),
            Value::Map(entries) => {
                for entry in entries {
                    entry.place = place;
                    entry.value.move_to(place);
                }
            }
            _ => {}
        }
    }
}

fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        let at = spanned.referenced;
        Ok(Node { place: Place::File(at.line(), at.column()), value: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a YAML value")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Int(value))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Uint(value))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Float(value))
    }
    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries: Vec<Entry> = Vec::new();
        while let Some(key) = map.next_key::<Spanned<String>>()? {
            let at = key.referenced;
            if entries.iter().any(|entry| entry.key == key.value) {
                return Err(de::Error::custom(format_args!("key `{}` stands here twice", key.value)));
            }
            let place = Place::File(at.line(), at.column());
            entries.push(Entry { key: key.value, place, value: map.next_value()? });
        }
        Ok(Value::Map(entries))
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.value {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::Int(value) => serializer.serialize_i64(*value),
            Value::Uint(value) => serializer.serialize_u64(*value),
            Value::Float(value) => serializer.serialize_f64(*value),
            Value::Text(text) => serializer.serialize_str(text),
            Value::List(items) => items.serialize(serializer),
            Value::Map(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for entry in entries {
                    map.serialize_entry(&entry.key, &entry.value)?;
                }
                map.end()
            }
        }
    }
}
