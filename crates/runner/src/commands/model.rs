//! Which model is meant: a folder, or one that is known by name and fetched where it is not here yet.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, bail};
use sd_core::weights::hub::sha256_of_file;

/// What ships in a later version.
const TO_COME: &str = "sd-mini";

/// A model's folder, and what is known of it.
pub(crate) struct Model {
    pub(crate) folder: PathBuf,
    /// As it is called in a picture's settings.
    pub(crate) label: String,
    /// The Hub's commit, where the files are of one.
    pub(crate) revision: Option<String>,
}

/// The model that `typed` means.
///
/// # Errors
/// Where there is no such folder and no such name, or it cannot be fetched.
pub(crate) fn find(typed: &str) -> Result<Model> {
    let path = Path::new(typed);
    if path.is_dir() {
        return Ok(of_folder(path));
    }
    if typed == TO_COME {
        bail!("--model {TO_COME}: it does not ship with this version yet\n  help: give a diffusers folder");
    }
    bail!("--model {typed}: there is no such folder")
}

fn of_folder(path: &Path) -> Model {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let revision = whole.parent().filter(|parent| name(parent) == "snapshots").map(|_| name(&whole));
    Model { folder: path.to_owned(), label: name(&whole), revision }
}

/// Digests on their way.
pub(crate) struct Digests(JoinHandle<Result<BTreeMap<String, String>>>);

impl Model {
    /// Begins to compute the SHA-256 of each file of weights, beside whatever else is done: they say which model made a picture.
    /// Nothing is computed of a commit of the Hub, which says it already.
    pub(crate) fn digests(&self) -> Digests {
        let folder = self.revision.is_none().then(|| self.folder.clone());
        Digests(std::thread::spawn(move || folder.map_or_else(|| Ok(BTreeMap::new()), |folder| digests(&folder))))
    }
}

impl Digests {
    pub(crate) fn wait(self) -> Result<BTreeMap<String, String>> {
        self.0.join().unwrap_or_else(|_| bail!("computing the digests of the weights failed"))
    }
}

/// Of every safetensors file of the networks that make a picture, by its path in the folder.
fn digests(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut digests = BTreeMap::new();
    for component in ["text_encoder", "unet", "vae"] {
        let place = folder.join(component);
        let entries = fs::read_dir(&place).with_context(|| format!("{}: cannot list it", place.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                let name = format!("{component}/{}", path.file_name().unwrap_or_default().to_string_lossy());
                digests.insert(name, sha256_of_file(&path)?);
            }
        }
    }
    Ok(digests)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_folder_is_called_by_its_name_and_a_snapshot_has_its_commit() {
        let root = tempfile::tempdir().unwrap();
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let snapshot = root.path().join("models--o--n/snapshots").join(commit);
        fs::create_dir_all(&snapshot).unwrap();
        let model = find(snapshot.to_str().unwrap()).unwrap();
        assert_eq!((model.label.as_str(), model.revision.as_deref()), (commit, Some(commit)));
        assert!(model.digests().wait().unwrap().is_empty());
        let plain = root.path().join("mine");
        fs::create_dir(&plain).unwrap();
        let model = find(plain.to_str().unwrap()).unwrap();
        assert_eq!((model.label.as_str(), model.revision), ("mine", None));
    }

    #[test]
    fn weights_are_named_by_their_digests() {
        let root = tempfile::tempdir().unwrap();
        for name in ["text_encoder", "unet", "vae"] {
            fs::create_dir(root.path().join(name)).unwrap();
        }
        fs::write(root.path().join("unet/a.safetensors"), "abc").unwrap();
        fs::write(root.path().join("unet/config.json"), "{}").unwrap();
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let found = digests(root.path()).unwrap();
        assert_eq!(found, BTreeMap::from([("unet/a.safetensors".to_owned(), digest.to_owned())]));
    }

    #[test]
    fn what_is_not_there_is_said() {
        let said = |typed| find(typed).err().map(|error| error.to_string()).unwrap();
        assert!(said("sd-mini").contains("does not ship"));
        assert!(said("no/such/folder").contains("--model no/such/folder"));
    }
}
