//! The official binary files: records of one label byte (CIFAR-10) or two (CIFAR-100: coarse, fine) and 3,072 pixel bytes,
//! red, green and blue planes in turn, row by row.

use std::io::Read;
use std::path::Path;

use super::{FETCH_AGAIN, Kind, PICTURE_BYTES, Rows};
use crate::DataError;

/// Reads a file of exactly `pictures` records.
///
/// # Errors
/// On a wrong length, or a label out of its range.
pub(super) fn read(kind: &Kind, path: &Path, pictures: usize) -> Result<Rows, DataError> {
    let expected = pictures * record_bytes(kind);
    let file = std::fs::File::open(path).map_err(|source| DataError::io(path, "open it", source))?;
    let length = file.metadata().map_err(|source| DataError::io(path, "read its length", source))?.len();
    let wrong_length = |found: u64| {
        let rule = format!("length of {pictures} records of {} bytes", record_bytes(kind));
        DataError::broken(path, rule, format!("{expected} bytes"), format!("{found} bytes"), FETCH_AGAIN)
    };
    if length != expected as u64 {
        return Err(wrong_length(length));
    }
    let mut bytes = Vec::with_capacity(expected);
    // One byte more than there should be: a file that grows meanwhile is noticed and never fills the memory.
    let limited = file.take(expected as u64 + 1).read_to_end(&mut bytes);
    limited.map_err(|source| DataError::io(path, "read it", source))?;
    if bytes.len() != expected {
        return Err(wrong_length(bytes.len() as u64));
    }
    parse(kind, path, &bytes)
}

/// Bytes of one record.
fn record_bytes(kind: &Kind) -> usize {
    kind.label_bytes.len() + PICTURE_BYTES
}

/// Splits whole records into labels and pixels; `path` is only named in errors.
fn parse(kind: &Kind, path: &Path, bytes: &[u8]) -> Result<Rows, DataError> {
    let mut rows = Rows::default();
    for (row, record) in bytes.chunks(record_bytes(kind)).enumerate() {
        if record.len() != record_bytes(kind) {
            let rule = format!("length of record {row}");
            return Err(DataError::broken(path, rule, record_bytes(kind), record.len(), FETCH_AGAIN));
        }
        let (labels, picture) = record.split_at(kind.label_bytes.len());
        for (&label, &classes) in labels.iter().zip(kind.label_bytes) {
            if u16::from(label) >= classes {
                let rule = format!("label of record {row}");
                let expected = format!("0 to {}", classes - 1);
                return Err(DataError::broken(path, rule, expected, label, FETCH_AGAIN));
            }
        }
        rows.labels.extend(labels.last().map(|&label| u16::from(label)));
        rows.pixels.extend_from_slice(picture);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever the bytes: an error, or rows that belong together.
        #[test]
        fn any_bytes_give_rows_or_an_error(
            tail in proptest::collection::vec(any::<u8>(), 0..64),
            records in 0usize..4,
            labels in proptest::collection::vec(any::<u8>(), 8),
            hundred in any::<bool>(),
        ) {
            let kind = if hundred { Kind::HUNDRED } else { Kind::TEN };
            let mut bytes = Vec::new();
            for record in 0..records {
                bytes.extend_from_slice(&labels[2 * record..2 * record + kind.label_bytes.len()]);
                bytes.extend(std::iter::repeat_n(record as u8, PICTURE_BYTES));
            }
            bytes.extend_from_slice(&tail);
            let valid = tail.is_empty() && bytes.chunks(record_bytes(&kind)).all(|record| {
                record.iter().zip(kind.label_bytes).all(|(&label, &classes)| u16::from(label) < classes)
            });
            match parse(&kind, Path::new("x.bin"), &bytes) {
                Ok(rows) => {
                    prop_assert!(valid);
                    prop_assert_eq!(rows.labels.len(), records);
                    prop_assert_eq!(rows.pixels.len(), records * PICTURE_BYTES);
                    prop_assert!(rows.labels.iter().all(|&label| label < kind.classes()));
                }
                Err(error) => {
                    prop_assert!(!valid, "{}", error);
                    prop_assert!(error.to_string().contains("x.bin"));
                }
            }
        }
    }
}
