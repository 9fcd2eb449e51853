//! Digests by which the Hub and manifests know a file.

use std::fmt;
use std::io::Read;
use std::path::Path;

use sha1::Sha1;
use sha2::Sha256;

use super::FetchError;
use super::error::io;

/// A digest of a file's content, in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Digest {
    /// SHA-256 of the content: of large files on the Hub (LFS), and in manifests.
    Sha256(String),
    /// SHA-1 of `blob <length>\0` and the content: git's own name of a small file.
    GitBlob(String),
}

impl Digest {
    /// The digest that has `hex` for its digits: 64 of SHA-256, 40 of git.
    #[must_use]
    pub fn from_hex(hex: &str) -> Option<Self> {
        let is_hex = hex.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
        match hex.len() {
            64 if is_hex => Some(Self::Sha256(hex.to_owned())),
            40 if is_hex => Some(Self::GitBlob(hex.to_owned())),
            _ => None,
        }
    }

    /// The digits.
    #[must_use]
    pub fn hex(&self) -> &str {
        match self {
            Self::Sha256(hex) | Self::GitBlob(hex) => hex,
        }
    }

    /// The digest of the same kind of the content of `path`.
    pub(super) fn of_file_like(&self, path: &Path) -> Result<Self, FetchError> {
        Ok(match self {
            Self::Sha256(_) => Self::Sha256(hash::<Sha256>(path, b"")?),
            Self::GitBlob(_) => {
                let length = io(path, "look at it", std::fs::metadata(path))?.len();
                Self::GitBlob(hash::<Sha1>(path, format!("blob {length}\0").as_bytes())?)
            }
        })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sha256(hex) => write!(f, "sha256 {hex}"),
            Self::GitBlob(hex) => write!(f, "git blob {hex}"),
        }
    }
}

/// SHA-256 of a file's content, in lower-case hexadecimal.
///
/// # Errors
/// [`FetchError::Io`] where the file cannot be read.
pub fn sha256_of_file(path: &Path) -> Result<String, FetchError> {
    hash::<Sha256>(path, b"")
}

fn hash<D: sha2::Digest>(path: &Path, prefix: &[u8]) -> Result<String, FetchError> {
    let mut file = io(path, "open it", std::fs::File::open(path))?;
    let (mut hash, mut buffer) = (D::new_with_prefix(prefix), vec![0; 1 << 20]);
    loop {
        match io(path, "read it", file.read(&mut buffer))? {
            0 => return Ok(hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn digests_are_those_of_sha256sum_and_git() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc");
        std::fs::write(&path, "abc").unwrap();
        // FIPS 180-2, appendix B.1; `printf abc | git hash-object --stdin`.
        let sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let git = "f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f";
        for hex in [sha256, git] {
            let digest = Digest::from_hex(hex).unwrap();
            assert_eq!(digest.of_file_like(&path).unwrap(), digest);
        }
        assert_eq!(sha256_of_file(&path).unwrap(), sha256);
    }

    #[test]
    fn other_digits_are_no_digest() {
        for hex in ["", "abc", &"A".repeat(64), &"g".repeat(40), &"0".repeat(41)] {
            assert_eq!(Digest::from_hex(hex), None);
        }
    }
}
