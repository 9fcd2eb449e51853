//! Labelled pictures for classifiers: two drawn worlds and two real data sets, all 32×32 RGB.
//!
//! [`load`] finds a data set by its name. Real ones are looked for below the folder that is given and then in the Hub's cache;
//! what is found in the cache is held against its manifest each time, so that a damaged download is never trained on.

pub(crate) mod cifar;
mod set;
pub mod shapes;
mod sheet;

use std::path::{Path, PathBuf};

use cifar::Kind;
use sha2::{Digest, Sha256};

pub use set::{CHANNELS, ImageSet, PICTURE_BYTES, SIDE, Split};
pub use sheet::contact_sheet;

use crate::DataError;
use crate::datasets::{self, Hub, Verdict};

/// Every data set [`load`] knows.
pub const NAMES: [&str; 4] = ["shapes10", "shapes100", "cifar10", "cifar100"];

/// Loads the training and the test set of `name`; a real one from below `root`, else from the Hub's cache.
///
/// The order of pictures is fixed for each data set, whatever the layout of its files.
///
/// # Errors
/// Where the name is unknown, the data is absent, or a file breaks a rule of its format.
pub fn load(name: &str, root: &Path) -> Result<(ImageSet, ImageSet), DataError> {
    load_with(name, root, Hub::from_env().ok().as_ref())
}

/// A digest of what `name` stands for, for the keys of trials: of the pixels of a drawn world (known beforehand), of the
/// files of a real one. Lower-case hexadecimal.
///
/// # Errors
/// Where the name is unknown or the data is absent.
pub fn digest(name: &str, root: &Path) -> Result<String, DataError> {
    match place(name, root, Hub::from_env().ok().as_ref())? {
        Place::Drawn(recipe) => Ok(recipe.known_digest().map_or_else(|| recipe.digest(), ToOwned::to_owned)),
        Place::Files(files) => {
            let digests: Result<Vec<String>, DataError> =
                files.copy.all().map(|path| datasets::sha256_of_file(path)).collect();
            Ok(crate::hex(&Sha256::digest(digests?.concat())))
        }
    }
}

/// Checks that the data set is there with all its files, without reading them.
///
/// # Errors
/// Where the name is unknown, or the data is absent or incomplete.
pub fn check(name: &str, root: &Path) -> Result<(), DataError> {
    place(name, root, Hub::from_env().ok().as_ref()).map(|_| ())
}

/// What results on the copy that is found are to be called, and how it differs from the published data set where it does:
/// `("CIFAR-100, JPEG-recompressed", Some("Each picture was …"))`.
///
/// # Errors
/// As [`digest`].
pub fn title(name: &str, root: &Path) -> Result<(String, Option<String>), DataError> {
    let files = match place(name, root, Hub::from_env().ok().as_ref())? {
        Place::Drawn(_) => return Ok((name.to_owned(), None)),
        Place::Files(files) => files,
    };
    let Some(manifest) = datasets::manifest(name) else { return Ok((name.to_owned(), None)) };
    for path in files.copy.all() {
        if let Verdict::Known { title, note, .. } =
            datasets::judge(manifest, &datasets::sha256_of_file(path)?)
        {
            return Ok((title, Some(note)));
        }
    }
    Ok((manifest.title.clone(), None))
}

/// What results must be called where the copy that is found has other pixels than the published data set.
///
/// # Errors
/// As [`digest`].
pub fn altered_copy(name: &str, root: &Path) -> Result<Option<String>, DataError> {
    let Place::Files(files) = place(name, root, Hub::from_env().ok().as_ref())? else { return Ok(None) };
    let Some(manifest) = datasets::manifest(name) else { return Ok(None) };
    for path in files.copy.all() {
        let verdict = datasets::judge(manifest, &datasets::sha256_of_file(path)?);
        if let Verdict::Known { title, altered: true, .. } = verdict {
            return Ok(Some(title));
        }
    }
    Ok(None)
}

/// The files a real data set would be read from; none for a drawn one.
pub(crate) fn files(name: &str, root: &Path, hub: Option<&Hub>) -> Result<Vec<PathBuf>, DataError> {
    match place(name, root, hub)? {
        Place::Drawn(_) => Ok(Vec::new()),
        Place::Files(files) => Ok(files.copy.all().cloned().collect()),
    }
}

/// [`load`], with the cache of the given Hub, or of none.
pub(crate) fn load_with(
    name: &str,
    root: &Path,
    hub: Option<&Hub>,
) -> Result<(ImageSet, ImageSet), DataError> {
    match place(name, root, hub)? {
        Place::Drawn(recipe) => Ok((recipe.draw(Split::Train), recipe.draw(Split::Test))),
        Place::Files(files) => {
            if files.in_cache {
                files.check_digests()?;
            }
            let names = datasets::manifest(name).map(|manifest| manifest.classes.clone()).unwrap_or_default();
            let read = |split| cifar::read(&files.kind, &files.copy, split, &names);
            Ok((read(Split::Train)?, read(Split::Test)?))
        }
    }
}

/// Where a data set comes from.
enum Place {
    Drawn(shapes::Recipe),
    Files(Files),
}

/// The files of a real data set.
struct Files {
    kind: Kind,
    copy: cifar::Copy,
    /// Whether they lie in the Hub's cache, where every file is one of the manifest's.
    in_cache: bool,
}

fn place(name: &str, root: &Path, hub: Option<&Hub>) -> Result<Place, DataError> {
    if let Some(recipe) = shapes::Recipe::named(name) {
        return Ok(Place::Drawn(recipe));
    }
    let kind = Kind::named(name).ok_or_else(|| DataError::unknown(name, &NAMES))?;
    let snapshot =
        hub.zip(datasets::manifest(name)).and_then(|(hub, manifest)| datasets::snapshot(hub, manifest));
    let folders: Vec<PathBuf> = [Some(root.to_owned()), snapshot.clone()].into_iter().flatten().collect();
    let copy = cifar::find(&kind, &folders)?;
    let in_cache = snapshot.is_some_and(|snapshot| copy.all().all(|path| path.starts_with(&snapshot)));
    Ok(Place::Files(Files { kind, copy, in_cache }))
}

impl Files {
    fn check_digests(&self) -> Result<(), DataError> {
        let Some(manifest) = datasets::manifest(self.kind.name) else { return Ok(()) };
        for path in self.copy.all() {
            let found = datasets::sha256_of_file(path)?;
            if datasets::judge(manifest, &found) != Verdict::Pinned {
                let expected = "one of the manifest's digests";
                let action =
                    format!("remove it with `rm \"$(realpath {})\"` and fetch it again", path.display());
                return Err(DataError::broken(
                    path,
                    "sha256 of a file in the cache",
                    expected,
                    found,
                    action,
                ));
            }
        }
        Ok(())
    }
}
