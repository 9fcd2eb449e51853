//! Parquet to rows. The file is not trusted: every column's name and type is checked before a value is read.

use std::collections::BTreeMap;
use std::fs::File;

use parquet::basic::Type as Physical;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};

use super::{FORMAT, FORMAT_KEY, TAG};
use crate::row::Row;

/// Records read at a time.
const CHUNK: usize = 8192;

/// What should have been there and what was.
#[derive(Debug)]
pub(super) struct Mismatch {
    pub(super) expected: String,
    pub(super) found: String,
}

type Result<T> = std::result::Result<T, Mismatch>;

fn mismatch(expected: impl Into<String>, found: impl Into<String>) -> Mismatch {
    Mismatch { expected: expected.into(), found: found.into() }
}

impl From<ParquetError> for Mismatch {
    fn from(error: ParquetError) -> Self {
        mismatch("a whole parquet file", format!("a file that breaks off or is something else ({error})"))
    }
}

/// The rows of a file.
pub(super) fn decode(file: File) -> Result<Vec<Row>> {
    // The parquet crate asserts on some damaged headers instead of returning an error; a damaged file must not end the run.
    let decoded = std::panic::catch_unwind(|| rows(file));
    decoded.unwrap_or_else(|_| Err(mismatch("a whole parquet file", "one with damaged headers")))
}

fn rows(file: File) -> Result<Vec<Row>> {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let reader = SerializedFileReader::new(file)?;
    check_format(reader.metadata())?;
    check_extents(reader.metadata(), length)?;
    let names = columns(reader.metadata())?;
    let mut rows = Vec::new();
    for index in 0..reader.num_row_groups() {
        rows.extend(group(&*reader.get_row_group(index)?, &names)?);
    }
    let declared = reader.metadata().file_metadata().num_rows();
    if usize::try_from(declared) != Ok(rows.len()) {
        return Err(mismatch(format!("{declared} rows"), format!("{} rows", rows.len())));
    }
    Ok(rows)
}

fn check_format(metadata: &ParquetMetaData) -> Result<()> {
    let pairs = metadata.file_metadata().key_value_metadata();
    let found = pairs.into_iter().flatten().find(|pair| pair.key == FORMAT_KEY);
    let expected = || format!("rows of a difflab run ({FORMAT_KEY} = {FORMAT})");
    match found.map(|pair| pair.value.as_deref().unwrap_or("nothing")) {
        Some(FORMAT) => Ok(()),
        Some(other) => Err(mismatch(expected(), format!("{FORMAT_KEY} = {other}"))),
        None => Err(mismatch(expected(), format!("a parquet file with the columns {}", listed(metadata)))),
    }
}

/// Every column chunk lies inside the file.
fn check_extents(metadata: &ParquetMetaData, length: u64) -> Result<()> {
    for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
        let start = column.dictionary_page_offset().unwrap_or_else(|| column.data_page_offset());
        let numbers = [start, column.data_page_offset(), column.compressed_size()];
        let end = start.checked_add(column.compressed_size()).and_then(|end| u64::try_from(end).ok());
        if numbers.iter().any(|number| *number < 0) || end.is_none_or(|end| end > length) {
            let name = column.column_path().string();
            let found = format!("the column `{name}` at {start}, {} bytes long", column.compressed_size());
            return Err(mismatch(format!("columns within the file's {length} bytes"), found));
        }
    }
    Ok(())
}

fn listed(metadata: &ParquetMetaData) -> String {
    let schema = metadata.file_metadata().schema_descr();
    let names: Vec<String> = schema.columns().iter().take(12).map(|column| column.path().string()).collect();
    names.join(", ")
}

/// The fields and their physical types.
const FIELDS: [(&str, Physical); 8] = [
    ("trial", Physical::BYTE_ARRAY),
    ("study", Physical::BYTE_ARRAY),
    ("arm", Physical::BYTE_ARRAY),
    ("case", Physical::BYTE_ARRAY),
    ("seed", Physical::INT64),
    ("metric", Physical::BYTE_ARRAY),
    ("at", Physical::DOUBLE),
    ("value", Physical::DOUBLE),
];

/// Names of the columns in the file's order, once every field was found with its type.
fn columns(metadata: &ParquetMetaData) -> Result<Vec<String>> {
    let schema = metadata.file_metadata().schema_descr();
    let mut names = Vec::new();
    for column in schema.columns() {
        let (name, found) = (column.path().string(), column.physical_type());
        let field = FIELDS.iter().find(|(field, _)| *field == name).map(|(_, physical)| *physical);
        let expected = field.or_else(|| name.starts_with(TAG).then_some(Physical::BYTE_ARRAY));
        let nullable = name == "at" || name.starts_with(TAG);
        let flat = column.max_rep_level() == 0 && column.max_def_level() == i16::from(nullable);
        match expected {
            Some(expected) if expected == found && flat => names.push(name),
            Some(expected) => {
                let what = format!("the column `{name}` as flat {expected}");
                return Err(mismatch(what, format!("{found} with levels of its own")));
            }
            None => return Err(mismatch("columns of a row and tags", format!("the column `{name}`"))),
        }
    }
    match FIELDS.iter().find(|(field, _)| !names.iter().any(|name| name == field)) {
        Some((field, _)) => {
            Err(mismatch(format!("the column `{field}`"), format!("only {}", names.join(", "))))
        }
        None => Ok(names),
    }
}

/// The decoded columns of a row group, by name.
#[derive(Default)]
struct Columns {
    text: BTreeMap<String, Vec<Option<String>>>,
    seed: Vec<Option<u64>>,
    real: BTreeMap<String, Vec<Option<f64>>>,
}

fn group(reader: &dyn RowGroupReader, names: &[String]) -> Result<Vec<Row>> {
    let mut columns = Columns::default();
    let expected = usize::try_from(reader.metadata().num_rows()).unwrap_or(0);
    for (index, name) in names.iter().enumerate() {
        let found = columns.fill(name, reader.get_column_reader(index)?)?;
        if found != expected {
            return Err(mismatch(format!("{expected} values in the column `{name}`"), format!("{found}")));
        }
    }
    (0..expected).map(|index| columns.row(index)).collect()
}

impl Columns {
    /// Decodes one column and returns its length.
    fn fill(&mut self, name: &str, reader: ColumnReader) -> Result<usize> {
        match reader {
            ColumnReader::ByteArrayColumnReader(reader) => {
                let decoded = values(reader)?.into_iter().map(|value| value.map(utf8).transpose());
                let decoded = decoded.collect::<Result<Vec<_>>>()?;
                let count = decoded.len();
                self.text.insert(name.to_owned(), decoded);
                Ok(count)
            }
            ColumnReader::Int64ColumnReader(reader) => {
                self.seed = values(reader)?.into_iter().map(|seed| seed.map(i64::cast_unsigned)).collect();
                Ok(self.seed.len())
            }
            ColumnReader::DoubleColumnReader(reader) => {
                let decoded = values(reader)?;
                let count = decoded.len();
                self.real.insert(name.to_owned(), decoded);
                Ok(count)
            }
            _ => Err(mismatch("text, whole and real columns", format!("another type in `{name}`"))),
        }
    }

    fn row(&self, index: usize) -> Result<Row> {
        Ok(Row {
            trial: self.required(index, "trial")?,
            study: self.required(index, "study")?,
            arm: self.required(index, "arm")?,
            case: self.required(index, "case")?,
            seed: self.seed.get(index).copied().flatten().ok_or_else(|| null("seed"))?,
            metric: self.required(index, "metric")?,
            at: self.number(index, "at"),
            value: self.number(index, "value").ok_or_else(|| null("value"))?,
            tags: self.tags(index),
        })
    }

    fn required(&self, index: usize, name: &str) -> Result<String> {
        let value = self.text.get(name).and_then(|column| column.get(index).cloned().flatten());
        value.ok_or_else(|| null(name))
    }

    fn number(&self, index: usize, name: &str) -> Option<f64> {
        self.real.get(name).and_then(|column| column.get(index).copied().flatten())
    }

    fn tags(&self, index: usize) -> BTreeMap<String, String> {
        let tags = self.text.iter().filter_map(|(name, column)| Some((name.strip_prefix(TAG)?, column)));
        tags.filter_map(|(tag, column)| Some((tag.to_owned(), column.get(index)?.clone()?))).collect()
    }
}

fn null(name: &str) -> Mismatch {
    mismatch(format!("a value in every row of `{name}`"), "null")
}

fn utf8(bytes: ByteArray) -> Result<String> {
    let text = bytes.as_utf8().map_err(|_| mismatch("text in UTF-8", "other bytes"))?;
    Ok(text.to_owned())
}

/// All values of a flat column; `None` where it is null.
fn values<T: DataType>(mut reader: ColumnReaderImpl<T>) -> Result<Vec<Option<T::T>>> {
    let mut all = Vec::new();
    loop {
        let (mut levels, mut present) = (Vec::new(), Vec::new());
        let (records, ..) = reader.read_records(CHUNK, Some(&mut levels), None, &mut present)?;
        if records == 0 {
            return Ok(all);
        }
        if levels.is_empty() {
            all.extend(present.into_iter().map(Some));
        } else {
            let mut present = present.into_iter();
            all.extend(levels.into_iter().map(|level| if level > 0 { present.next() } else { None }));
        }
    }
}
