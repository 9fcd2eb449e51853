//! What is fetched: a pinned state of a repository, and files of it.

use std::fmt;

use super::FetchError;

/// What a repository holds; it decides the addresses and the folder in the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A model.
    Model,
    /// A data set.
    DataSet,
}

/// A pinned state of a repository on the Hub.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    kind: Kind,
    name: String,
    revision: String,
}

impl Repository {
    /// The repository `owner/name` at the commit `revision`.
    ///
    /// # Errors
    /// [`FetchError::Name`] for a name that is none, and for a revision that is not a full commit hash: a branch or tag can
    /// be moved to other files.
    pub fn new(kind: Kind, name: &str, revision: &str) -> Result<Self, FetchError> {
        let parts: Vec<&str> = name.split('/').collect();
        if parts.len() != 2 || !parts.iter().all(|part| is_plain(part)) {
            return Err(FetchError::Name {
                what: "repository".to_owned(),
                expected: "owner/name in letters, digits, `-`, `_` and `.`",
                found: name.to_owned(),
                action: "correct it",
            });
        }
        if revision.len() != 40 || !revision.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(FetchError::Name {
                what: format!("revision of {name}"),
                expected: "a commit hash of 40 hexadecimal digits",
                found: revision.to_owned(),
                action: "a branch or tag can be moved to other files: pin the commit that the Hub's page of the \
                         repository shows under \"Files and versions\", \"History\"",
            });
        }
        Ok(Self { kind, name: name.to_owned(), revision: revision.to_owned() })
    }

    /// `owner/name`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The commit.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Folder in the cache, as the Hub's own client names it.
    pub(super) fn folder(&self) -> String {
        let kind = match self.kind {
            Kind::Model => "models",
            Kind::DataSet => "datasets",
        };
        format!("{kind}--{}", self.name.replace('/', "--"))
    }

    /// Address of a file.
    pub(super) fn file(&self, endpoint: &str, path: &str) -> String {
        let kind = match self.kind {
            Kind::Model => "",
            Kind::DataSet => "datasets/",
        };
        format!("{endpoint}/{kind}{}/resolve/{}/{}", self.name, self.revision, escaped(path))
    }

    /// Address of the list of all files.
    pub(super) fn listing(&self, endpoint: &str) -> String {
        let kind = match self.kind {
            Kind::Model => "models",
            Kind::DataSet => "datasets",
        };
        format!("{endpoint}/api/{kind}/{}/tree/{}?recursive=true", self.name, self.revision)
    }
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.revision)
    }
}

fn is_plain(part: &str) -> bool {
    let known = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_' | b'.');
    !part.is_empty() && part.bytes().all(known) && !part.starts_with('.') && !part.contains("--")
}

/// A path as it stands in an address: all but the plainest letters in percent notation.
fn escaped(path: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'/');
    path.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A file of a repository, and what our manifest knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Path in the repository, with `/`.
    pub path: String,
    /// Length in bytes; none where the manifest has none, and then the Hub's word is taken.
    pub size: Option<u64>,
    /// SHA-256 in lower-case hexadecimal; none as above.
    pub sha256: Option<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn the_kind_decides_addresses_and_folder() {
        let at = |kind| Repository::new(kind, "owner/name", COMMIT).unwrap();
        let (model, data) = (at(Kind::Model), at(Kind::DataSet));
        assert_eq!(
            model.file("e", "unet/a b#.json"),
            format!("e/owner/name/resolve/{COMMIT}/unet/a%20b%23.json")
        );
        assert_eq!(data.file("e", "x"), format!("e/datasets/owner/name/resolve/{COMMIT}/x"));
        assert_eq!(model.listing("e"), format!("e/api/models/owner/name/tree/{COMMIT}?recursive=true"));
        assert_eq!(data.listing("e"), format!("e/api/datasets/owner/name/tree/{COMMIT}?recursive=true"));
        assert_eq!(
            (model.folder(), data.folder()),
            ("models--owner--name".into(), "datasets--owner--name".into())
        );
    }

    #[test]
    fn only_a_commit_is_a_revision() {
        for revision in ["main", "v1.0", "refs/pr/1", "", &COMMIT[1..], &COMMIT.to_uppercase(), "../../x"] {
            let message = Repository::new(Kind::Model, "o/n", revision).unwrap_err().to_string();
            assert!(message.contains(&format!("{revision:?}")) && message.contains("40 hex"), "{message}");
        }
    }

    #[test]
    fn only_a_plain_name_is_a_name() {
        for name in ["", "name", "a/b/c", "../x", "a/..", "a/.b", "a b/c", "a/b?c", "a--b/c", "/b", "a/"] {
            assert!(Repository::new(Kind::Model, name, COMMIT).is_err(), "{name}");
        }
    }
}
