//! The Hub's cache: `{models,datasets}--OWNER--NAME/{blobs/DIGEST, snapshots/REVISION/PATH → blob}`.

use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Digest, FetchError, Hub, Repository};

/// Turns a repository's path into one that may be joined to a folder.
///
/// # Errors
/// [`FetchError::Name`] on an empty or absolute path, on `..` or `.`, on a backslash, colon or NUL.
pub fn path_in_cache(path: &str) -> Result<PathBuf, FetchError> {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains(['\0', '\\', ':']);
    let joined = PathBuf::from(path);
    // The second look is the operating system's own.
    if path.split('/').all(plain) && joined.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(joined);
    }
    Err(FetchError::Name {
        what: "path of a file in a repository".to_owned(),
        expected: "a relative path without `..`, backslash, colon or NUL",
        found: path.to_owned(),
        action: "it is not used",
    })
}

/// Folder of a repository in the cache.
pub(super) fn folder(hub: &Hub, repository: &Repository) -> PathBuf {
    hub.cache.join(repository.folder())
}

/// Folder of the pinned state of a repository.
#[must_use]
pub fn snapshot(hub: &Hub, repository: &Repository) -> PathBuf {
    folder(hub, repository).join("snapshots").join(repository.revision())
}

/// The content of a file, under its digest.
pub(super) fn blob(hub: &Hub, repository: &Repository, digest: &str) -> PathBuf {
    folder(hub, repository).join("blobs").join(digest)
}

/// Where it is noted which content was checked.
pub(super) fn notes(hub: &Hub, repository: &Repository) -> PathBuf {
    folder(hub, repository).join(".difflab-checked")
}

/// The digest that a snapshot's file claims: the name of the blob that it links to.
pub(super) fn claimed(name: &Path) -> Option<Digest> {
    let target = std::fs::read_link(name).ok()?;
    Digest::from_hex(target.file_name()?.to_str()?)
}

/// Makes the snapshot's name for a blob: a relative link, as the Hub's own client makes it, or a hard link or copy where the
/// file system has no links. Who reads the name meanwhile finds what it was, or what it is.
pub(super) fn link(blob: &Path, name: &Path, depth: usize) -> std::io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let beside = name.with_file_name(format!(".{}-{count}.link", std::process::id()));
    let linked = make_link(blob, &beside, depth).and_then(|()| std::fs::rename(&beside, name));
    // Nothing is left of it after the rename, but where both were hard links to one file.
    let _ = std::fs::remove_file(&beside);
    linked
}

fn make_link(blob: &Path, name: &Path, depth: usize) -> std::io::Result<()> {
    #[cfg(unix)]
    {
        let up: PathBuf = std::iter::repeat_n("..", depth + 2).collect();
        let target = up.join("blobs").join(blob.file_name().unwrap_or_default());
        if std::os::unix::fs::symlink(target, name).is_ok() {
            return Ok(());
        }
    }
    let _ = depth;
    std::fs::hard_link(blob, name).or_else(|_| std::fs::copy(blob, name).map(|_| ()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn paths_that_leave_the_folder_are_refused() {
        for path in
            ["", "/etc/passwd", "../x", "a/../../x", "a/./b", "a//b", "a\\b", "C:x", "a\0b", "..", "a/.."]
        {
            let refused = path_in_cache(path).unwrap_err().to_string();
            assert!(refused.contains(&format!("{path:?}")), "{refused}");
        }
        let kept = path_in_cache("plain_text/train-0.parquet").unwrap();
        assert_eq!(kept, PathBuf::from("plain_text/train-0.parquet"));
    }
}
