//! The Hub's cache: `datasets--OWNER--NAME/{blobs/DIGEST, snapshots/REVISION/PATH → blob}`.

use std::path::{Component, Path, PathBuf};

use super::{Hub, Manifest, ManifestFile};

/// Turns a repository's path into one that may be joined to a folder.
///
/// # Errors
/// On an empty or absolute path, on `..` or `.`, on a backslash, colon or NUL: the path itself, and why.
pub fn path_in_cache(path: &str) -> Result<PathBuf, String> {
    let refuse = |why: &str| Err(format!("path {path:?} of a repository {why}; it is not used"));
    if path.is_empty() {
        return refuse("is empty");
    }
    if path.contains(['\0', '\\', ':']) {
        return refuse("holds a NUL, a backslash or a colon");
    }
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return refuse("is absolute or climbs out of its folder");
    }
    let joined = PathBuf::from(path);
    match joined.components().all(|part| matches!(part, Component::Normal(_))) {
        true => Ok(joined),
        false => refuse("is not a plain relative path"),
    }
}

/// Folder of a repository in the cache.
pub(super) fn repository(hub: &Hub, manifest: &Manifest) -> PathBuf {
    hub.cache.join(format!("datasets--{}", manifest.hub.repository.replace('/', "--")))
}

/// Folder of the pinned state of a repository.
pub(crate) fn snapshot(hub: &Hub, manifest: &Manifest) -> PathBuf {
    repository(hub, manifest).join("snapshots").join(&manifest.hub.revision)
}

/// The content of a file, under its digest.
pub(super) fn blob(hub: &Hub, manifest: &Manifest, file: &ManifestFile) -> PathBuf {
    repository(hub, manifest).join("blobs").join(&file.sha256)
}

/// Makes the snapshot's name for a blob: a relative link, as the Hub's own client makes it, or a hard link or copy where the
/// file system has no links.
pub(super) fn link(blob: &Path, name: &Path, depth: usize) -> std::io::Result<()> {
    if std::fs::symlink_metadata(name).is_ok() {
        std::fs::remove_file(name)?;
    }
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
            let refused = path_in_cache(path).unwrap_err();
            assert!(refused.contains(&format!("{path:?}")), "{refused}");
        }
        assert_eq!(
            path_in_cache("plain_text/train-0.parquet"),
            Ok(PathBuf::from("plain_text/train-0.parquet"))
        );
    }
}
