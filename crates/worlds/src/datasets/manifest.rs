//! The manifests, built into the program.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

/// The manifests' texts, by file name.
const TEXTS: [(&str, &str); 2] = [
    ("datasets/cifar10.yaml", include_str!("../../../../datasets/cifar10.yaml")),
    ("datasets/cifar100.yaml", include_str!("../../../../datasets/cifar100.yaml")),
];

/// What a data set is, where it comes from, and how its files are known.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Short name, as in `cargo xtask datasets fetch <name>`.
    pub name: String,
    /// Name in print.
    pub title: String,
    /// What it holds.
    pub about: String,
    /// Its authors' page.
    pub homepage: String,
    /// What is known of the licence.
    pub licence: String,
    /// How to cite it.
    pub citation: String,
    /// Pictures per split.
    pub pictures: PictureCounts,
    /// Names of the classes, by label.
    pub classes: Vec<String>,
    /// Where it is fetched from.
    pub hub: HubSource,
    /// The authors' own archive.
    pub archive: Archive,
    /// Copies that are known by their digests and differ from the one on the Hub.
    pub also_known: Vec<AlsoKnown>,
}

/// Pictures per split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PictureCounts {
    /// Training set.
    pub train: usize,
    /// Test set.
    pub test: usize,
}

/// A pinned state of a repository on the Hub.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubSource {
    /// `owner/name` of a data set repository.
    pub repository: String,
    /// Full commit hash.
    pub revision: String,
    /// Where revision, sizes and digests were seen.
    pub seen: String,
    /// The files.
    pub files: Vec<ManifestFile>,
}

/// One file of a repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestFile {
    /// Path in the repository, with `/`.
    pub path: String,
    /// Length in bytes.
    pub size: u64,
    /// SHA-256 of the content, lower-case hexadecimal.
    pub sha256: String,
}

/// The authors' archive, which is not fetched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Where it lies.
    pub url: String,
    /// MD5, lower-case hexadecimal.
    pub md5: String,
    /// Where the digest was seen.
    pub seen: String,
    /// What it holds.
    pub holds: String,
}

/// A copy that is known by its digests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AlsoKnown {
    /// What results on it are to be called.
    pub title: String,
    /// How it differs.
    pub note: String,
    /// Whether its pixels are not those of the published data set.
    pub altered: bool,
    /// SHA-256 of its files.
    pub sha256: Vec<String>,
}

static MANIFESTS: LazyLock<Vec<Manifest>> =
    LazyLock::new(|| TEXTS.iter().filter_map(|&text| parse(text).ok()).collect());

/// All manifests. (A test reads each text, so none can be left out.)
#[must_use]
pub fn manifests() -> &'static [Manifest] {
    &MANIFESTS
}

/// The manifest of that name.
#[must_use]
pub fn manifest(name: &str) -> Option<&'static Manifest> {
    manifests().iter().find(|manifest| manifest.name == name)
}

fn parse((file, text): (&str, &str)) -> Result<Manifest, String> {
    serde_yaml::from_str(text).map_err(|error| format!("{file}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::path_in_cache;

    fn is_hex(text: &str, digits: usize) -> bool {
        text.len() == digits && text.chars().all(|digit| matches!(digit, '0'..='9' | 'a'..='f'))
    }

    #[test]
    fn every_manifest_is_read() {
        let read: Result<Vec<Manifest>, String> = TEXTS.into_iter().map(parse).collect();
        assert_eq!(read.as_deref(), Ok(manifests()));
    }

    #[test]
    fn manifests_name_pinned_and_safe_files() {
        for manifest in manifests() {
            assert!(is_hex(&manifest.hub.revision, 40), "{}", manifest.name);
            assert!(is_hex(&manifest.archive.md5, 32), "{}", manifest.name);
            for file in &manifest.hub.files {
                assert!(is_hex(&file.sha256, 64), "{}", file.path);
                assert!(path_in_cache(&file.path).is_ok(), "{}", file.path);
            }
            assert!(
                manifest.also_known.iter().flat_map(|copy| &copy.sha256).all(|digest| is_hex(digest, 64))
            );
        }
    }

    #[test]
    fn classes_are_as_many_as_labels() {
        for (name, classes) in [("cifar10", 10), ("cifar100", 100)] {
            let found = manifest(name).map(|manifest| manifest.classes.len());
            assert_eq!(found, Some(classes), "{name}");
        }
        assert_eq!(manifest("cifar1000"), None);
    }
}
