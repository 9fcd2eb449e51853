//! `trace`: where a model keeps what it knows of a caption's subject.

use std::fs;
use std::process::Command;

use crate::support::{Scratch, check, succeed};

/// A short trace by the weights that ship.
fn trace(scratch: &Scratch, caption: &str, rest: &str) -> Command {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../../datasets/sd-mini/model");
    let mut command = scratch.runner("trace --steps 2 --guidance 4");
    let has_sigma = rest.contains("--sigma");
    command.args(["--model", model]).args(if has_sigma { &[][..] } else { &["--sigma", "abs:0.5"] });
    command.arg(caption).args(rest.split_whitespace());
    command
}

#[test]
fn a_component_is_traced_and_written() {
    let scratch = Scratch::new();
    let name = "mid_block.resnets.0";
    let rest = format!("--subject red --component {name} -o out");
    let said = succeed(trace(&scratch, "a red star", &rest));
    assert!(said.contains(name) && said.contains("distance to clean"), "{said}");
    let csv = fs::read_to_string(scratch.path("out/trace.csv")).unwrap();
    let runs: Vec<&str> = csv.lines().skip(1).filter_map(|line| line.split(',').next()).collect();
    assert_eq!(runs, ["clean", "corrupted", name]);
    assert!(scratch.path("out/pictures.png").is_file());
    assert!(said.contains("noise: sigma 0.5000"), "{said}");
}

#[test]
fn another_word_can_stand_in_the_subjects_place_and_steps_can_be_chosen() {
    let scratch = Scratch::new();
    let name = "up_blocks.1.resnets.0";
    let rest =
        format!("--subject red --component {name} --corrupt swap --other blue --reading branch -o out");
    let said = succeed(trace(&scratch, "a red star", &rest.replace(name, &format!("{name}.conv2"))));
    assert!(said.contains(name) && !said.contains("noise"), "{said}");
    let distance = |steps: &str| {
        let rest = format!("--subject red --component {name} {steps} -o out");
        succeed(trace(&scratch, "a red star", &rest));
        let csv = fs::read_to_string(scratch.path("out/trace.csv")).unwrap();
        let line = csv.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        line.split(',').nth(3).unwrap().parse::<f64>().unwrap()
    };
    assert_ne!(distance(""), distance("--restored-steps 0..1"));
}

#[test]
fn a_plan_says_what_a_trace_takes_and_computes_nothing() {
    let scratch = Scratch::new();
    let said = succeed(trace(&scratch, "a red star", "--subject red --dry-run --mem-budget 50MB -o out"));
    assert!(said.contains("runs: 72") && said.contains("chunks") && said.contains("PFLOP"), "{said}");
    assert!(!scratch.path("out").exists());
    let said = succeed(trace(&scratch, "a red star", "--subject red --text --dry-run"));
    // Six layers, two parts, the subject, the word behind it and end-of-text.
    assert!(said.contains("runs: 38") && said.contains("in 1 chunk:"), "{said}");
}

#[test]
fn bad_input_says_what_to_do_and_writes_nothing() {
    let scratch = Scratch::new();
    let refused = |caption: &str, rest: &str, parts: &[&str]| {
        check(trace(&scratch, caption, &format!("{rest} -o out")), 2, parts);
        assert!(!scratch.path("out").exists(), "{rest}");
    };
    refused("a red star", "--subject blue", &["a red star", "blue", "help"]);
    refused("a red star", "--subject red --component mid_block.resnet.0", &["mid_block.resnets.0"]);
    refused("a red star", "--subject red --sigma 3", &["--sigma", "std:K"]);
    refused("a red star", "--subject red --mem-budget 5", &["8GB"]);
    refused("a red star", "--subject red --judge nowhere", &["nowhere"]);
    // A plan refuses what the trace would.
    refused("a red star", "--subject red --dry-run --mem-budget 1MB", &["memory budget", "allow at least"]);
    refused("a red star", "--subject red --dry-run --text --corrupt all-out", &["nothing to restore"]);
    refused("a red star", "--subject red --text --window 3", &["--window", "--text"]);
    refused("a red star", "--subject red --corrupt swap", &["--other"]);
    refused("a red star", "--subject red --other blue", &["--other", "--corrupt swap"]);
    refused("a red star", "--subject red --corrupt swap --other plain-red", &["1 and", "tokens"]);
    refused("a red star", "--subject red --restored-steps 2", &["0..10"]);
    refused("a red star", "--subject red --restored-steps 0..5", &["0..5 of 2"]);
    let long = "a red star and a red star and a red star and a red star and a red star";
    refused(long, "--subject red", &["too long", "would be cut off"]);
}
