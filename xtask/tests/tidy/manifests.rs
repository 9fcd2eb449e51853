//! Rules on what a crate may depend on: the direction of the workspace, and what the bench and the engine do not know.

use crate::files::{File, root, with_extension};

const PAPERS: [&str; 6] = ["causal-trace", "diff-quickfix", "diffeditor", "diffgrad", "diffmatch", "diffste"];
/// Papers that others may use: the optimisers of one, the edits of the UNet of the other.
const SHARED_PAPERS: [&str; 2] = ["diffgrad", "diff-quickfix"];
const TENSORS: [&str; 14] = [
    "burn",
    "candle",
    "candle-core",
    "candle-datasets",
    "candle-nn",
    "candle-transformers",
    "cudarc",
    "faer",
    "gemm",
    "nalgebra",
    "ndarray",
    "safetensors",
    "sd-core",
    "tch",
];
const BENCH: [&str; 4] = ["lab", "serde_yaml", "serde-saphyr", "worlds"];
const HEAVY: [&str; 9] =
    ["candle-core", "candle-nn", "diffgrad", "lab", "polars", "plotters", "runner", "sd-core", "worlds"];

/// Names of the ordinary and build dependencies of a manifest (those of the tests left out).
fn dependencies(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut listing = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            let (section, name) = split_table(table);
            listing = section && name.is_none();
            found.extend(name.filter(|_| section));
        } else if listing && !line.is_empty() && !line.starts_with('#') {
            found.push(line.split(['.', '=', ' ']).next().unwrap_or_default().trim_matches('"').to_owned());
        }
    }
    found
}

/// Whether a table lists dependencies, and of which one it is the table (`[dependencies.serde]`).
fn split_table(table: &str) -> (bool, Option<String>) {
    let after =
        |key: &str| table.rsplit_once(key).filter(|(before, _)| before.is_empty() || before.ends_with('.'));
    let found = after("build-dependencies")
        .or_else(|| after("dependencies"))
        .filter(|(before, _)| !before.ends_with("dev-"));
    match found {
        Some((_, rest)) => (true, rest.strip_prefix('.').map(str::to_owned)),
        None => (false, None),
    }
}

fn crate_name(manifest: &File) -> String {
    let folder = manifest.path.parent().and_then(|folder| folder.file_name());
    folder.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

/// The dependencies of crate `name` that it must not have.
fn forbidden(name: &str, dependencies: &[String]) -> Vec<String> {
    let is = |list: &[&str], dependency: &String| list.contains(&dependency.as_str());
    let bad = |dependency: &&String| match name {
        "lab" => is(&TENSORS, dependency) || is(&PAPERS, dependency) || *dependency == "worlds",
        "sd-core" => is(&BENCH, dependency) || is(&PAPERS, dependency),
        "worlds" => is(&PAPERS, dependency) || *dependency == "lab",
        "cli" | "xtask" => is(&HEAVY, dependency),
        paper if PAPERS.contains(&paper) => is(&PAPERS, dependency) && !is(&SHARED_PAPERS, dependency),
        _ => false,
    };
    dependencies.iter().filter(bad).cloned().collect()
}

/// Those of the workspace: programs under `tools` stand alone, for what they depend on nothing else needs.
fn members() -> Vec<File> {
    let mut manifests = with_extension(&["toml"]);
    manifests.retain(|file| file.is(|path| path.ends_with("/Cargo.toml") && !path.starts_with("tools/")));
    manifests
}

#[test]
fn dependencies_point_one_way() {
    for manifest in members() {
        let name = crate_name(&manifest);
        let bad = forbidden(&name, &dependencies(&manifest.text));
        assert!(bad.is_empty(), "{name} must not depend on {bad:?}: see ARCHITECTURE.md, invariants");
    }
}

#[test]
fn every_member_takes_the_lints_and_versions_of_the_workspace() {
    for manifest in members() {
        let name = manifest.path.display();
        assert!(manifest.text.contains("[lints]\nworkspace = true"), "{name} has its own lints");
        let own = own_versions(&manifest.text);
        assert!(
            own.is_empty(),
            "{name} names a version of its own: {own:?}; put it into the workspace's table"
        );
    }
}

/// Lines of the dependency tables, those of the tests included, that say more than that the workspace decides.
fn own_versions(manifest: &str) -> Vec<&str> {
    let mut listing = false;
    let own = |line: &&str| {
        if line.starts_with('[') {
            listing = line.contains("dependencies");
        }
        listing && (line.contains("version") || line.contains("= \""))
    };
    manifest.lines().filter(own).collect()
}

#[test]
fn candle_is_pinned_exactly_and_alone() {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
    let candle: Vec<&str> = manifest.lines().filter(|line| line.starts_with("candle-")).collect();
    assert!(!candle.is_empty());
    for line in candle {
        assert!(
            line.contains("\"=0."),
            "pin candle exactly, its gradients were checked at one version: {line}"
        );
    }
}

#[test]
fn a_manifest_is_read_as_cargo_reads_it() {
    let manifest = "[package]\nname = \"x\"\n\n[dependencies]\nanyhow.workspace = true\nserde = { version = \"1\" }\n# note\n\n\
                    [dev-dependencies]\ninsta = \"1\"\n\n[dependencies.candle-core]\nworkspace = true\n\n\
                    [build-dependencies]\ncc = \"1\"\n\n[target.'cfg(unix)'.dependencies]\nlibc = \"0.2\"\n\n[lints]\nworkspace = true\n";
    assert_eq!(dependencies(manifest), ["anyhow", "serde", "candle-core", "cc", "libc"]);
    assert_eq!(own_versions(manifest).len(), 4);
}

#[test]
fn each_direction_that_is_forbidden_is_found() {
    let depends = |name: &str, on: &str| !forbidden(name, &[on.to_owned()]).is_empty();
    assert!(depends("lab", "candle-core") && depends("lab", "sd-core") && depends("lab", "diffgrad"));
    assert!(depends("sd-core", "lab") && depends("sd-core", "serde_yaml") && depends("sd-core", "diffgrad"));
    assert!(depends("diffste", "diffmatch") && depends("diffgrad", "diffeditor"));
    assert!(depends("xtask", "polars") && depends("cli", "lab") && depends("worlds", "lab"));
    assert!(!depends("diffste", "diffgrad") && !depends("runner", "diffgrad") && !depends("lab", "polars"));
}
