//! CIFAR-10 and CIFAR-100 (Krizhevsky, "Learning multiple layers of features from tiny images", 2009) as they are published:
//! the official binary files, and the Hub's parquet files with one encoded picture per row.
//!
//! The layouts hold the same pictures in different orders, and the binary one has no file names. So that a seed picks the
//! same subset from either, pictures are ordered by the SHA-256 of their pixels: a fixed order that looks random, so that a
//! prefix is also a fair sample.

mod binary;
mod find;
mod order;
mod parquet;
mod picture;

use std::path::{Path, PathBuf};

pub(crate) use find::{Copy, Format, find};

use super::{ImageSet, PICTURE_BYTES, SIDE, Split};
use crate::DataError;

/// What is fixed about a member of the CIFAR family.
#[derive(Clone, Debug)]
pub(crate) struct Kind {
    /// `cifar10` or `cifar100`.
    pub(crate) name: &'static str,
    /// Folder of the official binary files.
    pub(crate) binary_folder: &'static str,
    /// Files of each split in that folder.
    pub(crate) binary_files: [&'static [&'static str]; 2],
    /// Classes of each label byte of a binary record; the last is the label that is used.
    pub(crate) label_bytes: &'static [u16],
    /// Folder of the Hub's parquet files.
    pub(crate) parquet_folder: &'static str,
    /// Column of the label that is used.
    pub(crate) label_column: &'static str,
    /// Pictures of each class, per split.
    pub(crate) per_class: [usize; 2],
}

impl Kind {
    /// CIFAR-10.
    pub(crate) const TEN: Self = Self {
        name: "cifar10",
        binary_folder: "cifar-10-batches-bin",
        binary_files: [
            &[
                "data_batch_1.bin",
                "data_batch_2.bin",
                "data_batch_3.bin",
                "data_batch_4.bin",
                "data_batch_5.bin",
            ],
            &["test_batch.bin"],
        ],
        label_bytes: &[10],
        parquet_folder: "plain_text",
        label_column: "label",
        per_class: [5_000, 1_000],
    };
    /// CIFAR-100, with its fine labels.
    pub(crate) const HUNDRED: Self = Self {
        name: "cifar100",
        binary_folder: "cifar-100-binary",
        binary_files: [&["train.bin"], &["test.bin"]],
        label_bytes: &[20, 100],
        parquet_folder: "cifar100",
        label_column: "fine_label",
        per_class: [500, 100],
    };

    /// The kind of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::TEN, Self::HUNDRED].into_iter().find(|kind| kind.name == name)
    }

    /// Number of classes.
    pub(crate) fn classes(&self) -> u16 {
        self.label_bytes.last().copied().unwrap_or_default()
    }

    /// Pictures of a split.
    pub(crate) fn pictures(&self, split: Split) -> usize {
        self.per_class(split) * usize::from(self.classes())
    }

    fn per_class(&self, split: Split) -> usize {
        self.per_class[index(split)]
    }

    fn binary_files(&self, split: Split) -> &'static [&'static str] {
        self.binary_files[index(split)]
    }
}

fn index(split: Split) -> usize {
    match split {
        Split::Train => 0,
        Split::Test => 1,
    }
}

/// Pictures of one split as read, in the file's order: `(N, 3, 32, 32)` bytes and N labels.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Rows {
    pixels: Vec<u8>,
    labels: Vec<u16>,
}

impl Rows {
    fn append(&mut self, mut other: Self) {
        self.pixels.append(&mut other.pixels);
        self.labels.append(&mut other.labels);
    }
}

/// Reads one split of a copy, checks it, and puts it in canonical order.
pub(crate) fn read(kind: &Kind, copy: &Copy, split: Split, names: &[String]) -> Result<ImageSet, DataError> {
    let files = copy.files(split);
    let mut rows = Rows::default();
    for path in files {
        rows.append(match copy.format {
            Format::Binary => binary::read(kind, path, kind.pictures(split) / files.len().max(1))?,
            Format::Parquet => parquet::read(kind, path, kind.pictures(split))?,
        });
    }
    check_counts(kind, split, files, &rows)?;
    let (pixels, labels) = order::canonical(&rows.pixels, &rows.labels);
    Ok(ImageSet { pixels, labels, side: SIDE, classes: usize::from(kind.classes()), names: names.to_vec() })
}

/// Every class has the published number of pictures.
fn check_counts(kind: &Kind, split: Split, files: &[PathBuf], rows: &Rows) -> Result<(), DataError> {
    let place = files.first().map_or_else(PathBuf::new, |path| folder_of(path, files.len()));
    let broken = |rule: String, expected: usize, found: usize| {
        Err(DataError::broken(&place, rule, expected, found, FETCH_AGAIN))
    };
    if rows.labels.len() != kind.pictures(split) {
        return broken(
            format!("pictures in the {} split", split.name()),
            kind.pictures(split),
            rows.labels.len(),
        );
    }
    for class in 0..kind.classes() {
        let found = rows.labels.iter().filter(|&&label| label == class).count();
        if found != kind.per_class(split) {
            let rule = format!("pictures of class {class} in the {} split", split.name());
            return broken(rule, kind.per_class(split), found);
        }
    }
    Ok(())
}

/// One file is named itself; of several, their folder.
fn folder_of(path: &Path, files: usize) -> PathBuf {
    match path.parent() {
        Some(folder) if files > 1 => folder.to_owned(),
        _ => path.to_owned(),
    }
}

/// What to do about a file that is not what was published.
pub(crate) const FETCH_AGAIN: &str =
    "the file is not the published one: remove it and get it again (`cargo xtask datasets fetch`)";

#[cfg(test)]
mod tests;
