//! Experiment files that are wrong: exit code 2, a message with the place and what to do, and nothing written.

use crate::support::{Scratch, check};

const FILE: &str = "experiments/toy/quick.yaml";

/// Asserts that the experiment is refused with all of `parts`, and that nothing was written.
#[track_caller]
fn refused(scratch: &Scratch, more: &str, parts: &[&str]) {
    let said = check(scratch.toy(&format!("reproduce toy --out out {more}")), 2, parts);
    assert!(said.starts_with("error: "), "{said}");
    assert_eq!(scratch.files("out"), [""; 0], "a refused experiment left something behind");
}

fn edited(old: &str, new: &str) -> Scratch {
    let scratch = Scratch::new();
    scratch.edit(FILE, old, new);
    scratch
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_name() {
    let scratch = edited("    rolls: 200", "    rols: 200");
    refused(&scratch, "", &[&format!("{FILE}:14:5"), "`rols`", "did you mean `rolls`"]);
}

#[test]
fn an_unknown_override_is_refused_with_the_nearest_name() {
    refused(&Scratch::new(), "-s arms.fair.laod=0.4", &["-s arms.fair.laod=0.4", "did you mean `load`"]);
}

#[test]
fn a_value_of_the_wrong_type_is_refused() {
    let scratch = edited("rolls: 200", "rolls: many");
    refused(&scratch, "", &[&format!("{FILE}:14:"), "many", "expected"]);
}

#[test]
fn a_number_that_is_none_is_refused() {
    refused(&edited("load: 0\n", "load: .nan\n"), "", &[&format!("{FILE}:9:"), "0 to 1"]);
    refused(&Scratch::new(), "-s arms.fair.load=.nan", &["-s arms.fair.load=.nan", "`NaN`"]);
    refused(&Scratch::new(), "-s arms.fair.load=.inf", &["0 to 1"]);
}

#[test]
fn a_number_out_of_range_is_refused() {
    refused(&edited("load: 0\n", "load: 1.5\n"), "", &[&format!("{FILE}:9:"), "0 to 1", "1.5"]);
}

#[test]
fn a_duplicate_key_is_refused() {
    let scratch = edited("    rolls: 200", "    rolls: 200\n    rolls: 300");
    refused(&scratch, "", &[&format!("{FILE}:15:"), "`rolls`", "second time"]);
}

#[test]
fn an_alias_bomb_is_refused_before_it_takes_memory() {
    let scratch = Scratch::new();
    scratch.write(FILE, alias_bomb());
    refused(&scratch, "", &[FILE]);
}

/// One scalar of 100 KB and 20,000 aliases of it: 160 KB that a naive reader turns into 2 GB.
fn alias_bomb() -> String {
    let bomb = format!("about: &a \"{}\"\nlist: [{}]\n", "x".repeat(100_000), "*a,".repeat(20_000));
    assert!(bomb.len() > 160_000);
    bomb
}

#[test]
fn a_missing_file_is_named_with_what_there_is() {
    let scratch = Scratch::new();
    check(scratch.toy("reproduce toy --scale paper --out out"), 2, &["experiments/toy/paper.yaml", "quick"]);
    assert_eq!(scratch.files("out"), [""; 0]);
}

#[test]
fn an_empty_file_and_one_that_is_no_text_are_refused() {
    for content in [&b""[..], b"- a\n- b\n", b"\xff\xfe\x00", b"paper: [toy\n"] {
        let scratch = Scratch::new();
        scratch.write(FILE, content);
        refused(&scratch, "", &[FILE]);
    }
}

#[test]
fn a_claim_about_an_arm_that_is_not_there_is_not_silently_dropped() {
    let scratch = Scratch::new();
    scratch.edit(FILE, "a: loaded", "a: laoded");
    // The toy does not check its claims against its arms; the verdict must then say what is missing.
    check(scratch.toy("reproduce toy --out out"), 0, &[]);
    let claims = std::fs::read_to_string(scratch.path("out/claims.csv")).unwrap();
    assert!(claims.contains("not_testable") && claims.contains("laoded"), "{claims}");
}

#[test]
fn a_learning_rate_that_is_no_number_is_refused() {
    let scratch = Scratch::new();
    let run = scratch.runner("reproduce diffgrad --out out -s arms.adam.optimiser.lr=.nan");
    check(run, 2, &["-s arms.adam.optimiser.lr=.nan", "arms.adam.optimiser.lr", "finite"]);
    assert_eq!(scratch.files("out"), [""; 0]);
}

#[test]
fn a_mistyped_optimiser_setting_is_refused_with_the_nearest_name() {
    let scratch = Scratch::new();
    let run = scratch.runner("reproduce diffgrad --out out -s arms.adam.optimiser.weight_deacy=0.1");
    check(run, 2, &["weight_deacy", "did you mean `weight_decay`"]);
    assert_eq!(scratch.files("out"), [""; 0]);
}
