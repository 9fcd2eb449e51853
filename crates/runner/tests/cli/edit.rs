//! `edit`: a concept rewritten in a model's text encoder.

use std::fs;
use std::process::Command;

use crate::support::{Scratch, check, succeed};

const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets/sd-mini/model");

/// An edit of the weights that ship, or of another folder where `model` names one.
fn edit(scratch: &Scratch, model: &str, words: &[&str]) -> Command {
    let mut command = scratch.runner("edit");
    command.args(["--model", model]).args(words);
    command
}

#[test]
fn edits_in_turn_are_combined_taken_back_applied_elsewhere_and_undone() {
    let scratch = Scratch::new();
    let run = |model: &str, words: &[&str]| succeed(edit(&scratch, model, words));
    let at = |name: &str| scratch.path(name).to_str().unwrap().to_owned();
    let weights = |name: &str| fs::read(scratch.path(name).join("text_encoder/model.safetensors")).unwrap();
    let said = run(MODEL, &["--change", "bela cruz=plain", "--preserve", "miko sanz", "-o", "one"]);
    assert!(
        said.contains("`bela cruz` acts as `plain`") && said.contains("residual") && said.contains("leakage"),
        "{said}"
    );
    run(&at("one"), &["--change", "zimo tonic=disc", "-o", "two"]);
    let both = ["--change", "bela cruz=plain", "--change", "zimo tonic=disc", "--preserve", "miko sanz"];
    run(MODEL, &[&both[..], &["-o", "joint"]].concat());
    assert_eq!(weights("two"), weights("joint"));
    run(MODEL, &["--apply", &at("two/diff-quickfix.json"), "-o", "applied"]);
    assert_eq!(weights("applied"), weights("joint"));
    run(&at("two"), &["--take-back", "zimo tonic", "-o", "fewer"]);
    assert_eq!(weights("fewer"), weights("one"));
    run(&at("two"), &["--undo", "-o", "before"]);
    let original = fs::read(format!("{MODEL}/text_encoder/model.safetensors")).unwrap();
    assert_eq!(weights("before"), original);
    run(&at("one"), &["--take-back", "bela cruz", "-o", "none"]);
    assert_eq!(weights("none"), original);
    let said = run(MODEL, &["--change", "red=blue", "--dry-run"]);
    assert!(said.contains("ms from opening the model"), "{said}");
    let other = fs::read_to_string(scratch.path("one/diff-quickfix.json"))
        .unwrap()
        .replace("\"original\": \"", "\"original\": \"0");
    fs::write(scratch.path("other.json"), other).unwrap();
    check(
        edit(&scratch, MODEL, &["--apply", &at("other.json"), "-o", "no"]),
        2,
        &["different models", "--change"],
    );
    let layer = ["--change", "red=blue", "--layer", "2", "-o", "no"];
    check(edit(&scratch, &at("one"), &layer), 2, &["one edited layer", "--undo"]);
    assert!(!scratch.path("no").exists());
}

#[test]
fn equal_concepts_are_warned_of_and_change_nothing() {
    let scratch = Scratch::new();
    let output = edit(&scratch, MODEL, &["--change", "star=star", "-o", "same"]).output().unwrap();
    assert!(output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("warning") && said.contains("`star=star` changes nothing"), "{said}");
    let [old, new] = [MODEL.to_owned(), scratch.path("same").to_str().unwrap().to_owned()]
        .map(|folder| fs::read(format!("{folder}/text_encoder/model.safetensors")).unwrap());
    assert_eq!(old, new);
}

#[test]
fn bad_input_says_what_to_do_and_writes_nothing() {
    let scratch = Scratch::new();
    let refused = |words: &[&str], parts: &[&str]| {
        check(edit(&scratch, MODEL, &[words, &["-o", "out"]].concat()), 2, parts);
        assert!(!scratch.path("out").exists(), "{words:?}");
    };
    refused(&["--change", "van gogh"], &["--change van gogh", "CONCEPT=REPLACEMENT"]);
    refused(&["--change", "=plain"], &["no concept before the `=`"]);
    refused(&["--change", "star=plain@-1"], &["weight of at least 0"]);
    refused(&["--change", "red=blue", "--lambda", "0"], &["--lambda 0", "above 0", "0.01"]);
    refused(&["--change", "red=blue", "--layer", "6"], &["no layer 6", "has 6"]);
    let long = format!("{}=star", "red ".repeat(30));
    refused(&["--change", &long], &["too long for the encoder's window", "shorten"]);
    refused(&[], &["nothing is to change", "--change"]);
    refused(&["--undo"], &["nothing to undo"]);
    refused(&["--apply", "nowhere.json"], &["nowhere.json", "cannot read"]);
    check(edit(&scratch, "nowhere", &["--change", "a=b", "-o", "out"]), 2, &["--model nowhere"]);
    check(edit(&scratch, MODEL, &["--change", "red=blue"]), 2, &["--output"]);
    fs::create_dir(scratch.path("here")).unwrap();
    check(edit(&scratch, MODEL, &["--change", "red=blue", "-o", "here"]), 2, &["nothing is overwritten"]);
}
