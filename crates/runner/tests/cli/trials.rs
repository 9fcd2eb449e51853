//! Trials that go wrong cost only themselves: exit code 1, the others' results stand, and the same command goes on.

use std::fs;

use crate::support::{Scratch, check, succeed};

fn rows(scratch: &Scratch) -> usize {
    lab::rows_file::read(&scratch.path("out/rows.parquet")).unwrap().len()
}

#[test]
fn a_trial_that_panics_costs_only_itself() {
    let scratch = Scratch::new();
    let run = scratch.coins("reproduce coins --out out --progress lines -s arms.loaded.trouble=panic");
    check(run, 1, &["tosses/loaded seed 7", "the coin landed on its edge", "log.txt"]);
    assert_eq!(rows(&scratch), 3, "the fair coin's rows");
    let claims = fs::read_to_string(scratch.path("out/claims.csv")).unwrap();
    assert!(claims.contains("not_testable"), "{claims}");
}

#[test]
fn a_trial_that_fails_can_be_mended_and_gone_on_from() {
    let scratch = Scratch::new();
    scratch.edit("experiments/coins/quick.yaml", "heads: 0.7", "heads: 0.7\n    trouble: error");
    check(scratch.coins("reproduce coins --out out"), 1, &["rolled under the table"]);
    // The mended file is another configuration: its finished trials are kept apart from the old ones.
    check(
        scratch.coins("reproduce coins --out out -s arms.loaded.trouble=none"),
        2,
        &["out", "trouble", "--rerun"],
    );
    check(scratch.coins("reproduce coins --out out -s arms.loaded.trouble=none --rerun"), 0, &[]);
    assert_eq!(rows(&scratch), 6);
}

#[test]
fn fail_fast_stops_at_the_first_failure() {
    let scratch = Scratch::new();
    let line = "reproduce coins --out out --jobs 1 --fail-fast -s arms.fair.trouble=error";
    check(scratch.coins(line), 1, &["rolled under the table"]);
    let done = scratch.files("out").iter().filter(|name| name.ends_with("/DONE")).count();
    assert_eq!(done, 0, "the fair coin comes first, so nothing was done before it failed");
}

#[test]
fn a_second_run_does_no_work() {
    let scratch = Scratch::new();
    succeed(scratch.coins("reproduce coins --out out"));
    let stamps = |scratch: &Scratch| -> Vec<_> {
        let names = scratch.files("out/trials").into_iter();
        names
            .map(|name| fs::metadata(scratch.path("out/trials").join(&name)).unwrap().modified().unwrap())
            .collect()
    };
    let before = stamps(&scratch);
    assert!(!before.is_empty());
    succeed(scratch.coins("reproduce coins --out out"));
    assert_eq!(before, stamps(&scratch));
    succeed(scratch.coins("reproduce coins --out out --rerun"));
    assert_ne!(before, stamps(&scratch));
}

#[test]
fn another_configuration_keeps_out_of_a_folder_that_is_in_use() {
    let scratch = Scratch::new();
    succeed(scratch.coins("reproduce coins --out out"));
    let before = fs::read(scratch.path("out/rows.parquet")).unwrap();
    let run = scratch.coins("reproduce coins --out out -s studies.tosses.count=10");
    check(
        run,
        2,
        &[
            "out: this output folder belongs to another configuration",
            "count",
            "400",
            "10",
            "--out",
            "--rerun",
        ],
    );
    assert_eq!(before, fs::read(scratch.path("out/rows.parquet")).unwrap());
}

#[test]
fn shards_share_a_folder_and_give_what_one_run_gives() {
    let scratch = Scratch::new();
    succeed(scratch.coins("reproduce coins --out whole"));
    for shard in ["2/3", "1/3", "3/3"] {
        succeed(scratch.coins(&format!("reproduce coins --out parts --shard {shard}")));
    }
    for file in ["rows.parquet", "claims.csv", "tables/coins.csv"] {
        let read = |folder: &str| fs::read(scratch.path(folder).join(file)).unwrap();
        assert_eq!(read("whole"), read("parts"), "{file}");
    }
}

#[test]
fn two_writers_never_share_a_folder() {
    let scratch = Scratch::new();
    let line = "reproduce coins --out out --progress json -s studies.tosses.milliseconds=400 --jobs 1";
    let mut first = scratch.coins(line).stdout(std::process::Stdio::piped()).spawn().unwrap();
    while !scratch.path("out/trials").exists() {
        assert!(first.try_wait().unwrap().is_none(), "the first run ended before it began");
        std::thread::yield_now();
    }
    check(scratch.coins(line), 2, &["out", &first.id().to_string(), "--out"]);
    assert!(first.wait().unwrap().success());
}
