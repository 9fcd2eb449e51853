//! Whole files or none: a file appears under its final name only when it is complete and on the disk.
//!
//! Temporary file in the same folder, write, flush, fsync, rename, fsync of the folder. A crash at any step leaves the old
//! file or the new one, never a part; at worst a `.name.….tmp` file stays behind, which no reader looks at.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::faults;

/// A file could not be written. Nothing under its final name was changed.
#[derive(Debug, thiserror::Error)]
#[error("{path}: cannot {doing}: {source}\n  help: {help}", path = path.display(), help = advice(source))]
pub struct AtomicError {
    /// The file or folder.
    pub path: PathBuf,
    /// The step that failed, such as `write to the temporary file`.
    pub doing: &'static str,
    /// What the system said.
    pub source: io::Error,
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            "free some space or give another folder with --out; finished trials are kept, so run the same command again"
        }
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            "give a folder that can be written with --out"
        }
        io::ErrorKind::NotADirectory => "a part of this path is a file; give another folder with --out",
        _ => "check the disk, then run the same command again; finished trials are kept",
    }
}

/// Writes the file `path` with what `fill` writes, whole or not at all.
///
/// Its permissions are those of any newly created file (`0666` less the umask).
///
/// # Errors
/// Names the path and the step; `path` is then as it was before.
pub fn write(
    path: impl AsRef<Path>,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), AtomicError> {
    let path = path.as_ref();
    let temporary = temporary_name(path);
    let written = write_steps(path, &temporary, fill);
    if written.is_err() {
        // Nothing more can be done where this fails too; the name says what the file is.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// Writes `bytes` as the file `path`, whole or not at all.
///
/// # Errors
/// As [`write()`].
pub fn write_bytes(path: impl AsRef<Path>, bytes: &[u8]) -> Result<(), AtomicError> {
    write(path, |file| file.write_all(bytes))
}

/// Creates a folder and those above it, and makes sure that they survive a crash.
///
/// # Errors
/// Names the folder that could not be made.
pub fn create_dir_all_synced(path: impl AsRef<Path>) -> Result<(), AtomicError> {
    let path = path.as_ref();
    if path.is_dir() {
        return Ok(());
    }
    let parent = parent_of(path);
    if parent != path {
        create_dir_all_synced(parent)?;
    }
    let failed = |doing| move |source| AtomicError { path: path.to_owned(), doing, source };
    match fs::create_dir(path) {
        // Another process may have been faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(failed("create the folder")(io::ErrorKind::NotADirectory.into()));
        }
        made => made.map_err(failed("create the folder"))?,
    }
    sync_folder(parent).map_err(failed("make the folder durable"))
}

fn write_steps(
    path: &Path,
    temporary: &Path,
    fill: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<(), AtomicError> {
    let failed = |doing| move |source| AtomicError { path: path.to_owned(), doing, source };
    let file = faults::step()
        .and_then(|()| File::create_new(temporary))
        .map_err(failed("create a temporary file"))?;
    let mut buffer = BufWriter::new(faults::Counted(file));
    fill(&mut buffer).map_err(failed("write"))?;
    let file = buffer.into_inner().map_err(|error| failed("write")(error.into_error()))?;
    faults::step().and_then(|()| file.0.sync_all()).map_err(failed("flush to the disk"))?;
    drop(file);
    faults::step().and_then(|()| fs::rename(temporary, path)).map_err(failed("move into place"))?;
    // From here on the file is whole under its name; only its surviving a power cut is in question.
    faults::step().and_then(|()| sync_folder(parent_of(path))).map_err(failed("make the file durable"))
}

/// Removes what an interrupted [`write`] may have left in `folder`.
pub(crate) fn remove_leftovers(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if name.starts_with('.') && name.ends_with(".tmp") {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// `.name.<pid>-<count>.tmp` beside `path`: unique among the writers of one machine.
fn temporary_name(path: &Path) -> PathBuf {
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{pid}-{count}.tmp", pid = std::process::id()))
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => path,
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
