//! A small experiment, run from its file to its tables and figures.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use causal_trace::CAUSAL_TRACE;
use lab::config::Document;
use lab::paper::{Outcome, Presentation, TrialContext};

const SMALL: &str = r#"
paper: causal-trace
scale: quick
about: One caption and one step.
data: {model: sd-mini, judge: sd-mini}
seeds: 1
arms:
  style: {label: style, attribute: style}
studies:
  identities: {identities: {steps: 1}}
  unet:
    unet:
      arms: [style]
      captions: {count: 1, floor: 0.0, floor_class: 0.0, only_right: false}
      making: {steps: 1, guidance: 4.0, sigma: "std:10"}
      halves: [cond, uncond]
      controls: [clean, foreign]
      above: 0.3
      galleries: 1
  text:
    text:
      arms: [style]
      captions: {count: 1, floor: 0.0, floor_class: 0.0, only_right: false}
      making: {steps: 1, guidance: 4.0, sigma: "std:10"}
      parts: [self_attn, mlp]
      above: 0.3
  sweep:
    sweep:
      arms: [style]
      captions: 1
      making: {steps: 1, guidance: 4.0}
      sigmas: ["std:1", "std:10", "abs:0.1"]
claims: []
"#;

/// Tables that can be written and figures that can be drawn.
fn check(shown: &Presentation) {
    for table in &shown.tables {
        lab::table::csv(table).unwrap_or_else(|error| panic!("{}: {error}", table.id));
        lab::table::markdown(table).unwrap();
        assert!(table.rows.iter().all(|row| row.len() == table.columns.len()), "{}", table.id);
    }
    for figure in &shown.figures {
        lab::figure::render(figure).unwrap_or_else(|error| panic!("{}: {error}", figure.id));
    }
}

#[test]
fn an_experiment_runs_from_its_file_to_its_tables_and_figures() {
    let root = tempfile::tempdir().unwrap();
    let document = Document::parse("small.yaml", SMALL).unwrap();
    let reproduction = CAUSAL_TRACE.open(&document).unwrap();
    let mut outcome = Outcome { rows: Vec::new(), trials: BTreeMap::new() };
    for trial in reproduction.trials(root.path()).unwrap() {
        let folder = root.path().join(trial.key());
        std::fs::create_dir_all(&folder).unwrap();
        let mut context = TrialContext::new(&folder, &trial, root.path(), "cpu", 1);
        reproduction.run(&trial, &mut context).unwrap();
        outcome.rows.extend(context.rows().to_vec());
        outcome.trials.insert(trial.key(), folder);
    }
    for row in outcome.rows.iter().filter(|row| row.metric == "identity_difference") {
        assert_eq!(row.value, 0.0, "{row:?}");
    }
    let count = |metric: &str| outcome.rows.iter().filter(|row| row.metric == metric).count();
    // Clean, corrupted, and every component from either donor.
    assert!(count("score_clip") >= 142 && count("sweep_total_effect_clip") == 3);
    let derived = reproduction.derived(&outcome.rows);
    let all = Outcome { rows: [outcome.rows, derived].concat(), trials: outcome.trials };
    let shown = reproduction.present(&all).unwrap();
    check(&shown);
    assert!(shown.tables.len() >= 7 && !shown.figures.is_empty() && shown.pictures.len() == 1);
    check(&reproduction.present(&Outcome { rows: Vec::new(), trials: BTreeMap::new() }).unwrap());
}

#[test]
fn a_gate_that_reads_the_sweep_at_another_noise_than_the_study_has_is_refused() {
    let claim = |at: &str| {
        let claims = format!(
            r#"claims:
  - id: C
    says: a claim about the study unet
    source: {{where: here, version: "1", seen: derived}}
    test: {{check: {{metric: set_groups, arm: style, where: {{study: unet}}}}, expect: ">= 2"}}
    gates:
      - {{metric: clean_right, arm: style, where: {{study: unet}}, at_least: 0.9, because: it is not followed}}
      - {{metric: sweep_corrupted_right, arm: style, where: {{study: sweep, at: {at}, tags: {{unit: std}}}}, at_most: 0.2, because: it is left}}
"#
        );
        let text = SMALL.replace("claims: []\n", &claims);
        CAUSAL_TRACE.open(&Document::parse("small.yaml", &text).unwrap()).map(|_| ())
    };
    claim("10").unwrap();
    let said = claim("7").unwrap_err().to_string();
    assert!(
        ["claims.0.gates.1.where.at", "std:10", "std:7"].iter().all(|part| said.contains(part)),
        "{said}"
    );
}

#[test]
fn a_study_without_noise_is_warned_of() {
    let nothing = || Outcome { rows: Vec::new(), trials: BTreeMap::new() };
    let protocol = |text: &str| {
        let document = Document::parse("small.yaml", text).unwrap();
        CAUSAL_TRACE.open(&document).unwrap().present(&nothing()).unwrap().protocol
    };
    assert!(protocol(SMALL).iter().all(|line| !line.contains("Warning")));
    let still = SMALL.replacen("std:10", "abs:0", 1);
    let said = protocol(&still).into_iter().find(|line| line.contains("Warning")).unwrap_or_default();
    assert!(said.contains("`unet`") && said.contains("no effect to trace"), "{said}");
}
