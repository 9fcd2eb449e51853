//! Models in several files, and indices that do not fit them.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};

use super::{assert_says, save};
use crate::weights::Weights;

const FIRST: &str = "model-00001-of-00002.safetensors";
const SECOND: &str = "model-00002-of-00002.safetensors";

fn value(x: f32) -> Tensor {
    Tensor::new(&[x], &Device::Cpu).unwrap()
}

fn index(folder: &Path, map: &str) -> PathBuf {
    let path = folder.join("model.safetensors.index.json");
    std::fs::write(&path, format!(r#"{{"metadata":{{"total_size":8}},"weight_map":{{{map}}}}}"#)).unwrap();
    path
}

fn two(folder: &Path) {
    save(folder, FIRST, &[("a", value(1.0)), ("c", value(3.0))]);
    save(folder, SECOND, &[("b", value(2.0))]);
}

#[test]
fn each_tensor_comes_from_its_file() {
    let folder = tempfile::tempdir().unwrap();
    two(folder.path());
    let path = index(folder.path(), &format!(r#""a":"{FIRST}","b":"{SECOND}","c":"{FIRST}""#));
    for opened in [&path, folder.path()] {
        let weights = Weights::open(opened).unwrap();
        assert_eq!(weights.names().collect::<Vec<_>>(), ["a", "b", "c"]);
        let read =
            |name| weights.tensor(name, DType::F32, &Device::Cpu).unwrap().to_vec1::<f32>().unwrap()[0];
        assert_eq!([read("a"), read("b"), read("c")], [1.0, 2.0, 3.0]);
    }
}

#[test]
fn a_tensor_that_the_index_forgot_is_not_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    two(folder.path());
    index(folder.path(), &format!(r#""a":"{FIRST}","b":"{SECOND}""#));
    assert_eq!(Weights::open(folder.path()).unwrap().names().count(), 3);
}

#[test]
fn an_index_that_does_not_fit_is_refused_with_its_place() {
    let cases: [(String, &[&str]); 8] = [
        (format!(r#""a":"{FIRST}","a":"{SECOND}""#), &["line 1 column", "`a` stands there twice"]),
        (
            r#""a":"../other.safetensors""#.to_owned(),
            &["weight_map", "\"../other.safetensors\"", "not followed"],
        ),
        (r#""a":"/etc/passwd""#.to_owned(), &["\"/etc/passwd\""]),
        (r#""a":"..""#.to_owned(), &["\"..\""]),
        (
            r#""a":"x.safetensors","b":"y.safetensors""#.to_owned(),
            &["2 missing: x.safetensors, y.safetensors"],
        ),
        (format!(r#""b":"{FIRST}""#), &["b (in model-00001-of-00002.safetensors)", "different models"]),
        (format!(r#""a":"{FIRST}","a2""#), &["line 1 column", "an index"]),
        (r#""a":3"#.to_owned(), &["line 1 column", "3"]),
    ];
    for (map, words) in cases {
        let folder = tempfile::tempdir().unwrap();
        two(folder.path());
        let path = index(folder.path(), &map);
        let message = Weights::open(&path).unwrap_err().to_string();
        assert_says(&message, words);
        assert_says(&message, &["model.safetensors.index.json"]);
    }
}

#[test]
fn a_tensor_in_two_files_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    save(folder.path(), FIRST, &[("a", value(1.0))]);
    save(folder.path(), SECOND, &[("a", value(2.0)), ("b", value(2.0))]);
    index(folder.path(), &format!(r#""a":"{FIRST}","b":"{SECOND}""#));
    let message = Weights::open(folder.path()).unwrap_err().to_string();
    assert_says(&message, &["tensor `a`", FIRST, SECOND, "not of this model"]);
}
