//! The Hub's parquet layout: one row per picture, columns `img: struct<bytes, path>` and an integer label.
//!
//! Read column by column with the `parquet` crate alone. Rows come out in the file's order.

use std::fs::File;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use ::parquet::basic::Type;
use ::parquet::column::reader::{ColumnReader, get_typed_column_reader};
use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use rayon::prelude::*;

use super::{FETCH_AGAIN, Kind, PICTURE_BYTES, Rows, picture};
use crate::DataError;

/// Column of the encoded pictures.
const PICTURES: &str = "img.bytes";
/// Most bytes a row group may unpack to: ten times what 50,000 uncompressed pictures take.
const GROUP_BYTES: i64 = 1_600_000_000;

/// Reads a file that holds a whole split or a part of it, at most `most` rows.
///
/// # Errors
/// On a file that is no parquet or is cut short, a missing or mistyped column, a row without a value, too many rows, a label
/// out of range, or a picture that is not 32×32 RGB.
pub(super) fn read(kind: &Kind, path: &Path, most: usize) -> Result<Rows, DataError> {
    let source = Source { kind, path };
    // The `parquet` crate panics on some damaged files where it should return an error. Nothing it has touched is used after.
    catch_unwind(AssertUnwindSafe(|| source.read(most))).unwrap_or_else(|_| {
        let found = "bytes that the parquet reader stumbles over".to_owned();
        Err(source.broken("file format", "a whole parquet file".to_owned(), found, FETCH_AGAIN))
    })
}

/// Where the two columns lie.
#[derive(Clone, Copy)]
struct Columns {
    pictures: usize,
    labels: usize,
}

struct Source<'a> {
    kind: &'a Kind,
    path: &'a Path,
}

impl Source<'_> {
    fn read(&self, most: usize) -> Result<Rows, DataError> {
        let reader = self.open()?;
        let columns = self.columns(&reader)?;
        self.check_size(&reader, most)?;
        let groups: Result<Vec<Rows>, DataError> = (0..reader.num_row_groups())
            .into_par_iter()
            // Each group opens the file anew: a shared file position would be moved by all.
            .map(|group| self.group(&self.open()?, group, columns))
            .collect();
        let mut rows = Rows::default();
        groups?.into_iter().for_each(|group| rows.append(group));
        Ok(rows)
    }

    fn open(&self) -> Result<SerializedFileReader<File>, DataError> {
        let file = File::open(self.path).map_err(|source| DataError::io(self.path, "open it", source))?;
        SerializedFileReader::new(file).map_err(|error| self.unreadable(&error))
    }

    fn columns(&self, reader: &SerializedFileReader<File>) -> Result<Columns, DataError> {
        Ok(Columns {
            pictures: self.column(reader, PICTURES, Type::BYTE_ARRAY)?,
            labels: self.column(reader, self.kind.label_column, Type::INT64)?,
        })
    }

    /// Index of a flat column of the given physical type.
    fn column(
        &self,
        reader: &SerializedFileReader<File>,
        name: &str,
        kind: Type,
    ) -> Result<usize, DataError> {
        let schema = reader.metadata().file_metadata().schema_descr();
        let Some(index) = schema.columns().iter().position(|column| column.path().string() == name) else {
            let known: Vec<String> = schema.columns().iter().map(|column| column.path().string()).collect();
            let action = format!("is this {}? Give the folder of the right data set", self.kind.name);
            return Err(self.broken("columns", format!("`{name}`"), known.join(", "), action));
        };
        let column = schema.column(index);
        if column.physical_type() != kind || column.max_rep_level() != 0 {
            let found = format!("{} repeated {} times", column.physical_type(), column.max_rep_level());
            return Err(self.broken(
                format!("type of column `{name}`"),
                kind.to_string(),
                found,
                FETCH_AGAIN,
            ));
        }
        Ok(index)
    }

    /// Refuses a file that claims more than the split has, before anything is unpacked.
    fn check_size(&self, reader: &SerializedFileReader<File>, most: usize) -> Result<(), DataError> {
        let rows = reader.metadata().file_metadata().num_rows();
        if !usize::try_from(rows).is_ok_and(|rows| rows <= most) {
            return Err(self.broken("rows", format!("at most {most}"), rows.to_string(), FETCH_AGAIN));
        }
        let total: i64 =
            reader.metadata().row_groups().iter().map(|group| group.total_byte_size()).max().unwrap_or(0);
        if total > GROUP_BYTES {
            let expected = format!("at most {GROUP_BYTES} bytes");
            return Err(self.broken("size of a row group", expected, total.to_string(), FETCH_AGAIN));
        }
        Ok(())
    }

    fn group(
        &self,
        reader: &SerializedFileReader<File>,
        group: usize,
        columns: Columns,
    ) -> Result<Rows, DataError> {
        let unreadable = |error: ParquetError| self.unreadable(&error);
        let rows = reader.metadata().row_group(group).num_rows().max(0) as usize;
        let group_reader = reader.get_row_group(group).map_err(unreadable)?;
        let labels = group_reader.get_column_reader(columns.labels).map_err(unreadable)?;
        let labels = self.values::<Int64Type>(labels, rows, group, self.kind.label_column)?;
        let pictures = group_reader.get_column_reader(columns.pictures).map_err(unreadable)?;
        let pictures: Vec<ByteArray> = self.values::<ByteArrayType>(pictures, rows, group, PICTURES)?;
        let labels = labels.iter().enumerate().map(|(row, &label)| self.label(group, row, label));
        Ok(Rows { labels: labels.collect::<Result<_, _>>()?, pixels: self.decode(&pictures, group)? })
    }

    /// All values of a column in a row group, of which none may be missing.
    fn values<T: ::parquet::data_type::DataType>(
        &self,
        reader: ColumnReader,
        rows: usize,
        group: usize,
        name: &str,
    ) -> Result<Vec<T::T>, DataError> {
        let (mut values, mut levels) = (Vec::new(), Vec::new());
        let mut reader = get_typed_column_reader::<T>(reader);
        reader
            .read_records(rows, Some(&mut levels), None, &mut values)
            .map_err(|error| self.unreadable(&error))?;
        if values.len() == rows {
            return Ok(values);
        }
        let rule = format!("values of `{name}` in row group {group}");
        Err(self.broken(rule, rows.to_string(), values.len().to_string(), FETCH_AGAIN))
    }

    fn label(&self, group: usize, row: usize, label: i64) -> Result<u16, DataError> {
        let classes = self.kind.classes();
        u16::try_from(label).ok().filter(|&label| label < classes).ok_or_else(|| {
            let rule = format!("`{}` of row {row} in row group {group}", self.kind.label_column);
            self.broken(rule, format!("0 to {}", classes - 1), label.to_string(), FETCH_AGAIN)
        })
    }

    fn decode(&self, pictures: &[ByteArray], group: usize) -> Result<Vec<u8>, DataError> {
        let decoded: Result<Vec<[u8; PICTURE_BYTES]>, DataError> = pictures
            .par_iter()
            .enumerate()
            .map(|(row, bytes)| {
                picture::decode(bytes.data()).map_err(|(expected, found)| {
                    let rule = format!("picture of row {row} in row group {group}");
                    self.broken(rule, expected, found, FETCH_AGAIN)
                })
            })
            .collect();
        Ok(decoded?.into_flattened())
    }

    fn broken(
        &self,
        rule: impl Into<String>,
        expected: String,
        found: String,
        action: impl Into<String>,
    ) -> DataError {
        DataError::broken(self.path, rule, expected, found, action)
    }

    fn unreadable(&self, error: &ParquetError) -> DataError {
        let expected = "a whole parquet file".to_owned();
        self.broken("file format", expected, error.to_string(), FETCH_AGAIN)
    }
}
