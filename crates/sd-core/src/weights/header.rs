//! The header of a safetensors file, read with every rule of the format checked.
//!
//! A file is: the header's length N (8 bytes, little endian), N bytes of JSON, then the tensors' bytes. The JSON is one object
//! `{name: {"dtype", "shape", "data_offsets": [begin, end]}, …, "__metadata__": {text: text}}`, offsets counted from the end
//! of the header. The tensors fill the rest of the file without gap or overlap.
//!
//! What is read from the file is not trusted: a header needs at most about ten times its length in memory (a
//! thousand tensors: a megabyte), and one longer than [`LONGEST`] is refused unread.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use super::error::{FETCH_AGAIN, WeightsError};
use super::stored::Stored;

/// Longest header that is read, in bytes (the format's own limit).
pub(super) const LONGEST: u64 = 100_000_000;
/// Most axes of a tensor.
const MOST_AXES: usize = 8;

/// Where a tensor lies in its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) stored: Stored,
    pub(super) shape: Vec<usize>,
    /// Its bytes, from the start of the file.
    pub(super) begin: usize,
    pub(super) end: usize,
}

/// What a file says of its content.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) tensors: BTreeMap<String, Entry>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Reads the header of `bytes`, a whole file.
pub(super) fn read(path: &Path, bytes: &[u8]) -> Result<Header, WeightsError> {
    let json = json_of(path, bytes)?;
    let raw: Raw = serde_json::from_slice(json).map_err(|error| not_json(path, &error))?;
    let start = 8 + json.len();
    let mut tensors = BTreeMap::new();
    for (name, entry) in raw.tensors {
        let entry = entry.checked(path, &name, start)?;
        tensors.insert(name, entry);
    }
    fills_the_file(path, &tensors, start, bytes.len())?;
    Ok(Header { tensors, metadata: raw.metadata })
}

fn json_of<'a>(path: &Path, bytes: &'a [u8]) -> Result<&'a [u8], WeightsError> {
    let broken = |expected: String, found: String| {
        WeightsError::broken(path, "length of the header (first 8 bytes)", expected, found, FETCH_AGAIN)
    };
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(broken("8 bytes".to_owned(), format!("a file of {} bytes", bytes.len())));
    };
    let length = u64::from_le_bytes(*length);
    if length > LONGEST {
        return Err(broken(format!("at most {LONGEST} bytes"), length.to_string()));
    }
    // At most LONGEST, so it fits.
    rest.get(..length as usize)
        .ok_or_else(|| broken(format!("at most the {} bytes that follow", rest.len()), length.to_string()))
}

fn not_json(path: &Path, error: &serde_json::Error) -> WeightsError {
    let place = format!("header, line {} column {}", error.line(), error.column());
    WeightsError::broken(path, place, "the JSON object of the safetensors format", error, FETCH_AGAIN)
}

/// Tensors that lie one after another from the header to the end of the file.
fn fills_the_file(
    path: &Path,
    tensors: &BTreeMap<String, Entry>,
    start: usize,
    length: usize,
) -> Result<(), WeightsError> {
    let mut order: Vec<(&String, &Entry)> = tensors.iter().collect();
    order.sort_by_key(|(_, entry)| (entry.begin, entry.end));
    let (mut end, mut before) = (start, "the header");
    for (name, entry) in order {
        if entry.begin != end {
            return Err(misplaced(path, name, entry, start, end, before));
        }
        if entry.end > length {
            return Err(truncated(path, name, entry.end - length));
        }
        (end, before) = (entry.end, name);
    }
    if end != length {
        let found = format!("{} more bytes", length - end);
        return Err(WeightsError::broken(
            path,
            format!("after {before}"),
            "the end of the file",
            found,
            FETCH_AGAIN,
        ));
    }
    Ok(())
}

fn misplaced(path: &Path, name: &str, entry: &Entry, start: usize, end: usize, before: &str) -> WeightsError {
    let what = if entry.begin < end { "an overlap" } else { "a gap" };
    let expected = format!("data_offsets that begin at {}, where {before} ends", end - start);
    let found = format!("{}: {what}", entry.begin - start);
    WeightsError::broken(path, format!("tensor `{name}`"), expected, found, FETCH_AGAIN)
}

fn truncated(path: &Path, name: &str, missing: usize) -> WeightsError {
    let (expected, found) = ("all its bytes", format!("the end of the file, {missing} bytes too early"));
    WeightsError::broken(path, format!("tensor `{name}`"), expected, found, FETCH_AGAIN)
}

/// The JSON as it stands.
struct Raw {
    tensors: BTreeMap<String, RawEntry>,
    metadata: BTreeMap<String, String>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Axes,
    data_offsets: [u64; 2],
}

impl RawEntry {
    /// The entry, its offsets counted from the start of the file, its length that of its shape.
    fn checked(self, path: &Path, name: &str, start: usize) -> Result<Entry, WeightsError> {
        let broken = |expected: String, found: String| {
            WeightsError::broken(path, format!("tensor `{name}`"), expected, found, FETCH_AGAIN)
        };
        let stored = Stored::named(&self.dtype).ok_or_else(|| {
            broken(format!("a dtype of the format ({})", Stored::names()), format!("`{}`", self.dtype))
        })?;
        let [begin, end] = self.data_offsets;
        let length = end.checked_sub(begin).ok_or_else(|| {
            broken("data_offsets that do not run backwards".to_owned(), format!("[{begin}, {end}]"))
        })?;
        let expected = stored.bytes(&self.shape.0);
        if expected != Some(length) {
            let bytes =
                expected.map_or("more bytes than there can be".to_owned(), |bytes| format!("{bytes} bytes"));
            let expected = format!("{bytes} for {} {:?}", self.dtype, self.shape.0);
            return Err(broken(expected, format!("data_offsets [{begin}, {end}], {length} bytes")));
        }
        let place = |offset: u64| usize::try_from(offset).ok()?.checked_add(start);
        match (place(begin), place(end)) {
            (Some(begin), Some(end)) => Ok(Entry { stored, shape: self.shape.0, begin, end }),
            _ => Err(broken("data_offsets within the file".to_owned(), format!("[{begin}, {end}]"))),
        }
    }
}

/// A shape of at most [`MOST_AXES`] axes.
struct Axes(Vec<usize>);

impl<'de> Deserialize<'de> for Axes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(AxesVisitor)
    }
}

struct AxesVisitor;

impl<'de> Visitor<'de> for AxesVisitor {
    type Value = Axes;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a shape of at most {MOST_AXES} axes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Axes, A::Error> {
        let mut axes = Vec::new();
        while let Some(axis) = sequence.next_element()? {
            if axes.len() == MOST_AXES {
                return Err(A::Error::invalid_length(axes.len() + 1, &self));
            }
            axes.push(axis);
        }
        Ok(Axes(axes))
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of tensors by name")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let (mut tensors, mut metadata) = (BTreeMap::new(), None);
        while let Some(key) = map.next_key::<String>()? {
            let twice = if key == "__metadata__" {
                metadata.replace(map.next_value()?).is_some()
            } else {
                tensors.insert(key.clone(), map.next_value()?).is_some()
            };
            if twice {
                return Err(A::Error::custom(format_args!("the key `{key}` stands there twice")));
            }
        }
        Ok(Raw { tensors, metadata: metadata.unwrap_or_default() })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn file(json: &str, data: usize) -> Vec<u8> {
        let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(json.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn parse(json: &str, data: usize) -> Result<Header, WeightsError> {
        read(Path::new("w.safetensors"), &file(json, data))
    }

    #[test]
    fn a_header_is_read() {
        let json = r#"{"__metadata__":{"format":"pt"},"b":{"dtype":"F16","shape":[3],"data_offsets":[8,14]},
            "a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},"z":{"dtype":"I64","shape":[0],"data_offsets":[14,14]}}   "#;
        let header = parse(json, 14).unwrap();
        let start = 8 + json.len();
        assert_eq!(header.metadata["format"], "pt");
        assert_eq!(header.tensors["a"].shape, [2, 1]);
        assert_eq!((header.tensors["b"].begin, header.tensors["b"].end), (start + 8, start + 14));
        assert_eq!(header.tensors.len(), 3);
    }

    #[test]
    fn each_broken_rule_is_named_with_its_place() {
        let one = |dtype: &str, shape: &str, offsets: &str| {
            format!(r#"{{"x":{{"dtype":"{dtype}","shape":{shape},"data_offsets":{offsets}}}}}"#)
        };
        let two = |second: &str| {
            let first = r#""x":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}"#;
            format!(r#"{{{first},"y":{{"dtype":"U8","shape":[4],"data_offsets":{second}}}}}"#)
        };
        let cases: [(String, usize, &[&str]); 16] = [
            (one("F32", "[2,3]", "[0,16]"), 16, &["`x`", "24 bytes for F32 [2, 3]", "[0, 16], 16 bytes"]),
            (one("F32", "[4]", "[0,16]"), 15, &["`x`", "1 bytes too early", "truncated"]),
            (one("F32", "[4]", "[0,16]"), 17, &["after x", "1 more bytes"]),
            (one("F32", "[4]", "[16,0]"), 16, &["`x`", "backwards", "[16, 0]"]),
            (one("F32", "[4]", "[1,17]"), 17, &["`x`", "a gap"]),
            (one("Q4", "[4]", "[0,16]"), 16, &["`x`", "`Q4`", "BF16"]),
            (one("F4", "[1]", "[0,1]"), 1, &["`x`", "F4 [1]"]),
            (one("F32", "[18446744073709551615,2]", "[0,16]"), 16, &["more bytes than there can be"]),
            (one("U8", "[0,18446744073709551615,2]", "[0,0]"), 0, &["more bytes than there can be"]),
            (one("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]"), 1, &["line 1 column", "at most 8 axes"]),
            (one("U8", "[-1]", "[0,1]"), 1, &["line 1 column", "-1"]),
            (two("[2,6]"), 6, &["`y`", "begin at 4, where x ends", "an overlap"]),
            (two("[5,9]"), 9, &["`y`", "a gap"]),
            (two("[0,4]").replace("\"y\"", "\"x\""), 4, &["line 1 column", "`x` stands there twice"]),
            ("{\"x\":".to_owned(), 0, &["header, line 1 column", "EOF"]),
            ("[]".to_owned(), 0, &["object of tensors"]),
        ];
        for (json, data, words) in cases {
            let message = parse(&json, data).unwrap_err().to_string();
            for word in words.iter().chain(&["w.safetensors: "]) {
                assert!(message.contains(word), "no {word:?} in: {message}\n  for {json}");
            }
        }
    }

    #[test]
    fn a_length_beyond_the_file_or_the_limit_is_refused_before_anything_is_read() {
        let refused = |bytes: &[u8]| read(Path::new("w"), bytes).unwrap_err().to_string();
        assert!(refused(b"abc").contains("expected 8 bytes, found a file of 3 bytes"));
        let mut bytes = file("{}", 0);
        bytes[0] = 3;
        assert!(refused(&bytes).contains("at most the 2 bytes that follow, found 3"));
        bytes[7] = 0x80;
        assert!(refused(&bytes).contains("at most 100000000 bytes, found 9223372036854775811"));
    }

    #[test]
    fn deep_nesting_does_not_reach_the_stack() {
        let deep = format!("{{\"x\":{}", "[".repeat(1_000_000));
        assert!(parse(&deep, 0).is_err());
    }
}
