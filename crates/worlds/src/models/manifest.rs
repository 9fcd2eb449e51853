//! The manifests of models (`models/*.yaml`), built into the program.

use std::sync::LazyLock;

use sd_core::weights::hub::{FetchError, Kind, RemoteFile, Repository};
use serde::{Deserialize, Serialize};

/// The manifests' texts, by file name.
const TEXTS: [(&str, &str); 6] = [
    ("models/sd-v1-4.yaml", include_str!("../../../../models/sd-v1-4.yaml")),
    ("models/sd-v1-5.yaml", include_str!("../../../../models/sd-v1-5.yaml")),
    ("models/sd-inpainting.yaml", include_str!("../../../../models/sd-inpainting.yaml")),
    ("models/sd-v2-1-base.yaml", include_str!("../../../../models/sd-v2-1-base.yaml")),
    ("models/sd-v2-1.yaml", include_str!("../../../../models/sd-v2-1.yaml")),
    ("models/clip-vit-large-patch14.yaml", include_str!("../../../../models/clip-vit-large-patch14.yaml")),
];

/// What a model is, where it comes from, and how its files are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelManifest {
    /// Short name, as in `--model sd-v1-4`.
    pub name: String,
    /// Name in print.
    pub title: String,
    /// What it does.
    pub about: String,
    /// Its page.
    pub homepage: String,
    /// What is known of the licence.
    pub licence: String,
    /// Where it is fetched from.
    pub hub: ModelSource,
}

/// A pinned state of a model's repository on the Hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSource {
    /// `owner/name`.
    pub repository: String,
    /// Full commit hash.
    pub revision: String,
    /// Where revision, sizes and digests were seen.
    pub seen: String,
    /// The files that are fetched.
    pub files: Vec<ModelFile>,
}

/// One file of a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelFile {
    /// Path in the repository, with `/`.
    pub path: String,
    /// Length in bytes; null where none was found.
    pub size: Option<u64>,
    /// SHA-256 of the content, lower-case hexadecimal; null where none was found.
    pub sha256: Option<String>,
}

impl ModelManifest {
    /// The pinned repository.
    ///
    /// # Errors
    /// Where name or revision are none. (A test reads each manifest.)
    pub fn repository(&self) -> Result<Repository, FetchError> {
        Repository::new(Kind::Model, &self.hub.repository, &self.hub.revision)
    }

    /// The files, as the Hub's downloader takes them.
    #[must_use]
    pub fn files(&self) -> Vec<RemoteFile> {
        let file = |file: &ModelFile| RemoteFile {
            path: file.path.clone(),
            size: file.size,
            sha256: file.sha256.clone(),
        };
        self.hub.files.iter().map(file).collect()
    }
}

static MANIFESTS: LazyLock<Vec<ModelManifest>> =
    LazyLock::new(|| TEXTS.iter().filter_map(|&text| parse(text).ok()).collect());

/// All manifests. (A test reads each text, so none can be left out.)
#[must_use]
pub fn manifests() -> &'static [ModelManifest] {
    &MANIFESTS
}

/// The manifest of that name.
#[must_use]
pub fn manifest(name: &str) -> Option<&'static ModelManifest> {
    manifests().iter().find(|manifest| manifest.name == name)
}

fn parse((file, text): (&str, &str)) -> Result<ModelManifest, String> {
    serde_yaml::from_str(text).map_err(|error| format!("{file}: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use sd_core::weights::hub::{Digest, path_in_cache};

    use super::*;

    #[test]
    fn every_manifest_is_read_and_named_as_its_file() {
        let read: Result<Vec<ModelManifest>, String> = TEXTS.into_iter().map(parse).collect();
        assert_eq!(read.as_deref(), Ok(manifests()));
        for (file, manifest) in TEXTS.iter().zip(manifests()) {
            assert_eq!(file.0, format!("models/{}.yaml", manifest.name));
        }
    }

    #[test]
    fn every_file_in_the_folder_is_built_in() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), TEXTS.len());
    }

    #[test]
    fn manifests_name_pinned_and_safe_files() {
        for manifest in manifests() {
            manifest.repository().unwrap();
            for file in &manifest.hub.files {
                path_in_cache(&file.path).unwrap();
                let is_sha256 = |hex: &String| matches!(Digest::from_hex(hex), Some(Digest::Sha256(_)));
                assert!(file.sha256.iter().all(is_sha256), "{}", file.path);
                assert!(!file.path.ends_with(".bin"), "{}: a pickle", file.path);
            }
        }
    }

    #[test]
    fn each_pipeline_names_every_part_of_one() {
        for manifest in manifests().iter().filter(|manifest| manifest.name.starts_with("sd-")) {
            let has = |part: &str| manifest.hub.files.iter().any(|file| file.path.starts_with(part));
            for part in [
                "model_index.json",
                "unet/diff",
                "vae/diff",
                "text_encoder/model",
                "tokenizer/vocab",
                "scheduler/",
            ] {
                assert!(has(part), "{}: no {part}", manifest.name);
            }
        }
    }
}
