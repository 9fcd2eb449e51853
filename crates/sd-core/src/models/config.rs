//! Strict reading of a component's `config.json`: a field that would change the arithmetic is supported, or refused by name.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A configuration that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The text is not a JSON object.
    #[error("expected a JSON object, found {found}")]
    NotAnObject {
        /// What stands there instead, or the parser's complaint with its place.
        found: String,
    },
    /// The configuration is of something else.
    #[error(
        "field `_class_name` (or `architectures`): expected {expected}, found {found}; this class is not supported here"
    )]
    Class {
        /// The classes that can be read.
        expected: String,
        /// What the file says.
        found: String,
    },
    /// One or more fields cannot be followed: each line names one.
    #[error("{}", faults.join("\n"))]
    Fields {
        /// One line a field: its name, what was expected, what was found.
        faults: Vec<String>,
    },
}

/// The fields of a configuration that nobody has asked for yet, and what was wrong with those that were.
#[derive(Clone, Debug)]
pub struct Fields {
    left: Map<String, Value>,
    faults: Vec<String>,
}

/// Fields that say where a file comes from and change nothing.
const PROVENANCE: [&str; 6] = [
    "_class_name",
    "_diffusers_version",
    "_name_or_path",
    "_commit_hash",
    "transformers_version",
    "architectures",
];

impl Fields {
    /// The fields of a JSON object whose `_class_name`, where it has one, is `class`.
    ///
    /// # Errors
    /// Where the text is no JSON object, or names another class.
    pub fn parse(json: &str, class: &str) -> Result<Self, ConfigError> {
        let value: Value = serde_json::from_str(json)
            .map_err(|error| ConfigError::NotAnObject { found: error.to_string() })?;
        Self::of(value, &[class])
    }

    /// The fields of a JSON object whose class, where it names one, is one of `classes`.
    ///
    /// # Errors
    /// Where the value is no object, or names another class.
    pub fn of(value: Value, classes: &[&str]) -> Result<Self, ConfigError> {
        let Value::Object(mut left) = value else {
            return Err(ConfigError::NotAnObject { found: shorten(&value) });
        };
        if let Some(found) = class_of(&left).filter(|found| !classes.contains(&found.as_str())) {
            return Err(ConfigError::Class { expected: classes.join(" or "), found });
        }
        PROVENANCE.iter().for_each(|name| drop(left.remove(*name)));
        Ok(Self { left, faults: Vec::new() })
    }

    /// The field `name`, or `default` where it is absent.
    ///
    /// A field of another type counts as a fault, told by [`Self::finish`]; the default is given then.
    pub fn take<T: DeserializeOwned>(&mut self, name: &str, default: T) -> T {
        match self.left.remove(name) {
            None => default,
            Some(value) => self.read(name, value).unwrap_or(default),
        }
    }

    /// The field `name`; `None` where it is absent, and then [`Self::finish`] tells.
    pub fn require<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let Some(value) = self.left.remove(name) else {
            self.faults.push(format!("field `{name}`: missing; the model cannot be made without it"));
            return None;
        };
        self.read(name, value)
    }

    fn read<T: DeserializeOwned>(&mut self, name: &str, value: Value) -> Option<T> {
        let found = shorten(&value);
        match serde_json::from_value(value) {
            Ok(value) => Some(value),
            Err(error) => {
                self.faults.push(format!("field `{name}`: found {found}: {error}"));
                None
            }
        }
    }

    /// A field that changes the arithmetic and is supported with these values (or absent) alone.
    pub fn neutral(&mut self, name: &str, allowed: &[Value]) {
        let Some(found) = self.left.remove(name) else { return };
        if !allowed.iter().any(|value| equal(value, &found)) {
            let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
            let (allowed, found) = (allowed.join(" or "), shorten(&found));
            self.faults.push(format!("field `{name}`: expected {allowed}, found {found}: not supported"));
        }
    }

    /// A field that changes nothing here.
    pub fn ignored(&mut self, name: &str) {
        self.left.remove(name);
    }

    /// A fault that the caller found in the values.
    pub fn fault(&mut self, fault: String) {
        self.faults.push(fault);
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Lists every field that was refused, and every one that nobody asked for.
    pub fn finish(mut self) -> Result<(), ConfigError> {
        let unknown = self.left.iter().map(|(name, value)| {
            format!(
                "field `{name}`: unknown (found {}); it may change what the model computes",
                shorten(value)
            )
        });
        self.faults.extend(unknown);
        if self.faults.is_empty() { Ok(()) } else { Err(ConfigError::Fields { faults: self.faults }) }
    }
}

/// diffusers names the class, transformers the architectures.
fn class_of(fields: &Map<String, Value>) -> Option<String> {
    let named = fields.get("_class_name").or_else(|| fields.get("architectures")?.get(0))?;
    Some(named.as_str().map_or_else(|| named.to_string(), str::to_owned))
}

/// `1` and `1.0` are one number.
fn equal(a: &Value, b: &Value) -> bool {
    a == b || matches!((a.as_f64(), b.as_f64()), (Some(a), Some(b)) if a == b)
}

/// A value as text, cut where it is long.
fn shorten(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        None => text,
        Some((end, _)) => format!("{}…", &text[..end]),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_read_and_all_faults_are_told_at_once() {
        let text =
            r#"{"_class_name": "A", "size": 3, "wide": "yes", "mode": "odd", "extra": [1], "one": 1.0}"#;
        let mut fields = Fields::parse(text, "A").unwrap();
        assert_eq!(fields.take("size", 7usize), 3);
        assert_eq!(fields.take("depth", 7usize), 7);
        assert!(!fields.take("wide", false));
        assert_eq!(fields.require::<usize>("height"), None);
        fields.neutral("mode", &[json!("even"), json!(null)]);
        fields.neutral("one", &[json!(1)]);
        let message = fields.finish().unwrap_err().to_string();
        let expected = [
            "field `wide`: found \"yes\": invalid type",
            "field `height`: missing",
            "field `mode`: expected \"even\" or null, found \"odd\"",
            "field `extra`: unknown (found [1])",
        ];
        assert_eq!(message.lines().count(), expected.len(), "{message}");
        expected.iter().for_each(|part| assert!(message.contains(part), "no {part:?} in {message}"));
    }

    #[test]
    fn another_class_and_broken_text_are_refused() {
        let error = |text: &str| Fields::parse(text, "A").unwrap_err().to_string();
        assert!(error(r#"{"_class_name": "B"}"#).contains("expected A, found B"));
        assert!(error(r#"{"architectures": ["C"]}"#).contains("expected A, found C"));
        assert!(error("[1]").contains("expected a JSON object, found [1]"));
        assert!(error("{\"a\": ").contains("line 1"));
    }
}
