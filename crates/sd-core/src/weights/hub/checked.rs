//! What was checked once is not read whole each time: a note beside the cache's blobs says which content was found right.
//!
//! The note holds the file's length and time of change; where either differs, the file is read again.

use std::path::Path;
use std::time::UNIX_EPOCH;

use super::{Digest, FetchError};

/// Checks that `file` has the digest, by the note in `notes` or by reading it.
pub(super) fn once(notes: &Path, file: &Path, digest: &Digest) -> Result<(), FetchError> {
    let note = notes.join(digest.hex());
    let state = state(file);
    if state.is_some() && std::fs::read_to_string(&note).ok() == state {
        return Ok(());
    }
    always(notes, file, digest)
}

/// Checks that `file` has the digest by reading it, and notes it.
pub(super) fn always(notes: &Path, file: &Path, digest: &Digest) -> Result<(), FetchError> {
    // The state from before: a change while it is read makes the note void.
    let state = state(file);
    let found = digest.of_file_like(file)?;
    if found != *digest {
        let (expected, found) = (digest.to_string(), found.to_string());
        return Err(FetchError::Damaged { path: file.to_owned(), expected, found });
    }
    write(notes, digest, state);
    Ok(())
}

/// Notes that `file`, which nobody else has yet, was found to have the digest.
pub(super) fn note(notes: &Path, file: &Path, digest: &Digest) {
    write(notes, digest, state(file));
}

fn write(notes: &Path, digest: &Digest, state: Option<String>) {
    let Some(state) = state else { return };
    // A cache that cannot be written is read again next time; so is one with half a note.
    let noted = std::fs::create_dir_all(notes).and_then(|()| std::fs::write(notes.join(digest.hex()), state));
    drop(noted);
}

fn state(file: &Path) -> Option<String> {
    let about = std::fs::metadata(file).ok()?;
    let changed = about.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(format!("{} {}\n", about.len(), changed.as_nanos()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_note_holds_until_the_file_changes() {
        let folder = tempfile::tempdir().unwrap();
        let (notes, file) = (folder.path().join("notes"), folder.path().join("file"));
        std::fs::write(&file, "abc").unwrap();
        let digest = Digest::from_hex("f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f").unwrap();
        once(&notes, &file, &digest).unwrap();
        // Not read again: the same length and time are the same file.
        let time = std::fs::metadata(&file).unwrap().modified().unwrap();
        let rewrite = |text: &str, time| {
            std::fs::write(&file, text).unwrap();
            std::fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
        };
        rewrite("abd", time);
        once(&notes, &file, &digest).unwrap();
        assert!(matches!(always(&notes, &file, &digest), Err(FetchError::Damaged { .. })));
        rewrite("abd", time + std::time::Duration::from_secs(1));
        assert!(matches!(once(&notes, &file, &digest), Err(FetchError::Damaged { .. })));
        rewrite("abc", time + std::time::Duration::from_secs(2));
        once(&notes, &file, &digest).unwrap();
    }

    #[test]
    fn a_cache_that_cannot_be_written_is_read_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "abc").unwrap();
        let digest = Digest::from_hex("f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f").unwrap();
        once(&file.join("no folder"), &file, &digest).unwrap();
    }
}
