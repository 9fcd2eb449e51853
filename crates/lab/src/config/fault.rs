//! The error that travels up through serde while a tree is decoded, collecting its place and its path on the way.

use std::fmt;

use serde::de::{self, Unexpected};

use super::error::{Origin, Problem};
use super::suggest::{did_you_mean, list};
use crate::yaml::{Entry, Node, Place, Value};

/// What serde found wrong.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    UnknownKey { key: String, known: &'static [&'static str] },
    UnknownVariant { name: String, known: &'static [&'static str] },
    Missing { key: &'static str },
    Mismatch { expected: String, found: String },
    Other(String),
}

/// A decoding error with its place and path (keys, outermost first) as far as they are known.
#[derive(Clone, Debug)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    pub(crate) place: Option<Place>,
    pub(crate) path: Vec<String>,
}

impl Fault {
    fn new(kind: Kind) -> Self {
        Fault { kind, place: None, path: Vec::new() }
    }

    /// Adds the key of the value it arose in; the first place given is kept, as it is the innermost.
    pub(crate) fn within(mut self, entry: &Entry) -> Self {
        if self.place.is_none() {
            self.place = Some(self.buried(&entry.value).unwrap_or(entry.place));
        }
        self.path.insert(0, entry.key.clone());
        self
    }

    /// As [`Fault::within`], for item `index` of a list.
    pub(crate) fn within_item(mut self, index: usize, item: &Node) -> Self {
        if self.place.is_none() {
            self.place = Some(self.buried(item).unwrap_or(item.place));
        }
        self.path.insert(0, index.to_string());
        self
    }

    pub(crate) fn at(mut self, place: Place) -> Self {
        self.place.get_or_insert(place);
        self
    }

    /// serde buffers the content of tagged enums and loses places; the unknown key itself can be found again.
    fn buried(&mut self, node: &Node) -> Option<Place> {
        let Kind::UnknownKey { key, .. } = &self.kind else { return None };
        let (place, path) = find_key(node, key)?;
        self.path = path;
        Some(place)
    }

    /// The message.
    pub(crate) fn into_problem(self, origin: Origin) -> Problem {
        let path = self.path.join(".");
        let inside = if path.is_empty() { "at the top level".to_owned() } else { format!("in `{path}`") };
        let problem = |what: String| Problem {
            origin,
            what,
            expected: String::new(),
            found: String::new(),
            help: String::new(),
        };
        match self.kind {
            Kind::UnknownKey { key, known } => Problem {
                expected: one_of("no further key", known),
                help: did_you_mean(&key, known.iter().copied()),
                ..problem(format!("unknown key `{key}` {inside}"))
            },
            Kind::UnknownVariant { name, known } => Problem {
                expected: one_of("nothing", known),
                found: format!("`{name}`"),
                help: did_you_mean(&name, known.iter().copied()),
                ..problem(format!("`{path}` cannot be `{name}`"))
            },
            Kind::Missing { key } => Problem {
                help: format!("add `{key}: …`"),
                ..problem(format!("key `{key}` is missing {inside}"))
            },
            Kind::Mismatch { expected, found } => Problem {
                help: mismatch_help(&expected, &found),
                expected: in_words(&expected),
                found,
                ..problem(format!("`{path}` has a value of the wrong kind"))
            },
            Kind::Other(message) => problem(format!("`{path}`: {message}")),
        }
    }
}

fn one_of(none: &str, known: &[&str]) -> String {
    if known.is_empty() { none.to_owned() } else { format!("one of {}", list(known.iter().copied())) }
}

/// Names of Rust's types as a reader of YAML knows them.
fn in_words(expected: &str) -> String {
    let words = match expected {
        "f32" | "f64" => "a number",
        "u8" | "u16" | "u32" | "u64" | "usize" => "a whole number of at least 0",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "a string" => "text",
        "a boolean" => "`true` or `false`",
        "a sequence" => "a list",
        "a map" => "a mapping",
        other => other.strip_prefix("struct ").map_or(other, |_| "a mapping"),
    };
    words.to_owned()
}

fn mismatch_help(expected: &str, found: &str) -> String {
    let old_boolean = ["yes", "no", "on", "off", "y", "n"];
    let quoted = |word: &&str| found.to_lowercase().contains(&format!("\"{word}\""));
    if expected.contains("boolean") && old_boolean.iter().any(quoted) {
        return "a yes or no is written `true` or `false`".to_owned();
    }
    if expected.contains("string") && !found.contains("sequence") && !found.contains("map") {
        return "put it in quotes to make it text".to_owned();
    }
    String::new()
}

/// Depth first: place of `key` below `node`, with the path of the map that holds it.
fn find_key(node: &Node, key: &str) -> Option<(Place, Vec<String>)> {
    match &node.value {
        Value::Map(entries) => {
            if let Some(entry) = entries.iter().find(|entry| entry.key == key) {
                return Some((entry.place, Vec::new()));
            }
            entries.iter().find_map(|entry| prefixed(&entry.key, find_key(&entry.value, key)))
        }
        Value::List(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| prefixed(&index.to_string(), find_key(item, key))),
        _ => None,
    }
}

fn prefixed(name: &str, found: Option<(Place, Vec<String>)>) -> Option<(Place, Vec<String>)> {
    let (place, mut path) = found?;
    path.insert(0, name.to_owned());
    Some((place, path))
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let origin = Origin::File { name: "document".to_owned(), at: None };
        write!(formatter, "{}", self.clone().into_problem(origin))
    }
}

impl std::error::Error for Fault {}

impl de::Error for Fault {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Fault::new(Kind::Other(message.to_string()))
    }
    fn invalid_type(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Fault::new(Kind::Mismatch { expected: expected.to_string(), found: found.to_string() })
    }
    fn invalid_value(found: Unexpected<'_>, expected: &dyn de::Expected) -> Self {
        Fault::new(Kind::Mismatch { expected: expected.to_string(), found: found.to_string() })
    }
    fn unknown_field(key: &str, known: &'static [&'static str]) -> Self {
        Fault::new(Kind::UnknownKey { key: key.to_owned(), known })
    }
    fn unknown_variant(name: &str, known: &'static [&'static str]) -> Self {
        Fault::new(Kind::UnknownVariant { name: name.to_owned(), known })
    }
    fn missing_field(key: &'static str) -> Self {
        Fault::new(Kind::Missing { key })
    }
}
