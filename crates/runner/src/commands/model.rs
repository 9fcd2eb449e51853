//! Which model is meant: a folder, or one that is known by name and fetched where it is not here yet.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use anyhow::{Context as _, Result, bail};
use lab::executor::readable_bytes;
use sd_core::weights::hub::{Hub, sha256_of_file};
use sd_mini::shipped::Shipped;
use sd_mini::subject::SHIPPED;
use worlds::models::{self, ModelError, ModelManifest, Named};

use super::download::Bar;
use crate::output::say;

/// diffusers' defaults of a pipeline.
const STEPS: usize = 50;
const GUIDANCE: f64 = 7.5;

/// A model's folder, and what is known of it.
pub(crate) struct Model {
    pub(crate) folder: PathBuf,
    /// As it is called in a picture's settings.
    pub(crate) label: String,
    /// The Hub's commit, where the files are of one.
    pub(crate) revision: Option<String>,
    /// Steps and guidance where none are asked for.
    pub(crate) steps: usize,
    pub(crate) guidance: f64,
}

/// The model that `typed` means; one that is known by name and not here yet is fetched.
///
/// # Errors
/// Where there is neither such a folder nor such a name, or it cannot be fetched.
pub(crate) fn find(typed: &str) -> Result<Model> {
    // A folder of that name is `./sd-mini`: the repository has some.
    if typed == SHIPPED {
        return shipped().with_context(|| format!("--model {SHIPPED}"));
    }
    match models::named(typed).with_context(|| format!("--model {typed}"))? {
        Named::Folder(folder) => Ok(of_folder(&folder)),
        Named::Known(manifest) => of_manifest(manifest),
    }
}

/// As [`find`], for a whole pipeline: a component that is known by name is not fetched in vain.
///
/// # Errors
/// As [`find`].
pub(crate) fn find_pipeline(typed: &str) -> Result<Model> {
    if let Ok(Named::Known(manifest)) = models::named(typed)
        && !manifest.hub.files.iter().any(|file| file.path == "model_index.json")
    {
        bail!(
            "--model {typed}: expected a pipeline, found {}, which is a part of one\n  help: `forward` runs parts",
            manifest.title
        );
    }
    find(typed)
}

/// The repository's own, every file compared with its digest.
fn shipped() -> Result<Model> {
    let shipped = Shipped::find()?;
    let (steps, guidance) = (shipped.manifest.steps, shipped.manifest.guidance);
    Ok(Model { folder: shipped.model(), label: SHIPPED.to_owned(), revision: None, steps, guidance })
}

fn of_folder(path: &Path) -> Model {
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name =
        |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let revision = whole.parent().filter(|parent| name(parent) == "snapshots").map(|_| name(&whole));
    Model { folder: path.to_owned(), label: name(&whole), revision, steps: STEPS, guidance: GUIDANCE }
}

fn of_manifest(manifest: &ModelManifest) -> Result<Model> {
    let hub = Hub::from_env()?;
    let folder = match models::locate(manifest, &hub) {
        Err(ModelError::Absent { .. }) => fetch(manifest, &hub)?,
        found => found?,
    };
    let (label, revision) = (manifest.name.clone(), Some(manifest.hub.revision.clone()));
    Ok(Model { folder, label, revision, steps: STEPS, guidance: GUIDANCE })
}

/// Says what is fetched, how much of it there is and under which licence, and fetches it.
fn fetch(manifest: &ModelManifest, hub: &Hub) -> Result<PathBuf> {
    if !hub.offline {
        let (name, title, from) = (&manifest.name, &manifest.title, &manifest.hub.repository);
        say(&format!(
            "{name}: fetching {title} from {from}, {}, into {}",
            size(manifest),
            hub.cache.display()
        ));
        say(&format!("licence: {}", manifest.licence.trim()));
    }
    let fetched = models::fetch(manifest, hub, &mut Bar::default().shown());
    fetched.with_context(|| format!("--model {}: cannot fetch it", manifest.name))
}

/// What the manifest knows of it.
fn size(manifest: &ModelManifest) -> String {
    let sizes: Option<Vec<u64>> = manifest.hub.files.iter().map(|file| file.size).collect();
    let files = manifest.hub.files.len();
    match sizes {
        Some(sizes) => readable_bytes(sizes.iter().sum()),
        None => format!("{files} files whose sizes the Hub will say (a Stable Diffusion has 2 to 5 GB)"),
    }
}

/// Digests on their way.
pub(crate) struct Digests(JoinHandle<Result<BTreeMap<String, String>>>);

impl Model {
    /// Begins to compute the SHA-256 of each file of weights, beside whatever else is done: they say which model made a picture.
    /// Nothing is computed of a commit of the Hub, which says it already.
    pub(crate) fn digests(&self) -> Digests {
        let folder = self.revision.is_none().then(|| self.folder.clone());
        Digests(std::thread::spawn(move || {
            folder.map_or_else(|| Ok(BTreeMap::new()), |folder| digests(&folder))
        }))
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
    fn the_help_names_every_model_that_is_known() {
        let mut program = <cli::Arguments as clap::CommandFactory>::command();
        let help = program.find_subcommand_mut("generate").unwrap().render_long_help().to_string();
        for manifest in models::manifests().iter().filter(|manifest| manifest.name.starts_with("sd-")) {
            assert!(help.contains(&manifest.name), "{} is not in the help", manifest.name);
        }
    }

    #[test]
    fn what_is_not_there_is_said() {
        let said = |typed| find(typed).err().map(|error| error.to_string()).unwrap();
        assert!(said("no/such/folder").contains("--model no/such/folder"));
        let said = find("sd-v1-6").err().map(|error| crate::output::told(&error)).unwrap();
        assert!(said.contains("did you mean `sd-v1-"), "{said}");
    }
}
