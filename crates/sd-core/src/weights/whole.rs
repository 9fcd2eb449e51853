//! Files that appear under their final name only when they are whole.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::{WeightsError, io};

/// Writes `path` through a file beside it, flushed to disk before it gets the name. Where `fill` fails, nothing is left and what
/// was there before stays.
pub(super) fn write(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<(), WeightsError>,
) -> Result<(), WeightsError> {
    let unfinished = Unfinished { path: beside(path) };
    let file = OpenOptions::new().write(true).create_new(true).open(&unfinished.path);
    let mut writer = BufWriter::with_capacity(1 << 20, io(path, "make it", file)?);
    fill(&mut writer)?;
    let written =
        writer.into_inner().map_err(std::io::IntoInnerError::into_error).and_then(|file| file.sync_all());
    io(path, "write it", written)?;
    io(path, "name it", fs::rename(&unfinished.path, path))?;
    io(path, "flush its folder to disk", sync_folder_of(path))
}

/// Writes bytes that are in memory.
pub(super) fn write_bytes(path: &Path, bytes: &[u8]) -> Result<(), WeightsError> {
    write(path, |file| io(path, "write it", file.write_all(bytes)))
}

/// A name in the same folder that no other writer has.
fn beside(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".{name}.{}-{count}.incomplete", std::process::id()))
}

/// The rename itself must survive a power cut.
#[cfg(unix)]
fn sync_folder_of(path: &Path) -> std::io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

#[cfg(not(unix))]
fn sync_folder_of(_path: &Path) -> std::io::Result<()> {
    Ok(())
}

/// Removed again where it did not get its final name.
struct Unfinished {
    path: PathBuf,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // After the rename there is nothing to remove.
        let _ = fs::remove_file(&self.path);
    }
}
