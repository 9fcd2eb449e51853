//! What is written is read back, byte for byte the same twice; what is damaged is refused by name.
#![allow(clippy::unwrap_used)]

use super::*;

fn row(seed: u64, at: Option<f64>, tags: &[(&str, &str)]) -> Row {
    Row {
        trial: "0123456789abcdef".into(),
        study: "images".into(),
        arm: "diffgrad".into(),
        case: if seed == 0 { String::new() } else { "c10 – b128".into() },
        seed,
        metric: "xi".into(),
        at,
        value: 0.1 + seed as f64,
        tags: tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
    }
}

fn rows() -> Vec<Row> {
    let mut rows = vec![
        row(0, None, &[]),
        row(u64::MAX, Some(1e-300), &[("layer", "conv1"), ("a name", "")]),
        row(7, Some(-0.0), &[("layer", "")]),
    ];
    rows.extend((0..20_000).map(|seed| row(seed, (seed % 3 == 0).then_some(seed as f64), &[])));
    rows
}

fn saved(rows: &[Row]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    write(&path, rows).unwrap();
    (folder, path)
}

#[test]
fn rows_come_back_as_they_were() {
    for rows in [rows(), rows()[..1].to_vec(), Vec::new()] {
        let (_folder, path) = saved(&rows);
        assert_eq!(read(&path).unwrap(), rows);
    }
}

#[test]
fn equal_rows_give_equal_bytes() {
    assert_eq!(write::encode(&rows()).unwrap(), write::encode(&rows()).unwrap());
    let mut other = rows();
    other[5].value += 1.0;
    assert_ne!(write::encode(&rows()).unwrap(), write::encode(&other).unwrap());
}

#[test]
fn a_file_cut_off_anywhere_is_refused() {
    let (folder, path) = saved(&rows()[..3]);
    let whole = std::fs::read(&path).unwrap();
    let cut = folder.path().join("cut.parquet");
    for length in 0..whole.len() {
        std::fs::write(&cut, &whole[..length]).unwrap();
        let message = read(&cut).unwrap_err().to_string();
        assert!(message.contains("cut.parquet") && message.contains("expected"), "{length}: {message}");
    }
}

#[test]
fn a_damaged_byte_never_panics() {
    let (folder, path) = saved(&rows()[..3]);
    let whole = std::fs::read(&path).unwrap();
    let damaged = folder.path().join("damaged.parquet");
    for position in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[position] ^= 0x55;
        std::fs::write(&damaged, &bytes).unwrap();
        // Damage inside a value gives another value; anything else gives an error.
        let _ = read(&damaged);
    }
}

#[test]
fn another_file_under_the_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    std::fs::write(&path, "trial,study\n1,2\n").unwrap();
    let message = read(&path).unwrap_err().to_string();
    assert!(message.contains("a whole parquet file") && message.contains("delete the file"), "{message}");
}

#[test]
fn another_parquet_file_is_refused_with_its_columns() {
    let message = refused("message images { required double label; required double pixel; }", None);
    assert!(message.contains("rows of a difflab run") && message.contains("label, pixel"), "{message}");
}

#[test]
fn another_version_and_other_columns_are_refused() {
    let of_later = refused("message row { required double value; }", Some("2"));
    assert!(of_later.contains("found difflab.rows = 2"), "{of_later}");
    let fewer = refused("message row { required double value; }", Some(FORMAT));
    assert!(fewer.contains("expected the column `trial`"), "{fewer}");
    let mistyped = refused("message row { required double trial; }", Some(FORMAT));
    assert!(mistyped.contains("`trial` as flat BYTE_ARRAY, found DOUBLE"), "{mistyped}");
    let stranger = refused("message row { required double weight; }", Some(FORMAT));
    assert!(stranger.contains("found the column `weight`"), "{stranger}");
}

/// The message for an empty parquet file of another schema.
fn refused(schema: &str, format: Option<&str>) -> String {
    use parquet::file::{metadata::KeyValue, properties::WriterProperties, writer::SerializedFileWriter};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.parquet");
    let schema = std::sync::Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let pairs = format.map(|format| vec![KeyValue::new(FORMAT_KEY.to_owned(), format.to_owned())]);
    let properties = WriterProperties::builder().set_key_value_metadata(pairs).build();
    let file = std::fs::File::create(&path).unwrap();
    SerializedFileWriter::new(file, schema, properties.into()).unwrap().close().unwrap();
    read(&path).unwrap_err().to_string()
}

#[test]
fn an_absent_file_is_named() {
    let message = read(Path::new("/nowhere/rows.parquet")).unwrap_err().to_string();
    assert!(message.starts_with("/nowhere/rows.parquet: cannot read the rows file"), "{message}");
}
