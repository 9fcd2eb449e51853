//! Which data sets are here, and whether their files are the right ones.

use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Hub, Manifest, manifest, manifests};
use crate::DataError;
use crate::classification;

/// A data set and where it was found.
#[derive(Clone, Debug)]
pub struct Listing {
    /// Its manifest.
    pub manifest: &'static Manifest,
    /// Its files, or why there are none to use.
    pub files: Result<Vec<PathBuf>, String>,
}

/// One file of a data set, held against its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// The file.
    pub path: PathBuf,
    /// Its SHA-256.
    pub sha256: String,
    /// What that says.
    pub verdict: Verdict,
}

/// What a file's digest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The pinned file of the Hub.
    Pinned,
    /// A file of another copy that the manifest knows.
    Known {
        /// What results on it are to be called.
        title: String,
        /// How it differs.
        note: String,
    },
    /// A file the manifest does not know; its content was read and keeps the rules of its format.
    Unknown,
}

/// Every data set with a manifest, and its files below `root` or in the cache.
#[must_use]
pub fn list(root: &Path, hub: &Hub) -> Vec<Listing> {
    let files = |name: &str| classification::files(name, root, Some(hub)).map_err(|error| error.to_string());
    manifests().iter().map(|manifest| Listing { manifest, files: files(&manifest.name) }).collect()
}

/// Reads a data set whole, checks every rule of its format, and holds its files' digests against the manifest.
///
/// # Errors
/// Where it is absent, unknown, or breaks a rule.
pub fn verify(name: &str, root: &Path, hub: &Hub) -> Result<Vec<FileReport>, DataError> {
    let manifest = manifest(name).ok_or_else(|| unknown(name))?;
    let files = classification::files(name, root, Some(hub))?;
    classification::load_with(name, root, Some(hub))?;
    files.into_iter().map(|path| report(manifest, path)).collect()
}

fn unknown(name: &str) -> DataError {
    let known: Vec<&str> = manifests().iter().map(|manifest| manifest.name.as_str()).collect();
    DataError::unknown(name, &known)
}

fn report(manifest: &Manifest, path: PathBuf) -> Result<FileReport, DataError> {
    let sha256 = sha256_of_file(&path)?;
    let verdict = judge(manifest, &sha256);
    Ok(FileReport { path, sha256, verdict })
}

/// What a digest says of a file.
pub(crate) fn judge(manifest: &Manifest, sha256: &str) -> Verdict {
    if manifest.hub.files.iter().any(|file| file.sha256 == sha256) {
        return Verdict::Pinned;
    }
    match manifest.also_known.iter().find(|copy| copy.sha256.iter().any(|known| known == sha256)) {
        Some(copy) => Verdict::Known { title: copy.title.clone(), note: copy.note.clone() },
        None => Verdict::Unknown,
    }
}

/// SHA-256 of a file's content, in lower-case hexadecimal.
///
/// # Errors
/// Where the file cannot be read.
pub fn sha256_of_file(path: &Path) -> Result<String, DataError> {
    let mut file = std::fs::File::open(path).map_err(|source| DataError::io(path, "open it", source))?;
    let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer).map_err(|source| DataError::io(path, "read it", source))? {
            0 => return Ok(crate::hex(&hash.finalize())),
            count => hash.update(&buffer[..count]),
        }
    }
}
