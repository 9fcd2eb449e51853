//! What can go wrong with a download: where, what was expected, what was found, what to do.

use std::path::{Path, PathBuf};

use ureq::http::StatusCode;

/// A file could not be fetched, or is not here. Nothing bad was left under its final name.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The network may not be used and the file is not in the cache.
    #[error("{path} of {repository} is not in the cache {} and HF_HUB_OFFLINE forbids the network; unset it, or set HF_HOME \
             to a cache that has the file", cache.display())]
    Offline {
        /// Path in the repository.
        path: String,
        /// The repository.
        repository: String,
        /// The cache.
        cache: PathBuf,
    },
    /// Files that are not in the cache, where they were only looked for.
    #[error(
        "{repository} at {revision} is not whole in the cache {}: missing {missing}; fetch it, or set HF_HOME to a cache \
             that has it", cache.display()
    )]
    NotHere {
        /// The repository.
        repository: String,
        /// The pinned commit.
        revision: String,
        /// The cache.
        cache: PathBuf,
        /// Paths in the repository.
        missing: String,
    },
    /// The repository, its revision or a file is not named as it must be.
    #[error("{what}: expected {expected}, found {found:?}; {action}")]
    Name {
        /// What is named.
        what: String,
        /// What it must look like.
        expected: &'static str,
        /// What it is.
        found: String,
        /// What to do.
        action: &'static str,
    },
    /// The server answered with something else than the file.
    #[error("{url}: expected {expected}, the server answered {status}; {advice}")]
    Status {
        /// The address asked for.
        url: String,
        /// What was asked for.
        expected: &'static str,
        /// The answer.
        status: StatusCode,
        /// What to do.
        advice: String,
    },
    /// The server's list of a repository's files cannot be read.
    #[error(
        "{url}: expected the list of the repository's files, found {found}; if HF_ENDPOINT names a mirror, unset it"
    )]
    Listing {
        /// The address asked for.
        url: String,
        /// What came.
        found: String,
    },
    /// The pinned state of the repository has no such file.
    #[error(
        "{path} of {repository} at {revision}: expected a file, found none of that name; there are {there}"
    )]
    NotListed {
        /// Path in the repository.
        path: String,
        /// The repository.
        repository: String,
        /// The pinned commit.
        revision: String,
        /// Names that are there.
        there: String,
    },
    /// The Hub and our manifest say different things of a file.
    #[error(
        "{path} of {repository} at {revision}: expected {expected} as our manifest has it, found {found} on the Hub; one of \
             the two was changed. Nothing was fetched. If HF_ENDPOINT names a mirror, unset it; else report it to us"
    )]
    Disagreement {
        /// Path in the repository.
        path: String,
        /// The repository.
        repository: String,
        /// The pinned commit.
        revision: String,
        /// What the manifest says.
        expected: String,
        /// What the Hub says.
        found: String,
    },
    /// The connection could not be made, or broke off each time.
    #[error("{url}: {cause} ({attempts} attempts); {kept} of {total} bytes are kept in {}: run the same command again to go on \
             from there", partial.display())]
    Connection {
        /// The address asked for.
        url: String,
        /// What happened last.
        cause: String,
        /// Attempts made.
        attempts: u32,
        /// Bytes kept.
        kept: u64,
        /// Bytes of the whole file.
        total: u64,
        /// The unfinished file.
        partial: PathBuf,
    },
    /// The list of files could not be had.
    #[error(
        "{url}: expected the list of the repository's files, found: {cause} ({attempts} attempts); try again later"
    )]
    NoListing {
        /// The address asked for.
        url: String,
        /// What happened last.
        cause: String,
        /// Attempts made.
        attempts: u32,
    },
    /// What came is longer than the file.
    #[error(
        "{url}: expected {expected} bytes, found more; the server gives another file than the pinned one. Nothing was \
             kept. If HF_ENDPOINT names a mirror, unset it"
    )]
    TooLong {
        /// The address asked for.
        url: String,
        /// Length of the pinned file.
        expected: u64,
    },
    /// What came is not the file.
    #[error(
        "{url}: expected {expected}, found {found}; {}", if *resumed {
            "what an earlier download left was damaged, or is of another file. Nothing was kept: run the same command again"
        } else {
            "the server gives another file than the pinned one. Nothing was kept. If HF_ENDPOINT names a mirror, unset it"
        }
    )]
    Digest {
        /// The address asked for.
        url: String,
        /// Digest of the pinned file.
        expected: String,
        /// Digest of what came.
        found: String,
        /// Whether a part of it had come in an earlier download.
        resumed: bool,
    },
    /// A file in the cache is not what its name says.
    #[error("{}: expected {expected}, found {found}; the file in the cache is damaged. Remove it with `rm {}` and \
             run the same command again", path.display(), path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Digest of the pinned file.
        expected: String,
        /// Digest of its content.
        found: String,
    },
    /// A file in the cache that nothing here can be held against.
    #[error("{}: expected a digest to check it against (in our manifest, or as the name of what it links to), found \
             none; fetch the model with HF_HUB_OFFLINE unset, so that the Hub is asked, or remove the file", path.display())]
    Unverifiable {
        /// The file.
        path: PathBuf,
    },
    /// The disk is too small.
    #[error("{}: expected room for {needed} bytes, found {free} free; make room, or set HF_HOME to a folder on a larger disk",
            folder.display())]
    Space {
        /// The cache.
        folder: PathBuf,
        /// Bytes still to come.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// Another process fetches the same file.
    #[error("{}: another process is fetching this file; wait for it, then run the same command again", path.display())]
    Busy {
        /// The unfinished file.
        path: PathBuf,
    },
    /// The operating system refused.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: std::io::Error,
    },
}

/// Gives the result of a system call its place.
pub(super) fn io<T>(path: &Path, action: &'static str, result: std::io::Result<T>) -> Result<T, FetchError> {
    result.map_err(|source| FetchError::Io { path: path.to_owned(), action, source })
}
