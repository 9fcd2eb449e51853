//! Trials that go wrong cost only themselves: exit code 1, the others' results stand, and the same command goes on.
//!
//! Stopping at the first failure, shards, second writers and resuming are tried in the bench's own tests.

use std::fs;

use crate::support::{Scratch, check, succeed};

/// Number of trials that measured their mean.
fn measured(scratch: &Scratch) -> usize {
    let rows = lab::rows_file::read(&scratch.path("out/rows.parquet")).unwrap();
    rows.iter().filter(|row| row.metric == "mean").count()
}

#[test]
fn a_trial_that_panics_costs_only_itself() {
    let scratch = Scratch::new();
    let run = scratch.toy("reproduce toy --out out --progress lines -s arms.loaded.trouble=panic");
    check(run, 1, &["table/loaded seed 7", "the die is on fire", "log.txt"]);
    assert_eq!(measured(&scratch), 4, "the fair die's four seeds");
    let claims = fs::read_to_string(scratch.path("out/claims.csv")).unwrap();
    assert!(claims.contains("not_testable"), "{claims}");
}

#[test]
fn a_trial_that_fails_can_be_mended_and_gone_on_from() {
    let scratch = Scratch::new();
    scratch.edit("experiments/toy/quick.yaml", "load: 0.2", "load: 0.2\n    trouble: error");
    check(scratch.toy("reproduce toy --out out"), 1, &["fell off the table"]);
    // The mended file is another configuration: its results are not mixed with the old ones unasked.
    let mended = "reproduce toy --out out -s arms.loaded.trouble=none";
    check(scratch.toy(mended), 2, &["out", "trouble", "--rerun"]);
    succeed(scratch.toy(&format!("{mended} --rerun")));
    assert_eq!(measured(&scratch), 8);
}

#[test]
fn another_configuration_keeps_out_of_a_folder_that_is_in_use() {
    let scratch = Scratch::new();
    succeed(scratch.toy("reproduce toy --out out"));
    let before = fs::read(scratch.path("out/rows.parquet")).unwrap();
    let run = scratch.toy("reproduce toy --out out -s studies.table.rolls=10");
    let belongs = "out: this output folder belongs to another configuration";
    check(run, 2, &[belongs, "rolls", "200", "10", "--out", "--rerun"]);
    assert_eq!(before, fs::read(scratch.path("out/rows.parquet")).unwrap());
}
