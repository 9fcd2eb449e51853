//! Where a copy of CIFAR lies below a folder, and in which layout.

use std::path::{Path, PathBuf};

use super::{Kind, Split, index};
use crate::DataError;

/// The layout of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// The official binary files.
    Binary,
    /// The Hub's parquet files.
    Parquet,
}

/// A copy that was found: its files, not yet read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Copy {
    /// Its layout.
    pub(crate) format: Format,
    /// Files of the training and of the test split, in order.
    files: [Vec<PathBuf>; 2],
}

impl Copy {
    /// Files of a split.
    pub(crate) fn files(&self, split: Split) -> &[PathBuf] {
        &self.files[index(split)]
    }

    /// All files.
    pub(crate) fn all(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.iter().flatten()
    }
}

/// Looks for a copy below the given folders; the first wins, and in it the official layout.
///
/// # Errors
/// Where there is none, or only a part of one.
pub(crate) fn find(kind: &Kind, folders: &[PathBuf]) -> Result<Copy, DataError> {
    for folder in folders {
        for base in [folder.join(kind.name), folder.clone()] {
            if let Some(copy) = binary(kind, &base)? {
                return Ok(copy);
            }
            if let Some(copy) = parquet(kind, &base)? {
                return Ok(copy);
            }
        }
    }
    let looked: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
    Err(DataError::Absent { name: kind.name.to_owned(), looked: looked.join(" and "), layout: layout(kind) })
}

/// The folder layouts that are understood, in words.
fn layout(kind: &Kind) -> String {
    let Kind { name, binary_folder, parquet_folder, .. } = kind;
    let [train, test] = kind.binary_files;
    format!(
        "{binary_folder}/{{{},{}}} (the official binary files) or {name}/{parquet_folder}/{{train,test}}*.parquet \
         (the Hub's)",
        train.join(","),
        test.join(",")
    )
}

fn binary(kind: &Kind, base: &Path) -> Result<Option<Copy>, DataError> {
    let folder = base.join(kind.binary_folder);
    if !folder.is_dir() {
        return Ok(None);
    }
    let paths = |split| kind.binary_files(split).iter().map(|file| folder.join(file)).collect::<Vec<_>>();
    let files = [paths(Split::Train), paths(Split::Test)];
    match files.iter().flatten().find(|path| !path.is_file()) {
        Some(missing) => Err(incomplete(missing)),
        None => Ok(Some(Copy { format: Format::Binary, files })),
    }
}

fn parquet(kind: &Kind, base: &Path) -> Result<Option<Copy>, DataError> {
    for folder in [base.join(kind.parquet_folder), base.to_owned()] {
        let files = [parquet_files(&folder, Split::Train)?, parquet_files(&folder, Split::Test)?];
        match [files[0].is_empty(), files[1].is_empty()] {
            [true, true] => {}
            [false, false] => return Ok(Some(Copy { format: Format::Parquet, files })),
            [train, _] => {
                let split = if train { Split::Train } else { Split::Test };
                return Err(incomplete(&folder.join(format!("{}*.parquet", split.name()))));
            }
        }
    }
    Ok(None)
}

/// Files `train*.parquet` and `train/*.parquet` of a folder, by name; none where there is no such folder.
fn parquet_files(folder: &Path, split: Split) -> Result<Vec<PathBuf>, DataError> {
    let mut files = entries(folder, split.name())?;
    files.extend(entries(&folder.join(split.name()), "")?);
    files.sort();
    Ok(files)
}

fn entries(folder: &Path, prefix: &str) -> Result<Vec<PathBuf>, DataError> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let failed = |source| DataError::io(folder, "list it", source);
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(prefix) && name.ends_with(".parquet") && path.is_file() {
            files.push(path);
        }
    }
    Ok(files)
}

fn incomplete(missing: &Path) -> DataError {
    let found = "no such file".to_owned();
    DataError::broken(
        missing,
        "completeness of the data set",
        "this file beside the others",
        found,
        super::FETCH_AGAIN,
    )
}
