//! The commands that run no experiment.

use std::fs;

use crate::support::{Scratch, check, succeed};

#[test]
fn list_says_what_each_paper_needs() {
    let said = succeed(Scratch::new().runner("list"));
    for part in [
        "diffgrad: ",
        "causal-trace: ",
        "diff-quickfix: ",
        "quick",
        "standard",
        "paper",
        "trials",
        "cifar10",
        "--dry-run",
    ] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
}

#[test]
fn claims_show_published_numbers_before_and_verdicts_after_a_run() {
    let scratch = Scratch::new();
    let before = succeed(scratch.toy("claims toy --out out"));
    assert!(
        before.contains("No results in out") && before.contains("published: fair 3.5, loaded 4"),
        "{before}"
    );
    succeed(scratch.toy("reproduce toy --out out"));
    let after = succeed(scratch.toy("claims toy --out out"));
    assert!(after.contains("SUPPORTED: ours ") && after.contains("(n = 4)"), "{after}");
}

#[test]
fn a_dry_run_lists_and_estimates_and_writes_nothing() {
    let scratch = Scratch::new();
    let said = succeed(scratch.toy("reproduce toy --out out --dry-run"));
    assert!(said.contains("8 trials, 0 done, 8 to run") && said.contains("table/fair seed 7"), "{said}");
    assert!(!scratch.path("out").exists());
}

#[test]
fn a_model_can_be_named_for_papers_about_one() {
    let scratch = Scratch::new();
    let refused = ["--model m: diffgrad is not about a model", "leave --model out"];
    check(scratch.runner("reproduce diffgrad --model m --dry-run"), 2, &refused);
    let said = succeed(scratch.runner("reproduce causal-trace --model m --dry-run"));
    assert!(said.contains("unet/style/style-00 seed 0"), "{said}");
    // A plan needs no model, a run does.
    let parts = ["data.model", "`m`", "-s data.model=DIR"];
    check(scratch.runner("reproduce causal-trace --model m --out out"), 2, &parts);
    assert!(!scratch.path("out").exists());
}

#[test]
fn results_go_to_the_repository_even_from_a_folder_within() {
    let scratch = Scratch::new();
    fs::create_dir_all(scratch.path("crates/deep")).unwrap();
    let mut run = scratch.toy("reproduce toy");
    run.current_dir(scratch.path("crates/deep"));
    succeed(run);
    assert!(scratch.path("results/toy/quick/report.html").exists());
}

#[test]
fn the_program_works_away_from_the_repository_with_its_built_in_experiments() {
    let (scratch, elsewhere) = (Scratch::new(), tempfile::tempdir().unwrap());
    let mut run = scratch.toy("reproduce toy --out here");
    run.current_dir(elsewhere.path());
    succeed(run);
    assert!(elsewhere.path().join("here/report.html").exists());
}

#[test]
fn schemas_are_written_compared_and_demanded_of_each_experiment() {
    let scratch = Scratch::new();
    check(scratch.toy("schema --check"), 2, &["experiments/schema/toy.json", "cargo xtask schema"]);
    succeed(scratch.toy("schema"));
    check(scratch.toy("schema --check"), 0, &[]);
    let schema = fs::read_to_string(scratch.path("experiments/schema/toy.json")).unwrap();
    assert!(schema.contains("draft-07") && schema.contains("turned into a six"), "{schema}");
    scratch.edit("experiments/toy/quick.yaml", "# yaml-language-server", "# language-server");
    check(scratch.toy("schema --check"), 2, &["quick.yaml:1: expected", "$schema=../schema/toy.json"]);
}

#[test]
fn the_shipped_schemas_are_what_the_code_says() {
    let scratch = Scratch::new();
    let mut schema = scratch.runner("schema --check");
    schema.current_dir(env!("CARGO_MANIFEST_DIR"));
    check(schema, 0, &[]);
}

#[test]
fn an_unknown_paper_is_answered_with_the_known_ones() {
    let scratch = Scratch::new();
    for line in ["reproduce difgrad", "claims difgrad", "report difgrad"] {
        check(scratch.runner(line), 2, &["`difgrad`", "diffgrad", "cargo xtask list"]);
    }
}

#[test]
fn a_trial_that_is_not_in_the_experiment_is_refused() {
    let scratch = Scratch::new();
    let line = "trial experiments/toy/quick.yaml 0123456789abcdef --out out --data data";
    check(scratch.toy(line), 1, &["0123456789abcdef", "--dry-run"]);
    check(scratch.toy("trial no.yaml 0123456789abcdef --out out --data data"), 1, &["no.yaml"]);
    assert_eq!(scratch.files("out"), [""; 0]);
}

#[test]
fn the_bench_prints_the_columns_of_the_pytorch_program_and_joins_its_rows() {
    let scratch = Scratch::new();
    let said = succeed(scratch.runner("bench cpu --only copy/f32/resnet50 --reps 3 --threads 1"));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], "name,median_ms,q1_ms,q3_ms,reps,device");
    assert!(lines[1].starts_with("copy/f32/resnet50/step,") && lines[1].ends_with(",3,cpu"), "{said}");
    scratch.write(
        "theirs.csv",
        "name,median_ms,q1_ms,q3_ms,reps,device\ncopy/f32/resnet50/step,1e6,1,1,7,cpu\n",
    );
    let said = succeed(scratch.runner("bench --only copy/f32/resnet50 --reps 1 --vs theirs.csv"));
    let ratio: f64 = said.lines().nth(1).unwrap().rsplit(',').next().unwrap().parse().unwrap();
    assert!(ratio > 1.0, "{said}");
    check(scratch.runner("bench --only nothing/"), 2, &["`nothing/`", "diffgrad/f32/flat100m/step"]);
    scratch.write("wrong.csv", "id,says\n");
    check(scratch.runner("bench --vs wrong.csv"), 2, &["wrong.csv:1:", "name,median_ms"]);
}

#[test]
fn data_sets_are_listed_with_licence_and_the_way_to_get_them() {
    let said = succeed(Scratch::new().runner("datasets list"));
    for part in ["cifar10: CIFAR-10", "cifar100: CIFAR-100", "licence", "cargo xtask datasets fetch cifar100"]
    {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    let said = succeed(Scratch::new().runner("datasets verify"));
    assert!(said.contains("No data set is here"), "{said}");
}
