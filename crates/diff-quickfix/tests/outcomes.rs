//! Small experiments, run from their file to their tables and figures.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use diff_quickfix::DIFF_QUICKFIX;
use lab::config::Document;
use lab::paper::{Outcome, Presentation, Reproduction, TrialContext};
use lab::row::Row;

const SMALL: &str = r#"
paper: diff-quickfix
scale: quick
about: A few captions and two steps.
data: {model: sd-mini, judge: sd-mini}
seeds: 1
arms:
  unedited: {label: unedited, method: unedited}
  diff_quickfix: {label: Diff-QuickFix, method: {diff_quickfix: {}}}
  layer_2: {label: layer 2, method: {diff_quickfix: {layer: 2}}}
  copy: {label: copied, method: embedding_copy}
  descent: {label: descent, method: {gradient_descent: {settings: {}, lr: 0.01, steps: 20, within: 0.01}}}
  uce: {label: UCE, method: {uce: {lambda: 0.5, tokens: last_subject, preserve: 1.0}}}
  time: {label: TIME, method: {time: {lambda: 0.1}}}
  loco_edit: {label: LocoEdit, method: {loco_edit: {lambda: 0.01, layers: [8, 9]}}}
  ablation: {label: Concept Ablation, method: {concept_ablation: {lr: 1.0e-3, steps: 2, batch: 2, anchors: 4}}}
  esd: {label: ESD, method: {esd: {lr: 1.0e-3, steps: 2, eta: 1.0, guidance: 3.0, sampler_steps: 3}}}
studies:
  identities: {identities: {edits: [bela_cruz, zimo_tonic, the_king_of_hills], lambda: 0.01}}
  editing:
    editing:
      arms: [unedited, diff_quickfix, layer_2, copy, descent, uce, time, loco_edit, ablation, esd]
      edits: [bela_cruz]
      asking: {phrase: 2, paraphrase: 1, concept_first: 1, surrounding: 2, unrelated: 2, anchor: 1}
      making: {steps: 2, guidance: 4.0}
      matching: {every: 1, within: 0.02}
      galleries: 1
  joint:
    joint:
      arm: diff_quickfix
      counts: [1, 3]
      asking: {phrase: 1, paraphrase: 0, concept_first: 0, surrounding: 2, unrelated: 2, anchor: 0}
      making: {steps: 2, guidance: 4.0}
claims: []
"#;

fn opened(text: &str) -> Result<Box<dyn Reproduction>, String> {
    let document = Document::parse("small.yaml", text).map_err(|error| error.to_string())?;
    DIFF_QUICKFIX.open(&document).map_err(|error| error.to_string())
}

/// Every row of every trial, and their folders.
fn run(reproduction: &dyn Reproduction, root: &Path) -> Outcome {
    let mut outcome = Outcome { rows: Vec::new(), trials: BTreeMap::new() };
    for trial in reproduction.trials(root).unwrap() {
        let folder = root.join(trial.key());
        std::fs::create_dir_all(&folder).unwrap();
        let mut context = TrialContext::new(&folder, &trial, root, "cpu", 1);
        reproduction.run(&trial, &mut context).unwrap();
        outcome.rows.extend(context.rows().to_vec());
        outcome.trials.insert(trial.key(), folder);
    }
    outcome
}

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
    let reproduction = opened(SMALL).unwrap();
    let outcome = run(&*reproduction, root.path());
    let of = |metric: &str, arm: &str| -> Vec<&Row> {
        outcome.rows.iter().filter(|row| row.metric == metric && row.arm == arm).collect()
    };
    let one = |metric: &str, arm: &str| of(metric, arm).first().map(|row| row.value);
    // What is exact.
    for row in outcome.rows.iter().filter(|row| row.metric == "identity_difference") {
        assert!(row.value < 1e-6, "{row:?}");
    }
    assert_eq!(one("tensors_changed", "model"), Some(1.0));
    assert!((one("share_of_stable_diffusions_unet", "model").unwrap() - 0.0686).abs() < 5e-5);
    assert!(one("release_no_op", "model").unwrap() > 1e-3);
    // Unedited pictures are the reference; every method but the first changes some.
    assert_eq!(one("interference", "unedited"), Some(0.0));
    for arm in ["diff_quickfix", "layer_2", "uce", "time", "loco_edit", "ablation", "esd"] {
        assert!(one("interference", arm).unwrap() > 0.0, "{arm}");
        assert!(one("flops", arm).unwrap() > 0.0 && one("parameters", arm).unwrap() > 0.0, "{arm}");
    }
    // Captions without the concept do not read its embeddings.
    assert_eq!(one("interference", "copy"), Some(0.0));
    assert_eq!(one("parameters", "diff_quickfix"), Some(96.0 * 96.0));
    assert_eq!(one("picture_seconds", "diff_quickfix"), Some(0.0));
    // A training goes on to its last step, and says when it had erased as much as the reference.
    assert_eq!(one("iterations", "ablation"), Some(2.0));
    // Where the edit erases something, that is.
    let erases = one("efficacy", "diff_quickfix").unwrap() >= 0.5;
    assert_eq!(one("seconds_to_match", "esd").is_some(), erases);
    assert_eq!(one("arrived", "ablation").is_some(), erases);
    assert!(one("seconds_to_match", "descent").is_none() && one("arrived", "descent").is_some());
    assert!(one("parameters", "esd").unwrap() > one("parameters", "ablation").unwrap());
    assert!(one("seconds_ratio", "esd").unwrap() > 1.0);
    assert_eq!(outcome.rows.iter().filter(|row| row.metric == "joint_leakage").count(), 2);
    let shown = reproduction.present(&outcome).unwrap();
    check(&shown);
    assert_eq!((shown.tables.len(), shown.pictures.len()), (6, 1));
    // What lacks rows is shown with what there is.
    let some =
        Outcome { rows: of("efficacy", "uce").into_iter().cloned().collect(), trials: BTreeMap::new() };
    check(&reproduction.present(&some).unwrap());
}

#[test]
fn wrong_experiments_are_told_with_their_place() {
    for (from, to, said) in [
        ("edits: [bela_cruz]", "edits: [van_dogh]", "bela_cruz, "),
        ("arm: diff_quickfix", "arm: diff_quickfux", "diff_quickfux"),
        ("counts: [1, 3]", "counts: [0]", "from 1 to 17"),
        ("arms: [unedited, ", "arms: [", "unedited"),
        ("{uce: {lambda: 0.5", "{uce: {lambda: 0.0", "above 0"),
        ("steps: 2, batch: 2", "steps: 2, batch: 0", "at least 1"),
        ("asking: {phrase: 2", "asking: {phrase: 0", "asking.phrase"),
        ("paraphrase: 1", "paraphrase: 65", "at most 64"),
    ] {
        assert!(SMALL.contains(from), "{from}");
        let error = opened(&SMALL.replacen(from, to, 1)).err().unwrap();
        assert!(error.contains(said) && error.contains("small.yaml:"), "{to}: {error}");
    }
}

#[test]
fn the_committed_experiments_open_and_their_trials_have_keys_of_their_own() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../experiments/diff-quickfix");
    for scale in ["quick", "standard", "paper"] {
        let document = Document::read(folder.join(format!("{scale}.yaml"))).unwrap();
        let reproduction = DIFF_QUICKFIX.open(&document).unwrap();
        let trials = reproduction.trials(Path::new("none")).unwrap();
        let keys: std::collections::BTreeSet<String> =
            trials.iter().map(lab::paper::TrialSpec::key).collect();
        assert_eq!(keys.len(), trials.len(), "{scale}");
        assert!(reproduction.header().claims.len() >= 12, "{scale}");
    }
}
