//! Where things lie: the repository, experiment files, results, data.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use cli::Scale;
use lab::config::Document;
use worlds::datasets::Hub;

use crate::papers::Entry;

/// The repository around `from`: the nearest folder above that holds both `experiments/` and `Cargo.toml`.
pub(crate) fn repository_around(from: &Path) -> Option<PathBuf> {
    let is_root = |folder: &&Path| folder.join("experiments").is_dir() && folder.join("Cargo.toml").is_file();
    from.ancestors().find(is_root).map(Path::to_owned)
}

/// The repository around the current folder, if there is one.
pub(crate) fn repository() -> Option<PathBuf> {
    repository_around(&env::current_dir().ok()?)
}

/// The experiment file of `entry` at `scale`: the repository's where we are in one, else the one built in.
///
/// # Errors
/// Where there is no such file, or it is no YAML. A file that is missing in a repository was taken away by somebody: the
/// built-in one does not stand in for it.
pub(crate) fn experiment(entry: &Entry, scale: Scale) -> Result<Document> {
    let relative = format!("experiments/{}/{scale}.yaml", entry.paper.id());
    let built_in = entry.experiments.iter().find(|(name, _)| *name == scale.name());
    match (repository().map(|root| relative_to_here(&root.join(&relative))), built_in) {
        (Some(path), _) if path.exists() => Ok(Document::read(path)?),
        (None, Some((_, text))) => Ok(Document::parse(&relative, text)?),
        (path, _) => bail!(absent(entry, &path.unwrap_or_else(|| relative.into()))),
    }
}

fn absent(entry: &Entry, path: &Path) -> String {
    let scales: Vec<&str> = entry.experiments.iter().map(|(name, _)| *name).collect();
    let (path, scales) = (path.display(), scales.join(" or "));
    format!("{path}: there is no such experiment file\n  help: --scale {scales} came with this build")
}

/// The experiment that the results in `out` came from; where there are none yet, as [`experiment`].
///
/// # Errors
/// Where the file cannot be read or is no YAML.
pub(crate) fn experiment_of(entry: &Entry, scale: Scale, out: &Path) -> Result<Document> {
    let used = out.join("experiment.yaml");
    if used.exists() { Ok(Document::read(used)?) } else { experiment(entry, scale) }
}

/// `path` as seen from the current folder, where it lies below: shorter to read in a message.
fn relative_to_here(path: &Path) -> PathBuf {
    let here = env::current_dir().ok();
    here.and_then(|here| path.strip_prefix(here).ok().map(Path::to_owned)).unwrap_or_else(|| path.to_owned())
}

/// Folder of the results of `paper` at `scale`: `typed`, else `results/<paper>/<scale>` of the repository (of the current
/// folder where we are in none).
pub(crate) fn results(paper: &str, scale: Scale, typed: Option<&Path>) -> PathBuf {
    let root = || repository().unwrap_or_default();
    typed.map_or_else(|| root().join("results").join(paper).join(scale.name()), Path::to_owned)
}

/// Folder of the real data sets: `typed`, else `$DIFFLAB_DATA`, else the Hub's cache folder, which is looked into in any
/// case.
pub(crate) fn data(typed: Option<&Path>) -> PathBuf {
    let named = typed.map(Path::to_owned).or_else(|| env::var_os("DIFFLAB_DATA").map(PathBuf::from));
    named.or_else(|| Hub::from_env().ok().map(|hub| hub.cache)).unwrap_or_else(|| "data".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_repository_is_found_from_within_and_not_from_without() {
        let crate_folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let root = repository_around(&crate_folder.join("src")).unwrap();
        assert!(root.join("crates/runner").is_dir());
        assert_eq!(repository_around(Path::new("/")), None);
    }

    #[test]
    fn typed_folders_are_taken_as_they_are() {
        assert_eq!(results("p", Scale::Quick, Some(Path::new("here"))), Path::new("here"));
        assert!(results("p", Scale::Paper, None).ends_with("results/p/paper"));
    }
}
