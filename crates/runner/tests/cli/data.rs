//! Real data that is absent or broken: a message with the file, what it should be and how to get it right, and no result.

use std::fs::{self, File};

use crate::support::{Scratch, check, tiny_diffgrad};

/// Runs the image study on CIFAR-10 from `data/`, which must end with `code` and all of `parts`, and leave no result.
#[track_caller]
fn refused(scratch: &Scratch, code: i32, parts: &[&str]) {
    let line = format!("{} -s data.images=cifar10 -s seeds=1 --data data --out out", tiny_diffgrad());
    check(scratch.runner(&line), code, parts);
    let rows = lab::rows_file::read(&scratch.path("out/rows.parquet")).unwrap_or_default();
    assert!(rows.iter().all(|row| row.study != "a2"), "a trial without its data measured something");
}

fn parquet(scratch: &Scratch, content: &[u8]) {
    for split in ["train", "test"] {
        scratch.write(&format!("data/plain_text/{split}-00000-of-00001.parquet"), content);
    }
}

#[test]
fn an_absent_data_set_names_the_two_ways_to_get_it_and_is_not_replaced() {
    let scratch = Scratch::new();
    refused(&scratch, 2, &["`cifar10` is not here", "cargo xtask datasets fetch cifar10", "--data DIR"]);
    assert!(!scratch.path("out").exists(), "a refused run left something behind");
}

#[test]
fn a_cifar_file_of_a_wrong_length_is_refused() {
    let scratch = Scratch::new();
    let folder = scratch.path("data/cifar-10-batches-bin");
    fs::create_dir_all(&folder).unwrap();
    let names =
        ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"];
    for name in names {
        // Holes take no room on the disk. The first file lacks its last byte.
        let bytes = 30_730_000 - u64::from(name == "data_batch_1");
        File::create(folder.join(format!("{name}.bin"))).unwrap().set_len(bytes).unwrap();
    }
    refused(&scratch, 1, &["data_batch_1.bin", "30730000", "30729999"]);
}

#[test]
fn a_truncated_parquet_file_is_refused() {
    let scratch = Scratch::new();
    parquet(&scratch, b"PAR1\x15\x04\x15\x80\x80");
    refused(&scratch, 1, &["train-00000-of-00001.parquet"]);
}

#[test]
fn a_file_that_only_calls_itself_parquet_is_refused() {
    let scratch = Scratch::new();
    parquet(&scratch, b"<!DOCTYPE html><title>404 not found</title>");
    refused(&scratch, 1, &["train-00000-of-00001.parquet"]);
}

#[test]
fn an_unknown_data_set_is_answered_with_the_known_ones() {
    let scratch = Scratch::new();
    check(scratch.runner("datasets fetch cifra10"), 2, &["`cifra10`", "cifar10 or cifar100"]);
    check(scratch.runner("datasets verify cifra10"), 2, &["`cifra10`", "did you mean `cifar10`"]);
}

#[test]
fn a_download_that_may_not_happen_says_so() {
    check(Scratch::new().runner("datasets fetch cifar10"), 2, &["HF_HUB_OFFLINE", "HF_HOME"]);
}
