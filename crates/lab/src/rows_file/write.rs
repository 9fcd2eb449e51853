//! Rows to parquet, column by column.

use std::collections::BTreeSet;
use std::sync::Arc;

use parquet::basic::{Compression, Encoding, IntType, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::data_type::{ByteArray, ByteArrayType, DataType, DoubleType, Int64Type};
use parquet::errors::Result;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::{Type, TypePtr};

use super::{FORMAT, FORMAT_KEY, TAG};
use crate::row::Row;

/// Rows in a row group; bounds the memory that any reader needs.
const GROUP: usize = 1 << 20;
/// Of zstd: a file of some millions of rows takes seconds.
const LEVEL: i32 = 19;
/// Name of the column of values.
const VALUE: &str = "value";

/// The whole file.
pub(super) fn encode(rows: &[Row]) -> Result<Vec<u8>> {
    let tags: BTreeSet<&str> = rows.iter().flat_map(|row| row.tags.keys().map(String::as_str)).collect();
    let mut writer = SerializedFileWriter::new(Vec::new(), schema(&tags)?, Arc::new(properties()))?;
    for rows in rows.chunks(GROUP) {
        let mut group = writer.next_row_group()?;
        columns(&mut group, rows, &tags)?;
        group.close()?;
    }
    writer.into_inner()
}

fn properties() -> WriterProperties {
    WriterProperties::builder()
        .set_created_by("difflab".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(LEVEL).unwrap_or_default()))
        // Byte by byte: what was a single-precision number ends in zeros, which then lie together.
        .set_column_dictionary_enabled(VALUE.into(), false)
        .set_column_encoding(VALUE.into(), Encoding::BYTE_STREAM_SPLIT)
        .set_key_value_metadata(Some(vec![KeyValue::new(FORMAT_KEY.to_owned(), FORMAT.to_owned())]))
        .build()
}

fn schema(tags: &BTreeSet<&str>) -> Result<TypePtr> {
    let mut fields = Vec::new();
    for name in ["trial", "study", "arm", "case"] {
        fields.push(text(name, Repetition::REQUIRED)?);
    }
    fields.push(unsigned("seed")?);
    fields.push(text("metric", Repetition::REQUIRED)?);
    fields.push(real("at", Repetition::OPTIONAL)?);
    fields.push(real(VALUE, Repetition::REQUIRED)?);
    for tag in tags {
        fields.push(text(&format!("{TAG}{tag}"), Repetition::OPTIONAL)?);
    }
    Ok(Arc::new(Type::group_type_builder("row").with_fields(fields).build()?))
}

fn text(name: &str, repetition: Repetition) -> Result<TypePtr> {
    let column = Type::primitive_type_builder(name, Physical::BYTE_ARRAY)
        .with_repetition(repetition)
        .with_logical_type(Some(LogicalType::String));
    Ok(Arc::new(column.build()?))
}

fn unsigned(name: &str) -> Result<TypePtr> {
    let whole = LogicalType::Integer(IntType { bit_width: 64, is_signed: false });
    let column = Type::primitive_type_builder(name, Physical::INT64)
        .with_repetition(Repetition::REQUIRED)
        .with_logical_type(Some(whole));
    Ok(Arc::new(column.build()?))
}

fn real(name: &str, repetition: Repetition) -> Result<TypePtr> {
    Ok(Arc::new(Type::primitive_type_builder(name, Physical::DOUBLE).with_repetition(repetition).build()?))
}

type Group<'a> = SerializedRowGroupWriter<'a, Vec<u8>>;

/// Writes the columns in the schema's order.
fn columns(group: &mut Group, rows: &[Row], tags: &BTreeSet<&str>) -> Result<()> {
    let leading: [fn(&Row) -> &str; 4] =
        [|row| &row.trial, |row| &row.study, |row| &row.arm, |row| &row.case];
    for field in leading {
        required::<ByteArrayType>(group, rows.iter().map(|row| bytes(field(row))))?;
    }
    // Parquet has no unsigned physical type: the bits are kept and the logical type says how to read them.
    required::<Int64Type>(group, rows.iter().map(|row| row.seed.cast_signed()))?;
    required::<ByteArrayType>(group, rows.iter().map(|row| bytes(&row.metric)))?;
    optional::<DoubleType>(group, rows.iter().map(|row| row.at))?;
    required::<DoubleType>(group, rows.iter().map(|row| row.value))?;
    for tag in tags {
        optional::<ByteArrayType>(group, rows.iter().map(|row| row.tags.get(*tag).map(|text| bytes(text))))?;
    }
    Ok(())
}

fn bytes(text: &str) -> ByteArray {
    ByteArray::from(text)
}

fn required<T: DataType>(group: &mut Group, values: impl Iterator<Item = T::T>) -> Result<()> {
    column::<T>(group, &values.collect::<Vec<_>>(), None)
}

fn optional<T: DataType>(group: &mut Group, values: impl Iterator<Item = Option<T::T>>) -> Result<()> {
    let mut present = Vec::new();
    let mut levels = Vec::new();
    for value in values {
        levels.push(i16::from(value.is_some()));
        present.extend(value);
    }
    column::<T>(group, &present, Some(&levels))
}

fn column<T: DataType>(group: &mut Group, values: &[T::T], levels: Option<&[i16]>) -> Result<()> {
    let Some(mut column) = group.next_column()? else {
        return Err(parquet::errors::ParquetError::General(
            "the schema has fewer columns than a row".to_owned(),
        ));
    };
    column.typed::<T>().write_batch(values, levels, None)?;
    column.close()
}
