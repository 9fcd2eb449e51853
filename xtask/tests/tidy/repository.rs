//! Rules on the repository as a whole: its weight, its experiments, and what its pages promise.

use std::collections::BTreeSet;

use crate::files::{File, root, tracked_sizes, with_extension};

const HEAVIEST_MB: u64 = 45;
/// A recipe, not a paper: it claims nothing.
const RECIPE: &str = "sd-mini";

fn experiments() -> Vec<File> {
    let mut files = with_extension(&["yaml"]);
    files.retain(|file| file.is(|path| path.starts_with("experiments/")));
    assert!(!files.is_empty(), "there is no experiment");
    files
}

fn paper_of(experiment: &File) -> String {
    let folder = experiment.path.parent().and_then(|folder| folder.file_name());
    folder.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn modeline(paper: &str) -> String {
    format!("# yaml-language-server: $schema=../schema/{paper}.json")
}

fn has_modeline(text: &str, paper: &str) -> bool {
    text.lines().next() == Some(modeline(paper).as_str())
}

/// The ids of the list under the top-level key `claims`.
fn claim_ids(yaml: &str) -> BTreeSet<String> {
    let claims = yaml.lines().skip_while(|line| !line.starts_with("claims:")).skip(1);
    let claims = claims.take_while(|line| line.is_empty() || line.starts_with([' ', '-', '#']));
    let id = |line: &str| {
        line.trim()
            .trim_start_matches("- ")
            .strip_prefix("id:")
            .map(|id| id.trim().trim_matches('"').to_owned())
    };
    claims.filter_map(id).collect()
}

/// The first column of a `claims.csv`.
fn judged_ids(csv: &str) -> BTreeSet<String> {
    let cells = csv.lines().skip(1).filter_map(|line| line.split_once(','));
    cells.map(|(id, _)| id.trim_matches('"').to_owned()).filter(|id| !id.contains(' ')).collect()
}

#[test]
fn the_checkout_is_light() {
    let total: u64 = tracked_sizes().iter().map(|(_, size)| size).sum();
    let mut heaviest = tracked_sizes();
    heaviest.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    heaviest.truncate(5);
    assert!(total > 0 && total < HEAVIEST_MB << 20, "{total} bytes are tracked; the heaviest: {heaviest:?}");
}

#[test]
fn every_experiment_names_its_schema_for_the_editor() {
    for experiment in experiments() {
        let paper = paper_of(&experiment);
        assert!(
            has_modeline(&experiment.text, &paper),
            "{}: line 1 must be\n{}",
            experiment.path.display(),
            modeline(&paper)
        );
        assert!(
            root().join(format!("experiments/schema/{paper}.json")).is_file(),
            "run `cargo xtask schema`"
        );
    }
}

#[test]
fn every_experiment_states_claims() {
    for experiment in experiments().into_iter().filter(|experiment| paper_of(experiment) != RECIPE) {
        assert!(!claim_ids(&experiment.text).is_empty(), "{} states no claim", experiment.path.display());
    }
}

#[test]
fn committed_verdicts_are_about_the_claims_as_they_stand() {
    for experiment in experiments() {
        let scale = experiment.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let judged = root().join("results").join(paper_of(&experiment)).join(&scale).join("claims.csv");
        if let Ok(csv) = std::fs::read_to_string(&judged) {
            let (stated, judged_now) = (claim_ids(&experiment.text), judged_ids(&csv));
            assert_eq!(stated, judged_now, "{} is stale: run `cargo xtask report` again", judged.display());
        }
    }
}

#[test]
fn the_readme_names_each_paper_and_command() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for experiment in experiments() {
        assert!(readme.contains(&paper_of(&experiment)), "README.md does not name {}", paper_of(&experiment));
    }
    for command in [
        "cargo xtask reproduce",
        "cargo xtask claims",
        "cargo test --workspace",
        "cargo xtask datasets",
        "cargo xtask generate",
        "cargo xtask train sd-mini",
        "cargo xtask worlds show",
    ] {
        assert!(readme.contains(command), "README.md does not name `{command}`");
    }
}

#[test]
fn each_rule_finds_what_it_is_for() {
    assert!(has_modeline("# yaml-language-server: $schema=../schema/p.json\npaper: p\n", "p"));
    assert!(!has_modeline("paper: p\n# yaml-language-server: $schema=../schema/p.json\n", "p"));
    assert!(!has_modeline("# yaml-language-server: $schema=../schema/q.json\n", "p"));
    let yaml = "seeds: 1\nclaims:\n  - id: C1a\n    says: x\n  # more\n\n  - says: y\n    id: \"K2\"\nstudies:\n  - id: no\n";
    assert_eq!(claim_ids(yaml), BTreeSet::from(["C1a".to_owned(), "K2".to_owned()]));
    assert_eq!(judged_ids("id,says\nC1a,x\n\"K2\",\"y, z\"\n"), claim_ids(yaml));
    assert_ne!(judged_ids("id,says\nC1a,x\n"), claim_ids(yaml));
}
