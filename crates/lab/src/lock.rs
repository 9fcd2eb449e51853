//! One writer per output folder. Shards share the folder with one another, but not with an unsharded run.
//!
//! The lock is the system's, on `<out>/.lock`, and ends with the process, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::atomic::AtomicError;
use crate::error::RunError;
use crate::executor::Shard;

/// The right to write into a folder; given back when dropped.
pub(crate) struct FolderLock {
    _held: Vec<File>,
}

impl FolderLock {
    /// Takes the folder for one run: wholly, or with the other shards of `shard`.
    pub(crate) fn take(out: &Path, shard: Option<Shard>) -> Result<FolderLock, RunError> {
        let Some(shard) = shard else {
            return Ok(FolderLock { _held: vec![exclusive(&out.join(".lock"), out)?] });
        };
        let all = open(&out.join(".lock"))?;
        patiently(&all, File::try_lock_shared)
            .map_err(|error| refused(error, &out.join(".lock"), out, all.try_clone()))?;
        let name = format!(".lock-shard-{}-of-{}", shard.index, shard.count);
        let own = exclusive(&out.join(name), out)?;
        Ok(FolderLock { _held: vec![all, own] })
    }

    /// Waits until this process alone may collect and present, among shards that end at the same time.
    pub(crate) fn to_present(out: &Path) -> Result<FolderLock, RunError> {
        let path = out.join(".lock-present");
        let file = open(&path)?;
        file.lock().map_err(|error| cannot(&path, error))?;
        Ok(FolderLock { _held: vec![file] })
    }
}

fn exclusive(path: &Path, out: &Path) -> Result<File, RunError> {
    let mut file = open(path)?;
    patiently(&file, File::try_lock).map_err(|error| refused(error, path, out, file.try_clone()))?;
    let pid = std::process::id().to_string();
    file.set_len(0).and_then(|()| file.write_all(pid.as_bytes())).map_err(|error| cannot(path, error))?;
    Ok(file)
}

/// Tries for two seconds: a killed run leaves its lock with a child that it was just starting, until that child runs its
/// own program.
fn patiently(file: &File, lock: fn(&File) -> Result<(), TryLockError>) -> Result<(), TryLockError> {
    for _ in 0..40 {
        match lock(file) {
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
            ended => return ended,
        }
    }
    lock(file)
}

fn refused(error: TryLockError, path: &Path, out: &Path, file: std::io::Result<File>) -> RunError {
    match error {
        TryLockError::WouldBlock => busy(out, file),
        TryLockError::Error(error) => cannot(path, error),
    }
}

fn open(path: &Path) -> Result<File, RunError> {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| cannot(path, error))
}

fn cannot(path: &Path, source: std::io::Error) -> RunError {
    RunError::Setup(AtomicError { path: path.to_owned(), doing: "lock the output folder", source })
}

fn busy(out: &Path, file: std::io::Result<File>) -> RunError {
    let mut text = String::new();
    let read = file.and_then(|mut file| file.rewind().and_then(|()| file.read_to_string(&mut text)));
    let holder = read.ok().and_then(|_| text.trim().parse::<u32>().ok());
    let holder = holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"));
    RunError::Busy { out: PathBuf::from(out), holder }
}
