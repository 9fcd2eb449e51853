//! Every message that a wrong experiment file gives, whole, as a user reads it.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::*;

#[derive(Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    paper: String,
    seeds: u32,
    #[serde(default)]
    shuffle: bool,
    #[serde(default)]
    arms: BTreeMap<String, Arm>,
    #[serde(default)]
    studies: Vec<Study>,
}

#[derive(Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Arm {
    lr: f64,
    #[serde(default)]
    decay: Option<f32>,
}

#[derive(Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Study {
    Train { epochs: u32 },
    Look,
    Kind(Kind),
}

#[derive(Debug, PartialEq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Kind {
    Grid { points: u32 },
}

const GOOD: &str = "\
# comment
paper: toy
seeds: 3
arms:
  adam:
    lr: 1e-3
  dg1.5:
    lr: 1
    decay: null
studies:
  - train: {epochs: 5}
  - look
  - kind: {kind: grid, points: 9}
";

fn refused(text: &str) -> String {
    let document = match Document::parse("a.yaml", text) {
        Ok(document) => document,
        Err(error) => return error.to_string(),
    };
    document.decode::<File>().unwrap_err().to_string()
}

fn good() -> Document {
    Document::parse("a.yaml", GOOD).unwrap()
}

fn overridden(typed: &[&str]) -> Result<File, ConfigError> {
    let typed: Vec<String> = typed.iter().map(|&word| word.to_owned()).collect();
    good().with_overrides(&typed)?.decode()
}

#[test]
fn a_good_file_decodes() {
    let file: File = good().decode().unwrap();
    assert_eq!(file.arms["adam"], Arm { lr: 1e-3, decay: None });
    assert_eq!(file.arms["dg1.5"].lr, 1.0);
    assert_eq!(
        file.studies,
        [Study::Train { epochs: 5 }, Study::Look, Study::Kind(Kind::Grid { points: 9 })]
    );
}

#[test]
fn unknown_key_points_at_the_key_and_suggests() {
    let text = GOOD.replace("    decay: null", "    decai: null");
    assert_eq!(
        refused(&text),
        "a.yaml:9:5: unknown key `decai` in `arms.dg1.5`\n  expected: one of `decay`, `lr`\n  help: did you mean `decay`?"
    );
    assert_eq!(
        refused("paper: toy\nseeds: 1\nxyzzy: 1\n"),
        "a.yaml:3:1: unknown key `xyzzy` at the top level\n  \
         expected: one of `arms`, `paper`, `seeds`, `shuffle`, `studies`"
    );
}

#[test]
fn unknown_key_inside_a_tagged_enum_still_has_its_place() {
    let text = GOOD.replace("points: 9", "points: 9, poinst: 8");
    assert_eq!(
        refused(&text),
        "a.yaml:13:35: unknown key `poinst` in `studies.2.kind`\n  expected: one of `points`\n  \
         help: did you mean `points`?"
    );
}

#[test]
fn wrong_kind_of_value() {
    assert_eq!(
        refused(&GOOD.replace("lr: 1e-3", "lr: fast")),
        "a.yaml:6:5: `arms.adam.lr` has a value of the wrong kind\n  expected: a number\n  found: string \"fast\""
    );
    assert_eq!(
        refused(&GOOD.replace("seeds: 3", "seeds: -3")),
        "a.yaml:3:1: `seeds` has a value of the wrong kind\n  expected: a whole number of at least 0\n  found: integer `-3`"
    );
    assert_eq!(
        refused(&GOOD.replace("paper: toy", "paper: 12")),
        "a.yaml:2:1: `paper` has a value of the wrong kind\n  expected: text\n  found: integer `12`\n  \
         help: put it in quotes to make it text"
    );
    assert_eq!(
        refused(&GOOD.replace("{epochs: 5}", "{epochs: [5]}")),
        "a.yaml:11:13: `studies.0.train.epochs` has a value of the wrong kind\n  expected: a whole number of at least 0\n  found: sequence"
    );
}

#[test]
fn booleans_are_those_of_yaml_1_2() {
    assert_eq!(
        refused(&GOOD.replace("seeds: 3", "seeds: 3\nshuffle: yes")),
        "a.yaml:4:1: `shuffle` has a value of the wrong kind\n  expected: `true` or `false`\n  found: string \"yes\"\n  \
         help: a yes or no is written `true` or `false`"
    );
    let on = Document::parse("a.yaml", &GOOD.replace("seeds: 3", "seeds: 3\nshuffle: true")).unwrap();
    assert!(on.decode::<File>().unwrap().shuffle);
}

#[test]
fn missing_key_and_unknown_variant() {
    assert_eq!(
        refused(&GOOD.replace("    lr: 1\n", "")),
        "a.yaml:7:3: key `lr` is missing in `arms.dg1.5`\n  help: add `lr: …`"
    );
    assert_eq!(
        refused("seeds: 1\n"),
        "a.yaml:1:1: key `paper` is missing at the top level\n  help: add `paper: …`"
    );
    assert_eq!(
        refused(&GOOD.replace("- look", "- lok")),
        "a.yaml:12:5: `studies.1` cannot be `lok`\n  expected: one of `kind`, `look`, `train`\n  found: `lok`\n  \
         help: did you mean `look`?"
    );
}

#[test]
fn duplicate_keys_are_refused_where_the_second_stands() {
    assert_eq!(
        refused(&GOOD.replace("    lr: 1\n", "    lr: 1\n    lr: 2\n")),
        "a.yaml:9:5: key `lr` stands here a second time\n  help: keep one of them"
    );
}

#[test]
fn what_is_no_yaml_has_a_place() {
    let message = refused("paper: toy\nseeds: [1, 2\n");
    assert!(message.starts_with("a.yaml:") && message.contains(": not YAML: "), "{message}");
    assert!(message.split(':').nth(1).unwrap().parse::<u64>().unwrap() >= 2, "{message}");
    assert_eq!(
        refused("- 1\n- 2\n"),
        "a.yaml:1:1: the document does not make sense\n  expected: a mapping (`key: value` lines)\n  found: a list of 2"
    );
    assert!(refused("").contains("expected: a mapping"));
    assert!(refused("paper: toy\n---\npaper: toy\n").starts_with("a.yaml:"));
}

/// Ten levels of nine aliases each, and a long tail of them: 160 KB that would unfold to 9^10 nodes.
fn bomb() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..10 {
        let below = format!("*a{}", level - 1);
        text += &format!("a{level}: &a{level} [{}]\n", vec![below; 9].join(", "));
    }
    text += &format!("tail: [{}]\n", vec!["*a9"; 32_000].join(", "));
    assert!(text.len() > 160_000);
    text
}

#[test]
fn an_alias_bomb_is_refused_before_it_unfolds() {
    let started = Instant::now();
    let message = refused(&bomb());
    assert!(
        message.contains(": asks for more memory than an experiment file may (budget breached: "),
        "{message}"
    );
    assert!(message.ends_with("\n  help: write it out with fewer aliases and less nesting"), "{message}");
    // Unfolded it would take days and all memory there is: this bound only tells refusal from unfolding.
    assert!(started.elapsed().as_secs() < 30);
    // A plain anchor stays allowed.
    let document = Document::parse("a.yaml", "a: &x {lr: 1}\nb: *x\n").unwrap();
    assert_eq!(document.decode::<BTreeMap<String, Arm>>().unwrap()["b"].lr, 1.0);
}

#[test]
fn deep_nesting_and_long_texts_are_refused() {
    let deep = format!("a: {}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(Document::parse("a.yaml", &deep).is_err());
    let long = "x".repeat(yaml::MAX_BYTES + 1);
    let message = Document::parse("a.yaml", &long).unwrap_err().to_string();
    assert_eq!(message, "a.yaml: the text has 1048577 bytes; at most 1048576 are read");
}

#[test]
fn a_missing_file_and_a_folder_are_named() {
    let message = Document::read("/nowhere/quick.yaml").unwrap_err().to_string();
    assert!(
        message.starts_with("/nowhere/quick.yaml: cannot read the experiment file: No such file"),
        "{message}"
    );
    assert!(
        message.ends_with("help: check the path; the shipped ones are experiments/<paper>/<scale>.yaml"),
        "{message}"
    );
    let folder = tempfile::tempdir().unwrap();
    assert!(Document::read(folder.path()).unwrap_err().to_string().contains("Is a directory"));
}

#[test]
fn semantic_errors_point_at_their_key() {
    let document = Document::parse("a.yaml", &GOOD.replace("lr: 1e-3", "lr: .nan")).unwrap();
    let file: File = document.decode().unwrap();
    let error = check_range(&document, "arms.adam.lr", file.arms["adam"].lr, 0.0, f64::INFINITY).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a.yaml:6:5: `arms.adam.lr` does not make sense\n  expected: a finite number of at least 0\n  found: `NaN`"
    );
    assert_eq!(error.line_column(), Some((6, 5)));
    assert_eq!(document.check_finite().unwrap_err().line_column(), Some((6, 5)));
    // A key with a dot, a list item, and a default that is not written.
    assert_eq!(document.error_at("arms.dg1.5.lr", "", "", "").line_column(), Some((8, 5)));
    assert_eq!(document.error_at("studies.1", "", "", "").line_column(), Some((12, 5)));
    assert_eq!(document.error_at("arms.adam.decay", "", "", "").line_column(), Some((5, 3)));
    assert!(good().check_finite().is_ok());
}

#[test]
fn overrides_replace_and_add() {
    let file =
        overridden(&["seeds=8", "arms.adam.lr=5e-4", "arms.adam.decay=0.1", "arms.dg1.5.lr=2"]).unwrap();
    assert_eq!(file.seeds, 8);
    assert_eq!(file.arms["adam"], Arm { lr: 5e-4, decay: Some(0.1) });
    assert_eq!(file.arms["dg1.5"].lr, 2.0);
    let file = overridden(&["arms={sgd: {lr: 1}}", "arms.sgd.lr=3", "studies.0.train.epochs=7"]).unwrap();
    assert_eq!(file.arms.keys().collect::<Vec<_>>(), ["sgd"]);
    assert_eq!((file.arms["sgd"].lr, &file.studies[0]), (3.0, &Study::Train { epochs: 7 }));
}

#[test]
fn wrong_overrides_say_that_they_came_from_the_command_line() {
    let said = |typed: &str| overridden(&[typed]).unwrap_err().to_string();
    assert_eq!(
        said("arms.adm.lr=1"),
        "command line, -s arms.adm.lr=1 (applied to a.yaml): there is no `adm` in `arms`\n  \
         expected: `adam`, `dg1.5`\n  help: did you mean `adam`?"
    );
    assert_eq!(
        said("arms.adam.lrr=1"),
        "command line, -s arms.adam.lrr=1 (applied to a.yaml): unknown key `lrr` in `arms.adam`\n  \
         expected: one of `decay`, `lr`\n  help: did you mean `lr`?"
    );
    assert_eq!(
        said("seed=1"),
        "command line, -s seed=1 (applied to a.yaml): unknown key `seed` at the top level\n  \
         expected: one of `arms`, `paper`, `seeds`, `shuffle`, `studies`\n  help: did you mean `seeds`?"
    );
    assert_eq!(
        said("seeds=many"),
        "command line, -s seeds=many (applied to a.yaml): `seeds` has a value of the wrong kind\n  \
         expected: a whole number of at least 0\n  found: string \"many\""
    );
    assert!(said("studies.7.train=1").contains("there is no `7` in `studies`\n  expected: `0`, `1`, `2`"));
    assert!(said("seeds").contains("not an override\n  expected: key.path=value"));
    assert!(said("seeds=[1").contains("the value is not YAML"));
}

#[test]
fn errors_below_an_override_know_it_and_others_keep_their_line() {
    let document = good().with_overrides(&["arms.adam.lr=.inf".to_owned()]).unwrap();
    let error = document.error_at("arms.adam.lr", "a finite number", "`inf`", "").to_string();
    assert!(error.starts_with("command line, -s arms.adam.lr=.inf (applied to a.yaml): "), "{error}");
    assert_eq!(document.error_at("arms.dg1.5.lr", "", "", "").line_column(), Some((8, 5)));
}

#[test]
fn written_and_read_again_it_is_the_same() {
    let text = "a: 0.1\nb: [1, -2, 18446744073709551615, 1e300, .nan, -.inf, true, null]\n\
                c: {\"1\": \"yes\", d: \"\", e: \"a: b # c\\n\\u00e9\", f: \"1e3\"}\ng: {}\nh: []\n";
    let document = Document::parse("a.yaml", text).unwrap();
    let again = Document::parse("b.yaml", &document.to_yaml().unwrap()).unwrap();
    let value = |document: &Document| format!("{:?}", document.decode::<BTreeMap<String, Plain>>().unwrap());
    assert_eq!(value(&document), value(&again));
    assert!(value(&again).contains("Text(\"1e3\")"), "{}", value(&again));
}

/// Any scalar with its type, so that `"yes"` and `true`, `"1e3"` and `1e3` are told apart.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
#[allow(dead_code)]
enum Plain {
    Bool(bool),
    Uint(u64),
    Int(i64),
    Float(f64),
    Text(String),
    List(Vec<Plain>),
    Map(BTreeMap<String, Plain>),
    Null(()),
}

#[test]
fn unreadable_bytes_are_no_panic() {
    // Every prefix of a good file, and every file with one byte replaced, is read or refused.
    for end in 0..GOOD.len() {
        let _ = Document::parse("a.yaml", &GOOD[..end]).map(|document| document.decode::<File>());
        for byte in ["\t", "\0", "&", "*", "{", "-", ":", "\"", "|", "%"] {
            let text = format!("{}{byte}{}", &GOOD[..end], &GOOD[end + 1..]);
            let _ = Document::parse("a.yaml", &text).map(|document| document.decode::<File>());
        }
    }
}
