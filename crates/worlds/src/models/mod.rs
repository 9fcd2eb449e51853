//! Published models: what they are (`models/*.yaml`), whether they are here, how to get them.
//!
//! A model is named by its folder or by the name of a manifest. Nothing is swapped: what is absent is an error that says how to
//! get it.

mod manifest;

use std::path::{Path, PathBuf};

use sd_core::weights::hub::{self, FetchError, Hub, Progress};

pub use manifest::{ModelFile, ModelManifest, ModelSource, manifest, manifests};

use crate::error::hint;

/// A model could not be found.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Neither a folder nor a known name.
    #[error("`{name}`: expected a model's folder or one of {known}, found neither{hint}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// Every known name.
        known: String,
        /// `; did you mean …?` or nothing.
        hint: String,
    },
    /// A known model that is not in the cache.
    #[error(
        "model `{name}` is not here: {source}.\nGet it in one of two ways:\n  \
         1. `cargo xtask generate \"a prompt\" --model {name}` fetches it into the Hub's cache\n  \
         2. `--model DIR`, where DIR is the folder of {title} in diffusers' layout"
    )]
    Absent {
        /// Its name.
        name: String,
        /// Its name in print.
        title: String,
        /// What is missing.
        source: Box<FetchError>,
    },
    /// It is in the cache and not as it should be.
    #[error(transparent)]
    Broken(Box<FetchError>),
}

/// What a user named: a folder, or a model that may have to be fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// A folder on this machine, used as it is.
    Folder(PathBuf),
    /// A model with a manifest.
    Known(&'static ModelManifest),
}

/// What `name` names: a folder where there is one of that name, else a manifest's.
///
/// # Errors
/// [`ModelError::Unknown`], with the nearest known name.
pub fn named(name: &str) -> Result<Named, ModelError> {
    let path = Path::new(name);
    if path.is_dir() {
        return Ok(Named::Folder(path.to_owned()));
    }
    if let Some(manifest) = manifest(name) {
        return Ok(Named::Known(manifest));
    }
    let known: Vec<&str> = manifests().iter().map(|manifest| manifest.name.as_str()).collect();
    let hint = hint(name, &known);
    Err(ModelError::Unknown { name: name.to_owned(), known: known.join(", "), hint })
}

/// Folder of the model that `name_or_folder` names, without asking the network: a folder as it is, a known model out of
/// the Hub's cache, each of its files checked when it is first found there.
///
/// # Errors
/// Where it is unknown, absent (and then how to get it), or damaged.
pub fn resolve(name_or_folder: &str, hub: &Hub) -> Result<PathBuf, ModelError> {
    match named(name_or_folder)? {
        Named::Folder(folder) => Ok(folder),
        Named::Known(manifest) => locate(manifest, hub),
    }
}

/// Folder of a model in the Hub's cache, every one of its files there and checked.
///
/// # Errors
/// [`ModelError::Absent`] and [`ModelError::Broken`].
pub fn locate(manifest: &ModelManifest, hub: &Hub) -> Result<PathBuf, ModelError> {
    let broken = |error| ModelError::Broken(Box::new(error));
    let repository = manifest.repository().map_err(broken)?;
    match hub::locate(&repository, &manifest.files(), hub) {
        Ok(_) => Ok(hub::snapshot(hub, &repository)),
        Err(source @ FetchError::NotHere { .. }) => Err(ModelError::Absent {
            name: manifest.name.clone(),
            title: manifest.title.clone(),
            source: Box::new(source),
        }),
        Err(error) => Err(broken(error)),
    }
}

/// Gets every file of a model that is not yet in the cache; gives its folder there.
///
/// # Errors
/// See [`FetchError`].
pub fn fetch(
    manifest: &ModelManifest,
    hub: &Hub,
    progress: &mut dyn FnMut(Progress),
) -> Result<PathBuf, FetchError> {
    let repository = manifest.repository()?;
    hub::fetch(&repository, &manifest.files(), hub, progress)?;
    Ok(hub::snapshot(hub, &repository))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn hub(cache: &Path) -> Hub {
        let place = cache.display().to_string();
        Hub::from_variables(|name| (name == "HF_HUB_CACHE").then(|| place.clone())).unwrap()
    }

    #[test]
    fn a_folder_is_used_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let name = folder.path().to_str().unwrap();
        assert_eq!(resolve(name, &hub(folder.path())).unwrap(), folder.path());
    }

    #[test]
    fn an_absent_model_says_how_to_be_had() {
        let folder = tempfile::tempdir().unwrap();
        let message = resolve("sd-v1-4", &hub(folder.path())).unwrap_err().to_string();
        for word in ["sd-v1-4", "missing model_index.json", "cargo xtask generate", "--model DIR"] {
            assert!(message.contains(word), "no {word:?} in: {message}");
        }
    }

    #[test]
    fn an_unknown_name_is_refused_with_a_suggestion() {
        let folder = tempfile::tempdir().unwrap();
        let message = resolve("sd-v1-6", &hub(folder.path())).unwrap_err().to_string();
        assert!(
            message.contains("a model's folder or one of sd-v1-4") && message.contains("did you mean"),
            "{message}"
        );
    }

    #[test]
    fn a_file_of_another_content_is_not_used() {
        let cache = tempfile::tempdir().unwrap();
        let (hub, manifest) = (hub(cache.path()), manifest("clip-vit-large-patch14").unwrap());
        let folder = hub::snapshot(&hub, &manifest.repository().unwrap());
        std::fs::create_dir_all(&folder).unwrap();
        for file in &manifest.hub.files {
            std::fs::write(folder.join(&file.path), "not it").unwrap();
        }
        let message = locate(manifest, &hub).unwrap_err().to_string();
        for word in ["config.json", "expected sha256", "damaged", "rm "] {
            assert!(message.contains(word), "no {word:?} in: {message}");
        }
    }
}
