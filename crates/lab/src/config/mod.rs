//! Experiment files: read, overridden, decoded; every error says where, what was expected, what was found, what to do.
//!
//! ```
//! # #[derive(serde::Deserialize, Debug)] #[serde(deny_unknown_fields)] struct Arm { lr: f64 }
//! let document = lab::config::Document::parse("arm.yaml", "lr: 0.1\n")?.with_overrides(&["lr=0.2".into()])?;
//! let arm: Arm = document.decode()?;
//! assert_eq!(arm.lr, 0.2);
//! # Ok::<(), lab::config::ConfigError>(())
//! ```

mod decode;
mod differ;
mod error;
mod fault;
mod overrides;
mod suggest;

use std::fmt::Display;
use std::path::Path;

use serde::de::DeserializeOwned;

pub use error::{ConfigError, Origin, Problem};

use crate::yaml::{self, Node, Place, Value};

/// A YAML document that remembers where every value stood, so that an error can point at it.
#[derive(Clone, Debug)]
pub struct Document {
    name: String,
    root: Node,
    overrides: Vec<String>,
}

impl Document {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Where the file cannot be read, is no YAML, has a duplicate key, or asks for more memory than an experiment needs.
    pub fn read(path: impl AsRef<Path>) -> Result<Document, ConfigError> {
        let path = path.as_ref();
        let read = |source| ConfigError::Read { path: path.to_owned(), help: read_help(&source), source };
        let length = std::fs::metadata(path).map_err(read)?.len();
        if length > yaml::MAX_BYTES as u64 {
            let what = format!("an experiment file has at most {} bytes, this one {length}", yaml::MAX_BYTES);
            return Err(read(std::io::Error::other(what)));
        }
        let text = std::fs::read_to_string(path).map_err(read)?;
        Document::parse(&path.display().to_string(), &text)
    }

    /// Reads `text`; `name` stands for the file in messages.
    ///
    /// # Errors
    /// As [`Document::read`].
    pub fn parse(name: &str, text: &str) -> Result<Document, ConfigError> {
        let root = yaml::parse(text).map_err(|error| Problem {
            origin: Origin::File { name: name.to_owned(), at: error.at },
            what: error.what,
            expected: String::new(),
            found: String::new(),
            help: error.help.to_owned(),
        })?;
        let document = Document { name: name.to_owned(), root, overrides: Vec::new() };
        match document.root.value {
            Value::Map(_) => Ok(document),
            _ => Err(document
                .problem_at("", "a mapping (`key: value` lines)", document.root.describe(), "")
                .into()),
        }
    }

    /// Applies overrides, each `key.path=value` with the value in YAML, in their order.
    ///
    /// # Errors
    /// Where one is not `path=value`, its value is no YAML, or its path leads nowhere; the message gives the nearest name.
    pub fn with_overrides(&self, overrides: &[String]) -> Result<Document, ConfigError> {
        let mut document = self.clone();
        for typed in overrides {
            overrides::apply(&mut document.root, document.overrides.len(), typed, &self.name)?;
            document.overrides.push(typed.clone());
        }
        Ok(document)
    }

    /// Decodes the document.
    ///
    /// # Errors
    /// On an unknown or missing key, or a value of the wrong kind, with its line and column.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ConfigError> {
        T::deserialize(decode::Decoder(&self.root)).map_err(|fault| {
            let origin = self.origin(fault.place);
            fault.into_problem(origin).into()
        })
    }

    /// The error that the value at `path` (dotted, list items by number) is not what it should be.
    ///
    /// Where `path` is not written in the file (a default), the error points at the nearest key above it.
    #[must_use]
    pub fn error_at(
        &self,
        path: &str,
        expected: impl Display,
        found: impl Display,
        hint: &str,
    ) -> ConfigError {
        self.problem_at(path, expected, found, hint).into()
    }

    fn problem_at(&self, path: &str, expected: impl Display, found: impl Display, hint: &str) -> Problem {
        let (place, _) = overrides::find(&self.root, path);
        let subject = if path.is_empty() { "the document".to_owned() } else { format!("`{path}`") };
        Problem {
            origin: self.origin(place),
            what: format!("{subject} does not make sense"),
            expected: expected.to_string(),
            found: found.to_string(),
            help: hint.to_owned(),
        }
    }

    /// Refuses a NaN or an infinity anywhere in the document.
    ///
    /// # Errors
    /// Names the first one.
    pub fn check_finite(&self) -> Result<(), ConfigError> {
        match differ::first_not_finite(&self.root) {
            Some((path, value)) => Err(self.error_at(&path, "a finite number", format!("`{value}`"), "")),
            None => Ok(()),
        }
    }

    /// Whether the dotted `path` is written in the document.
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        overrides::find(&self.root, path).1.is_some()
    }

    /// Name of the file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The overrides that were applied, as typed.
    #[must_use]
    pub fn overrides(&self) -> &[String] {
        &self.overrides
    }

    /// The document with its overrides as YAML, which [`Document::parse`] reads back to the same values.
    ///
    /// # Errors
    /// Where the YAML library cannot write it.
    pub fn to_yaml(&self) -> Result<String, ConfigError> {
        yaml::write(&self.root).map_err(|error| {
            let origin = Origin::File { name: self.name.clone(), at: None };
            let what = format!("cannot be written as YAML: {}", error.what);
            Problem { origin, what, expected: String::new(), found: String::new(), help: String::new() }
                .into()
        })
    }

    fn origin(&self, place: Option<Place>) -> Origin {
        let name = self.name.clone();
        match place {
            Some(Place::Override(index)) => {
                Origin::CommandLine { typed: self.overrides[index].clone(), name }
            }
            Some(Place::File(line, column)) => Origin::File { name, at: Some((line, column)) },
            None => Origin::File { name, at: Some((1, 1)) },
        }
    }
}

fn read_help(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => {
            "check the path; the shipped ones are experiments/<paper>/<scale>.yaml".to_owned()
        }
        std::io::ErrorKind::InvalidData => "an experiment file is UTF-8 text".to_owned(),
        _ => "check the path and its permissions".to_owned(),
    }
}

/// A number that must be finite and lie in `[low, high]`, for use in [`crate::paper::Paper::open`].
///
/// # Errors
/// Points at `path` and says what was expected.
pub fn check_range(
    document: &Document,
    path: &str,
    value: f64,
    low: f64,
    high: f64,
) -> Result<(), ConfigError> {
    if value.is_finite() && (low..=high).contains(&value) {
        return Ok(());
    }
    let expected = match (low.is_finite(), high.is_finite()) {
        (true, true) => format!("a number from {low} to {high}"),
        (true, false) => format!("a finite number of at least {low}"),
        (false, true) => format!("a finite number of at most {high}"),
        (false, false) => "a finite number".to_owned(),
    };
    Err(document.error_at(path, expected, format!("`{value}`"), ""))
}

#[cfg(test)]
mod tests;
