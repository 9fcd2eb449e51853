//! Data sets from the Hub.

use std::path::PathBuf;

use sd_core::weights::hub::{self, FetchError, Hub, Kind, Progress, RemoteFile, Repository};

use super::Manifest;

/// Gets every file of a data set that is not yet in the cache; returns them in the manifest's order.
///
/// # Errors
/// See [`FetchError`].
pub fn fetch(
    manifest: &Manifest,
    hub: &Hub,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<PathBuf>, FetchError> {
    let file = |file: &super::ManifestFile| RemoteFile {
        path: file.path.clone(),
        size: Some(file.size),
        sha256: Some(file.sha256.clone()),
    };
    let files: Vec<RemoteFile> = manifest.hub.files.iter().map(file).collect();
    hub::fetch(&repository(manifest)?, &files, hub, progress)
}

/// Folder of the pinned state of a data set in the cache; none where the manifest pins none.
pub(crate) fn snapshot(hub: &Hub, manifest: &Manifest) -> Option<PathBuf> {
    repository(manifest).ok().map(|repository| hub::snapshot(hub, &repository))
}

fn repository(manifest: &Manifest) -> Result<Repository, FetchError> {
    Repository::new(Kind::DataSet, &manifest.hub.repository, &manifest.hub.revision)
}
