//! `rows.parquet`: every raw measurement of a run in one file that any parquet reader opens.
//!
//! One column a field of [`Row`] (`trial`, `study`, `arm`, `case`, `seed`, `metric`, `at`, `value`) and one nullable text
//! column a tag, named `tag_<name>`, in alphabetic order. `at` is null where a metric has no coordinate. The file's
//! key-value metadata holds [`FORMAT_KEY`] = [`FORMAT`]; a file without it is not read. Equal rows give equal bytes: nothing
//! of the clock, the machine or the version of a library is written.

mod read;
#[cfg(test)]
mod tests;
mod write;

use std::path::{Path, PathBuf};

use crate::row::Row;

/// Key of the format's version in the file's metadata.
pub const FORMAT_KEY: &str = "difflab.rows";
/// The version written and read.
pub const FORMAT: &str = "1";

/// Prefix of the columns that hold tags.
const TAG: &str = "tag_";

/// Why a rows file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// The file could not be read from the disk.
    #[error("{path}: cannot read the rows file: {source}; run the experiment to write it")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file could not be put in its place.
    #[error(transparent)]
    Write(#[from] crate::atomic::AtomicError),
    /// The rows could not be encoded.
    #[error("{path}: cannot encode the rows: {reason}")]
    Encode {
        /// The file.
        path: PathBuf,
        /// The encoder's reason.
        reason: String,
    },
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
    let encode = |error: parquet::errors::ParquetError| RowsError::Encode {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let bytes = write::encode(rows).map_err(encode)?;
    Ok(crate::atomic::write_bytes(path, &bytes)?)
}

/// Reads the rows of `path` in the order in which they were written.
///
/// # Errors
/// Where the file is absent, truncated, or not a rows file; the message names file, expected and found.
pub fn read(path: &Path) -> Result<Vec<Row>, RowsError> {
    let file =
        std::fs::File::open(path).map_err(|source| RowsError::Read { path: path.to_owned(), source })?;
    read::decode(file).map_err(|mismatch| RowsError::Content {
        path: path.to_owned(),
        expected: mismatch.expected,
        found: mismatch.found,
    })
}
