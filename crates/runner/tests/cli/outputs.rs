//! What a run leaves: the files that other programs read, and what `report` makes of them again.

use std::fs;

use crate::support::{Scratch, check, succeed};

const HEADER: &str = "id,says,source,published,ours,ci_low,ci_high,n,verdict,note";

#[test]
fn a_run_leaves_the_promised_files() {
    let scratch = Scratch::new();
    succeed(scratch.toy("reproduce toy --out out"));
    let there = scratch.files("out");
    for wanted in [
        "run.json",
        "claims.csv",
        "rows.parquet",
        "report.html",
        "tables/means.csv",
        "tables/means.md",
        "figures/means.svg",
    ] {
        assert!(there.iter().any(|name| name == wanted), "{wanted} is not among {there:?}");
    }
    let claims = fs::read_to_string(scratch.path("out/claims.csv")).unwrap();
    assert_eq!(claims.lines().next(), Some(HEADER));
    assert!(claims.contains("supported"), "{claims}");
    let run: serde_json::Value =
        serde_json::from_slice(&fs::read(scratch.path("out/run.json")).unwrap()).unwrap();
    assert_eq!(run["paper"], "toy");
    assert_eq!(run["config"]["studies"]["table"]["pause_ms"], 0, "defaults are written out");
}

#[test]
fn the_report_needs_nothing_but_itself() {
    let scratch = Scratch::new();
    succeed(scratch.toy("reproduce toy --out out"));
    let page = fs::read_to_string(scratch.path("out/report.html")).unwrap();
    for outside in ["src=\"http", "src=\"//", "<link", "@import", "url(http"] {
        assert!(!page.contains(outside), "report.html refers to something outside itself: {outside}");
    }
    assert!(page.contains("viewport") && page.contains("A loaded die shows more"));
}

#[test]
fn the_report_is_written_again_without_running() {
    let scratch = Scratch::new();
    succeed(scratch.toy("reproduce toy --out out"));
    let read = |name: &str| fs::read(scratch.path("out").join(name)).unwrap();
    let before = (read("claims.csv"), read("tables/means.csv"), read("rows.parquet"));
    fs::remove_dir_all(scratch.path("out/trials")).unwrap();
    fs::remove_file(scratch.path("out/report.html")).unwrap();
    succeed(scratch.toy("report toy --out out"));
    assert_eq!(before, (read("claims.csv"), read("tables/means.csv"), read("rows.parquet")));
    assert!(scratch.path("out/report.html").exists());
}

#[test]
fn rows_that_are_cut_off_or_something_else_are_refused() {
    let scratch = Scratch::new();
    succeed(scratch.toy("reproduce toy --out out"));
    let whole = fs::read(scratch.path("out/rows.parquet")).unwrap();
    let wrong = [&whole[..whole.len() / 2], &whole[..3], b"id,says\nC1,x\n", b""];
    for content in wrong {
        scratch.write("out/rows.parquet", content);
        check(scratch.toy("claims toy --out out"), 2, &["out/rows.parquet", "expected"]);
        let report = scratch.toy("report toy --out out").output().unwrap();
        assert!(!report.status.success() && String::from_utf8_lossy(&report.stderr).contains("rows.parquet"));
    }
}

#[test]
fn a_report_of_nothing_says_what_to_run_first() {
    let said = check(Scratch::new().toy("report toy --out out"), 1, &["out/rows.parquet"]);
    assert!(!said.contains("panicked"), "{said}");
}
