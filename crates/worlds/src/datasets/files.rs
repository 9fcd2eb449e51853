//! Which data sets are here, and whether their files are the right ones.

use std::path::{Path, PathBuf};

use sd_core::weights::hub::{self, FetchError};

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
        /// Whether its pixels are not those of the published data set.
        altered: bool,
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
        Some(copy) => {
            Verdict::Known { title: copy.title.clone(), note: copy.note.clone(), altered: copy.altered }
        }
        None => Verdict::Unknown,
    }
}

/// SHA-256 of a file's content, in lower-case hexadecimal.
///
/// # Errors
/// Where the file cannot be read.
pub fn sha256_of_file(path: &Path) -> Result<String, DataError> {
    hub::sha256_of_file(path).map_err(|error| match error {
        FetchError::Io { path, action, source } => DataError::Io { path, action, source },
        other => DataError::io(path, "read it", std::io::Error::other(other)),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::datasets::snapshot;

    /// An empty data folder, and a Hub with an empty cache.
    fn empty() -> (TempDir, TempDir, Hub) {
        let (root, cache) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        let place = cache.path().display().to_string();
        let hub = Hub::from_variables(|name| (name == "HF_HUB_CACHE").then(|| place.clone())).unwrap();
        (root, cache, hub)
    }

    #[test]
    fn every_manifest_is_listed_and_the_absent_say_how_to_be_had() {
        let (root, cache, hub) = empty();
        let listings = list(root.path(), &hub);
        let names: Vec<&str> = listings.iter().map(|listing| listing.manifest.name.as_str()).collect();
        assert_eq!(names, ["cifar10", "cifar100"]);
        for listing in &listings {
            let message = listing.files.as_ref().unwrap_err();
            let fetch = format!("cargo xtask datasets fetch {}", listing.manifest.name);
            for word in [&fetch, "--data DIR", root.path().to_str().unwrap(), cache.path().to_str().unwrap()]
            {
                assert!(message.contains(word), "no {word:?} in: {message}");
            }
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_a_suggestion() {
        let (root, _cache, hub) = empty();
        let message = verify("cifar01", root.path(), &hub).unwrap_err().to_string();
        assert!(message.contains("did you mean `cifar10`?"), "{message}");
    }

    #[test]
    fn digests_tell_the_pinned_the_known_and_the_unknown_apart() {
        let manifest = manifest("cifar100").unwrap();
        assert_eq!(judge(manifest, &manifest.hub.files[1].sha256), Verdict::Pinned);
        let known = judge(manifest, &manifest.also_known[0].sha256[0]);
        assert!(matches!(&known, Verdict::Known { title, .. } if title.contains("JPEG")), "{known:?}");
        assert_eq!(judge(manifest, &"0".repeat(64)), Verdict::Unknown);
    }

    #[test]
    fn a_damaged_file_in_the_cache_is_never_read() {
        let (root, _cache, hub) = empty();
        let folder = snapshot(&hub, manifest("cifar10").unwrap()).unwrap().join("plain_text");
        fs::create_dir_all(&folder).unwrap();
        for split in ["train", "test"] {
            fs::write(folder.join(format!("{split}-00000-of-00001.parquet")), b"damaged").unwrap();
        }
        let message = verify("cifar10", root.path(), &hub).unwrap_err().to_string();
        for word in ["train-00000-of-00001.parquet", "sha256 of a file in the cache", "rm ", "fetch"] {
            assert!(message.contains(word), "no {word:?} in: {message}");
        }
    }

    #[test]
    fn the_digest_of_a_file_is_that_of_its_bytes() {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("abc");
        fs::write(&path, "abc").unwrap();
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(sha256_of_file(&path).unwrap(), expected);
        assert!(
            sha256_of_file(&folder.path().join("none")).unwrap_err().to_string().contains("cannot open it")
        );
    }
}
