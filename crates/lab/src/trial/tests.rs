//! What a trial may and may not do through its context, and when its `DONE` holds.

#![allow(clippy::unwrap_used)]

use std::fs;

use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::paper::TrialContext;

fn spec() -> TrialSpec {
    let (study, arm, case) = ("s".to_owned(), "adam".to_owned(), "c10".to_owned());
    TrialSpec { study, arm, case, seed: 3, config: json!({"b": 1, "a": [0.5]}), seconds: 1.0, bytes: 1 }
}

fn context(folder: &TempDir) -> TrialContext {
    TrialContext::new(folder.path(), &spec(), folder.path(), "cpu", 1)
}

#[test]
fn rows_carry_the_trials_coordinates_unless_given_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut context = context(&folder);
    context.row_at("loss", 2.0, 0.25).unwrap();
    context.row_full(Measure::new("loss", 1.0).arm("sgd").case("c100").tag("layer", "0")).unwrap();
    let rows = context.rows();
    assert_eq!((rows[0].trial.as_str(), rows[0].at, rows[0].seed), (spec().key().as_str(), Some(2.0), 3));
    assert_eq!((rows[0].study.as_str(), rows[0].arm.as_str(), rows[0].case.as_str()), ("s", "adam", "c10"));
    assert_eq!(
        (rows[1].arm.as_str(), rows[1].case.as_str(), rows[1].tags["layer"].as_str()),
        ("sgd", "c100", "0")
    );
}

#[test]
fn what_is_not_finite_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut context = context(&folder);
    let error = context.row("loss", f64::NAN).unwrap_err().to_string();
    assert!(error.starts_with("metric `loss` of trial s/adam/c10 seed 3 is NaN"), "{error}");
    assert!(context.row_at("loss", f64::INFINITY, 1.0).is_err());
    assert!(context.rows().is_empty());
}

#[test]
fn artifacts_have_plain_names_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let mut context = context(&folder);
    for name in ["../x", "a/b", "", ".hidden", "DONE", "rows.jsonl", "checkpoint", "a b"] {
        assert!(context.artifact(name, b"x").is_err(), "{name}");
    }
    let path = context.artifact("weights.safetensors", b"x").unwrap();
    assert_eq!(fs::read(path).unwrap(), b"x");
}

#[test]
fn done_holds_only_for_its_configuration_and_its_files() {
    let folder = tempfile::tempdir().unwrap();
    let config = crate::digest::of_json(&spec().identity());
    for name in ["rows.jsonl", "a.txt"] {
        fs::write(folder.path().join(name), name).unwrap();
    }
    let names = ["rows.jsonl".to_owned(), "a.txt".to_owned()];
    Done::write(folder.path(), config.clone(), &names, 2.0, 5).unwrap();
    assert_eq!(Done::valid(folder.path(), &config).unwrap().seconds, 2.0);
    assert_eq!(Done::valid(folder.path(), "other"), None);
    fs::write(folder.path().join("a.txt"), "a.txT").unwrap();
    assert_eq!(Done::valid(folder.path(), &config), None);
}

#[test]
fn a_line_that_is_no_row_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("rows.jsonl"), "{\"trial\": 1}\n").unwrap();
    let error = read_rows(folder.path()).unwrap_err().to_string();
    assert!(error.contains("rows.jsonl:1: not a row: "), "{error}");
}
