//! The Hub: files of a pinned commit, fetched once into the Hub's own cache and checked.
//!
//! One function, [`fetch`], serves models and data sets. What a file must be is said twice: by our manifest, where it has a digest,
//! and by the Hub's list of the pinned commit (the SHA-256 of a large file, git's name of a small one). Where
//! the two disagree nothing is fetched. What was fetched lies in the Hub's cache in its own layout, so that a copy another
//! program fetched is found and a copy fetched here serves others.

mod cache;
mod checked;
mod client;
mod digest;
mod download;
mod error;
mod listing;
mod repository;
mod space;
mod variables;

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

pub use cache::{path_in_cache, snapshot};
pub use digest::{Digest, sha256_of_file};
pub use download::Progress;
pub use error::FetchError;
pub use repository::{Kind, RemoteFile, Repository};
pub use variables::{Hub, HubError};

use client::Client;
use download::Download;
use listing::Listing;

/// Names that a message lists.
const LISTED: usize = 5;

/// Gets every file that is not yet in the cache, and checks every one; returns their paths in the order given.
///
/// The Hub is asked only for what is not here. The token goes to the endpoint alone. A download that broke off goes on where it
/// ended, in this call and in the next.
///
/// # Errors
/// See [`FetchError`].
pub fn fetch(
    repository: &Repository,
    files: &[RemoteFile],
    hub: &Hub,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<PathBuf>, FetchError> {
    let client = Client::new(hub);
    let fetch = Fetch { repository, hub, client: &client, listing: OnceCell::new() };
    files.iter().map(|file| fetch.one(file, progress)).collect()
}

/// Finds every file in the cache without asking anybody, each checked when it is first found; returns their paths in the order given.
///
/// # Errors
/// [`FetchError::NotHere`] with what is missing; [`FetchError::Damaged`]; [`FetchError::Unverifiable`].
pub fn locate(repository: &Repository, files: &[RemoteFile], hub: &Hub) -> Result<Vec<PathBuf>, FetchError> {
    let names: Vec<PathBuf> =
        files.iter().map(|file| name(hub, repository, file)).collect::<Result<_, _>>()?;
    let here = |name: &Path| name.is_file();
    let missing: Vec<&str> = files
        .iter()
        .zip(&names)
        .filter(|(_, name)| !here(name))
        .map(|(file, _)| file.path.as_str())
        .collect();
    if !missing.is_empty() {
        return Err(FetchError::NotHere {
            repository: repository.name().to_owned(),
            revision: repository.revision().to_owned(),
            cache: hub.cache.clone(),
            missing: super::error::listed(&missing, LISTED),
        });
    }
    let notes = cache::notes(hub, repository);
    for (file, name) in files.iter().zip(&names) {
        let digest = known(file, name).ok_or_else(|| FetchError::Unverifiable { path: name.clone() })?;
        // The content itself, so that a message about damage names what must go.
        let content = std::fs::canonicalize(name).unwrap_or_else(|_| name.clone());
        checked::once(&notes, &content, &digest)?;
    }
    Ok(names)
}

/// The name of a file in the snapshot.
fn name(hub: &Hub, repository: &Repository, file: &RemoteFile) -> Result<PathBuf, FetchError> {
    Ok(snapshot(hub, repository).join(path_in_cache(&file.path)?))
}

/// What is known of a file without asking: the manifest's digest, or that of the blob that its name links to.
fn known(file: &RemoteFile, name: &Path) -> Option<Digest> {
    file.sha256.clone().map(Digest::Sha256).or_else(|| cache::claimed(name))
}

/// One call of [`fetch`].
struct Fetch<'a> {
    repository: &'a Repository,
    hub: &'a Hub,
    client: &'a Client<'a>,
    /// The Hub's list, asked for when a file is not here.
    listing: OnceCell<Listing>,
}

impl Fetch<'_> {
    fn one(&self, file: &RemoteFile, progress: &mut dyn FnMut(Progress)) -> Result<PathBuf, FetchError> {
        let name = name(self.hub, self.repository, file)?;
        if !self.is_here(file, &name)? {
            self.refuse_offline(file, &name)?;
            self.get(file, &name, progress)?;
        }
        let size = error::io(&name, "look at it", std::fs::metadata(&name))?.len();
        progress(Progress { path: &file.path, done: size, total: size });
        Ok(name)
    }

    /// Whether the file is in the cache, whole, and under its name.
    fn is_here(&self, file: &RemoteFile, name: &Path) -> Result<bool, FetchError> {
        let Some(digest) = known(file, name) else { return Ok(false) };
        let blob = cache::blob(self.hub, self.repository, digest.hex());
        if blob.exists() {
            self.check(&blob, &digest)?;
            return self.link(&blob, name, file).map(|()| true);
        }
        // A copy where the file system has no links, or a small file under git's name.
        Ok(name.is_file() && digest.of_file_like(name)? == digest)
    }

    fn check(&self, path: &Path, digest: &Digest) -> Result<(), FetchError> {
        checked::always(&cache::notes(self.hub, self.repository), path, digest)
    }

    fn refuse_offline(&self, file: &RemoteFile, name: &Path) -> Result<(), FetchError> {
        if !self.hub.offline {
            return Ok(());
        }
        if name.is_file() && known(file, name).is_none() {
            return Err(FetchError::Unverifiable { path: name.to_owned() });
        }
        let (path, repository) = (file.path.clone(), self.repository.name().to_owned());
        Err(FetchError::Offline { path, repository, cache: self.hub.cache.clone() })
    }

    /// Fetches the file as the Hub and the manifest agree on it.
    fn get(
        &self,
        file: &RemoteFile,
        name: &Path,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(), FetchError> {
        let listed = self.listing()?.agreed(self.repository, file)?;
        let blob = cache::blob(self.hub, self.repository, listed.digest.hex());
        let mut digests = vec![listed.digest.clone()];
        digests.extend(file.sha256.clone().map(Digest::Sha256).filter(|ours| *ours != listed.digest));
        let mut is_checked = false;
        if !blob.exists() {
            let url = self.repository.file(&self.hub.endpoint, &file.path);
            let download =
                Download { client: self.client, path: &file.path, url, size: listed.size, digests: &digests };
            is_checked = download.run(&blob, progress)?;
        }
        match is_checked {
            true => {
                let notes = cache::notes(self.hub, self.repository);
                digests.iter().for_each(|digest| checked::note(&notes, &blob, digest));
            }
            false => digests.iter().try_for_each(|digest| self.check(&blob, digest))?,
        }
        self.link(&blob, name, file)
    }

    fn listing(&self) -> Result<&Listing, FetchError> {
        if let Some(listing) = self.listing.get() {
            return Ok(listing);
        }
        let listing = Listing::ask(self.client, self.repository)?;
        Ok(self.listing.get_or_init(|| listing))
    }

    /// Gives a blob its name in the snapshot, where it has not got it.
    fn link(&self, blob: &Path, name: &Path, file: &RemoteFile) -> Result<(), FetchError> {
        let same = |a: &Path, b: &Path| std::fs::canonicalize(a).ok().zip(std::fs::canonicalize(b).ok());
        if same(blob, name).is_some_and(|(a, b)| a == b) {
            return Ok(());
        }
        download::make_folder_of(name)?;
        let depth = file.path.matches('/').count();
        error::io(name, "link it to its content", cache::link(blob, name, depth))
    }
}
