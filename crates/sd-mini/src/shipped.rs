//! The weights that ship with the repository, in `datasets/sd-mini`, and their digests.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use crate::stages::gates::Gate;

/// Name of the manifest's file.
pub const MANIFEST: &str = "manifest.json";
/// Where the weights are, from the repository's root.
pub const PLACE: &str = "datasets/sd-mini";

const HELP: &str = "in the repository, `git checkout -- datasets/sd-mini` brings it back; a folder of your own is made by \
    `cargo xtask train sd-mini`";

/// What ships, and how to know that it is whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The model's name.
    pub name: String,
    /// Seed of the recipe.
    pub seed: u64,
    /// Digest of the world that it was trained on: `worlds::scenes::digest`.
    pub world: String,
    /// Steps of the sampler that its gates were measured with.
    pub steps: usize,
    /// Guidance that its gates were measured with.
    pub guidance: f64,
    /// What was measured of it: an attribute whose gate is missed cannot be tested with this model. Empty where nothing was.
    pub gates: Vec<Gate>,
    /// Files below the manifest's folder, by path.
    pub files: BTreeMap<String, File>,
}

/// A file and its digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Size.
    pub bytes: u64,
    /// SHA-256, lower-case hexadecimal.
    pub sha256: String,
}

impl File {
    /// That of the file at `path`.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn of(path: &Path) -> Result<Self> {
        let read = || Ok::<_, std::io::Error>((fs::metadata(path)?.len(), lab::digest::of_file(path)?));
        let (bytes, sha256) = read().with_context(|| path.display().to_string())?;
        Ok(Self { bytes, sha256 })
    }
}

/// Weights that are whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Shipped {
    /// The folder of the manifest.
    pub folder: PathBuf,
    /// What it says.
    pub manifest: Manifest,
}

impl Shipped {
    /// Opens the weights in `folder` and compares every file with its digest.
    ///
    /// # Errors
    /// Where the manifest or a file is absent or not what it was: the message names the file, what was expected and what was found.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let text = fs::read_to_string(&path).with_context(|| {
            format!(
                "{}: the weights of sd-mini are not here\n  help: they come with the repository: `git checkout -- {PLACE}`; or train \
                 them: `cargo xtask train sd-mini --scale standard`",
                path.display()
            )
        })?;
        let manifest: Manifest = serde_json::from_str(&text)
            .with_context(|| format!("{}: not a manifest of sd-mini", path.display()))?;
        for (name, expected) in &manifest.files {
            check(&folder.join(name), expected)?;
        }
        Ok(Self { folder: folder.to_owned(), manifest })
    }

    /// As [`Self::open`], of the repository that the current folder lies in.
    ///
    /// # Errors
    /// Where the current folder lies in none, and as [`Self::open`].
    pub fn find() -> Result<Self> {
        let here = std::env::current_dir()?;
        let Some(root) = here.ancestors().find(|folder| folder.join(PLACE).join(MANIFEST).is_file()) else {
            bail!(
                "{}: no folder above this one has {PLACE}/{MANIFEST}\n  help: the weights of sd-mini come with the repository: start this command \
                 inside it (`git checkout -- {PLACE}` brings them back), or name a folder",
                here.display()
            )
        };
        Self::open(&root.join(PLACE))
    }

    /// The pipeline's folder.
    #[must_use]
    pub fn model(&self) -> PathBuf {
        self.folder.join("model")
    }

    /// The judges' folder.
    #[must_use]
    pub fn judges(&self) -> PathBuf {
        self.folder.join("judges")
    }
}

fn check(path: &Path, expected: &File) -> Result<()> {
    if !path.is_file() {
        bail!(
            "{}: there is no such file\n  expected: {} bytes, sha256 {}\n  help: {HELP}",
            path.display(),
            expected.bytes,
            expected.sha256
        );
    }
    let found = File::of(path)?;
    if found != *expected {
        bail!(
            "{}: not the file that ships\n  expected: {} bytes, sha256 {}\n  found: {} bytes, sha256 {}\n  help: {HELP}",
            path.display(),
            expected.bytes,
            expected.sha256,
            found.bytes,
            found.sha256
        );
    }
    Ok(())
}
