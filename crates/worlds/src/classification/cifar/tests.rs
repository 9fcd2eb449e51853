//! The readers, held against small files made here: both layouts, and every way a file can be wrong.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::sync::Arc;

use ::parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;
use image::ImageEncoder;
use sd_core::rng::Rng;
use tempfile::TempDir;

use super::*;

/// Four pictures of each of the ten classes to train on, one to test; else as published.
const TINY: Kind = Kind { per_class: [5, 1], ..Kind::TEN };
const TINY_HUNDRED: Kind = Kind { per_class: [1, 1], ..Kind::HUNDRED };

/// Any pictures, in class order.
fn rows(kind: &Kind, split: Split) -> Rows {
    let mut rng = Rng::new(7, split.name(), u64::from(kind.classes()));
    let count = kind.pictures(split);
    let pixels = (0..count * PICTURE_BYTES / 4).flat_map(|_| rng.next_u32().to_le_bytes()).collect();
    Rows { pixels, labels: (0..count).map(|row| (row % usize::from(kind.classes())) as u16).collect() }
}

fn records(kind: &Kind, rows: &Rows) -> Vec<u8> {
    let record = |(picture, &label): (&[u8], &u16)| {
        let mut record = vec![3; kind.label_bytes.len() - 1];
        record.push(label as u8);
        record.extend_from_slice(picture);
        record
    };
    rows.pixels.chunks(PICTURE_BYTES).zip(&rows.labels).flat_map(record).collect()
}

/// Writes the binary layout below `root`.
fn write_binary(kind: &Kind, root: &Path) {
    let folder = root.join(kind.binary_folder);
    fs::create_dir_all(&folder).unwrap();
    for split in [Split::Train, Split::Test] {
        let bytes = records(kind, &rows(kind, split));
        let files = kind.binary_files(split);
        for (file, part) in files.iter().zip(bytes.chunks(bytes.len() / files.len())) {
            fs::write(folder.join(file), part).unwrap();
        }
    }
}

fn png(picture: &[u8], side: u32) -> Vec<u8> {
    let plane = (side * side) as usize;
    let interleaved: Vec<u8> = (0..3 * plane).map(|index| picture[index % 3 * plane + index / 3]).collect();
    let mut bytes = Vec::new();
    let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
    encoder.write_image(&interleaved, side, side, image::ExtendedColorType::Rgb8).unwrap();
    bytes
}

/// A parquet file to write: its schema's two fields by text, and its rows in several groups.
struct Table {
    schema: String,
    pictures: Vec<Vec<u8>>,
    labels: Vec<i64>,
}

impl Table {
    fn of(kind: &Kind, rows: &Rows) -> Self {
        let schema = format!(
            "message schema {{ optional group img {{ optional binary bytes; optional binary path (UTF8); }} \
             optional int64 {}; }}",
            kind.label_column
        );
        let pictures = rows.pixels.chunks(PICTURE_BYTES).map(|picture| png(picture, 32)).collect();
        Self { schema, pictures, labels: rows.labels.iter().map(|&label| i64::from(label)).collect() }
    }

    fn reversed(mut self) -> Self {
        self.pictures.reverse();
        self.labels.reverse();
        self
    }

    fn write(&self, path: &Path) {
        let schema = Arc::new(parse_message_type(&self.schema).unwrap());
        let file = fs::File::create(path).unwrap();
        let mut writer =
            SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::default())).unwrap();
        for (pictures, labels) in self.pictures.chunks(16).zip(self.labels.chunks(16)) {
            let mut group = writer.next_row_group().unwrap();
            let pictures: Vec<ByteArray> =
                pictures.iter().map(|bytes| ByteArray::from(bytes.clone())).collect();
            let paths = vec![ByteArray::from("x.png"); pictures.len()];
            for values in [&pictures, &paths] {
                let mut column = group.next_column().unwrap().unwrap();
                column
                    .typed::<ByteArrayType>()
                    .write_batch(values, Some(&vec![2; values.len()]), None)
                    .unwrap();
                column.close().unwrap();
            }
            let mut column = group.next_column().unwrap().unwrap();
            column.typed::<Int64Type>().write_batch(labels, Some(&vec![1; labels.len()]), None).unwrap();
            column.close().unwrap();
            group.close().unwrap();
        }
        writer.close().unwrap();
    }
}

/// Writes the parquet layout below `root`, rows in the opposite order; returns the training file.
fn write_parquet(kind: &Kind, root: &Path) -> PathBuf {
    let folder = root.join(kind.name).join(kind.parquet_folder);
    fs::create_dir_all(&folder).unwrap();
    let path = |split: Split| folder.join(format!("{}-00000-of-00001.parquet", split.name()));
    for split in [Split::Train, Split::Test] {
        Table::of(kind, &rows(kind, split)).reversed().write(&path(split));
    }
    path(Split::Train)
}

fn read_all(kind: &Kind, root: &Path) -> Result<[ImageSet; 2], DataError> {
    let copy = find(kind, &[root.to_owned()])?;
    let names = vec![String::new(); usize::from(kind.classes())];
    Ok([read(kind, &copy, Split::Train, &names)?, read(kind, &copy, Split::Test, &names)?])
}

#[test]
fn both_layouts_give_the_same_set() {
    for kind in [TINY, TINY_HUNDRED] {
        let (binary, parquet) = (TempDir::new().unwrap(), TempDir::new().unwrap());
        write_binary(&kind, binary.path());
        write_parquet(&kind, parquet.path());
        let [train, test] = read_all(&kind, binary.path()).unwrap();
        assert_eq!([train.clone(), test], read_all(&kind, parquet.path()).unwrap());
        // Every picture keeps its label.
        let source = rows(&kind, Split::Train);
        for (picture, label) in source.pixels.chunks(PICTURE_BYTES).zip(&source.labels) {
            let row = (0..train.len()).find(|&row| train.picture(row) == picture).unwrap();
            assert_eq!(train.labels[row], *label);
        }
    }
}

/// An error must name the file and hold every one of the given words.
fn assert_error(result: Result<[ImageSet; 2], DataError>, file: &str, words: &[&str]) {
    let message = result.unwrap_err().to_string();
    for word in [&[file], words].concat() {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
}

#[test]
fn broken_binary_files_are_told() {
    let spoil = |file: &str, change: &dyn Fn(&mut Vec<u8>), words: &[&str]| {
        let folder = TempDir::new().unwrap();
        write_binary(&TINY, folder.path());
        let path = folder.path().join(TINY.binary_folder).join(file);
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
        assert_error(read_all(&TINY, folder.path()), file, words);
    };
    spoil(
        "data_batch_3.bin",
        &|bytes| bytes.truncate(30_729),
        &["30730 bytes", "found 30729 bytes", "3073", "fetch"],
    );
    spoil("test_batch.bin", &|bytes| bytes.push(0), &["30730 bytes", "found 30731 bytes"]);
    spoil("test_batch.bin", &|bytes| bytes.clear(), &["found 0 bytes"]);
    spoil("data_batch_2.bin", &|bytes| bytes[3_073] = 10, &["label of record 1", "0 to 9", "found 10"]);
    // One picture of class 1 becomes one of class 0: the class counts tell.
    spoil("test_batch.bin", &|bytes| bytes[3_073] = 0, &["pictures of class 0", "expected 1, found 2"]);
}

#[test]
fn a_missing_file_is_told() {
    let folder = TempDir::new().unwrap();
    write_binary(&TINY, folder.path());
    fs::remove_file(folder.path().join("cifar-10-batches-bin/data_batch_4.bin")).unwrap();
    assert_error(read_all(&TINY, folder.path()), "data_batch_4.bin", &["completeness", "no such file"]);
    let folder = TempDir::new().unwrap();
    fs::remove_file(write_parquet(&TINY, folder.path())).unwrap();
    assert_error(read_all(&TINY, folder.path()), "train*.parquet", &["completeness"]);
}

#[test]
fn an_absent_set_is_told_with_the_two_ways_to_get_it() {
    let folder = TempDir::new().unwrap();
    let place = folder.path().display().to_string();
    let ways =
        ["cargo xtask datasets fetch cifar10", "--data DIR", "cifar-10-batches-bin/", "cifar10/plain_text/"];
    assert_error(read_all(&TINY, folder.path()), &place, &ways);
}

/// Writes the training file anew from a changed table and reads it.
fn with_table(change: impl Fn(&mut Table)) -> Result<[ImageSet; 2], DataError> {
    let folder = TempDir::new().unwrap();
    let path = write_parquet(&TINY, folder.path());
    let mut table = Table::of(&TINY, &rows(&TINY, Split::Train));
    change(&mut table);
    table.write(&path);
    read_all(&TINY, folder.path())
}

#[test]
fn broken_parquet_tables_are_told() {
    let file = "train-00000-of-00001.parquet";
    let noise = rows(&TINY, Split::Train).pixels;
    let grey = {
        let mut bytes = Vec::new();
        let encoder = image::codecs::png::PngEncoder::new(&mut bytes);
        encoder.write_image(&noise[..1024], 32, 32, image::ExtendedColorType::L8).unwrap();
        bytes
    };
    let check = |change: &dyn Fn(&mut Table), words: &[&str]| assert_error(with_table(change), file, words);
    let rename = |table: &mut Table, from: &str, to: &str| table.schema = table.schema.replace(from, to);
    check(
        &|table| rename(table, "label", "fine_label"),
        &["`label`", "img.bytes, img.path, fine_label", "cifar10"],
    );
    check(&|table| rename(table, "binary bytes", "binary data"), &["`img.bytes`", "img.data"]);
    check(&|table| table.labels[17] = 10, &["`label` of row 1 in row group 1", "0 to 9", "found 10"]);
    check(&|table| table.labels[0] = -1, &["0 to 9", "found -1"]);
    check(&|table| table.labels[0] = 1, &["pictures of class 0", "expected 5, found 4"]);
    check(&|table| table.pictures[20] = png(&noise, 16), &["row 4 in row group 1", "32x32", "16x16"]);
    check(&|table| table.pictures[20] = png(&[0; 3 * 40_000], 200), &["row 4 in row group 1", "PNG or JPEG"]);
    check(&|table| table.pictures[0] = grey.clone(), &["8-bit RGB", "L8"]);
    check(&|table| table.pictures[3].truncate(100), &["row 3 in row group 0", "do not decode"]);
    check(
        &|table| table.pictures[3] = b"GIF89a".to_vec(),
        &["row 3 in row group 0", "PNG or JPEG", "47, 49, 46, 38"],
    );
    check(&|table| table.pictures[3].clear(), &["row 3 in row group 0", "0 bytes"]);
    check(&|table| table.shorten(), &["pictures in the train split", "expected 50, found 49"]);
    check(&|table| table.extend(), &["rows", "at most 50", "found 51"]);
}

impl Table {
    fn shorten(&mut self) {
        self.labels.pop();
        self.pictures.pop();
    }

    fn extend(&mut self) {
        self.labels.push(0);
        self.pictures.push(self.pictures[0].clone());
    }
}

#[test]
fn a_column_of_another_type_is_told() {
    let folder = TempDir::new().unwrap();
    let path = write_parquet(&TINY, folder.path());
    let schema =
        "message schema { optional group img { optional binary bytes; } optional binary label (UTF8); }";
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let file = fs::File::create(&path).unwrap();
    SerializedFileWriter::new(file, schema, Arc::new(WriterProperties::default())).unwrap().close().unwrap();
    assert_error(
        read_all(&TINY, folder.path()),
        "train-0",
        &["type of column `label`", "INT64", "BYTE_ARRAY"],
    );
}

#[test]
fn files_that_are_no_parquet_are_told() {
    let folder = TempDir::new().unwrap();
    let path = write_parquet(&TINY, folder.path());
    let whole = fs::read(&path).unwrap();
    let half = whole[..whole.len() / 2].to_vec();
    // A page that ends within the file, but not where it should.
    let hollow = [&whole[..1000], &vec![0; 5000], &whole[6000..]].concat();
    for bytes in [half, Vec::new(), b"PAR1".to_vec(), vec![0; 100_000], png(&[9; PICTURE_BYTES], 32), hollow]
    {
        fs::write(&path, &bytes).unwrap();
        assert_error(read_all(&TINY, folder.path()), "train-00000-of-00001.parquet", &["fetch"]);
    }
}

#[test]
fn flipped_bits_never_bring_the_reader_down() {
    let folder = TempDir::new().unwrap();
    let path = write_parquet(&TINY, folder.path());
    let whole = fs::read(&path).unwrap();
    let mut rng = Rng::new(1, "flips", 0);
    let mut refused = 0;
    for round in 0..120 {
        let mut bytes = whole.clone();
        // Half of the rounds aim at the footer, where every byte steers the reader.
        let span = if round % 2 == 0 { bytes.len() } else { 1500 };
        let place = bytes.len() - 1 - rng.below(span as u64) as usize;
        bytes[place] ^= 1 << rng.below(8);
        fs::write(&path, &bytes).unwrap();
        if let Err(error) = read_all(&TINY, folder.path()) {
            assert!(error.to_string().contains("train-0"), "{error}");
            refused += 1;
        }
    }
    assert!(refused > 40, "only {refused} of 120 damaged files were refused");
}
