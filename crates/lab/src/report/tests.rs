//! The files of a report, what the page must hold, and what must never reach it.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::claim::{Claim, Verdict};
use crate::experiment::Scale;
use crate::figure::{Axis, Content, Figure, Panel};
use crate::paper::Picture;
use crate::table::{Cell, Table};

fn claim(id: &str, says: &str) -> Claim {
    serde_json::from_value(json!({
        "id": id, "says": says, "source": {"where": "Table I", "version": "v1", "seen": "in-text"}, "unit": "% top-1",
        "published": {"new": 94.08, "old": null}, "note": "as printed",
        "test": {"paired": {"metric": "acc", "a": "new", "b": "old"}, "expect": "> 0"},
    }))
    .unwrap()
}

fn header(claims: Vec<Claim>) -> Header {
    Header {
        paper: "invented".into(),
        scale: Scale::Quick,
        about: "Invented.".into(),
        data: BTreeMap::from([("pictures".into(), "shapes10".into())]),
        seed: 1,
        seeds: 3,
        claims,
    }
}

fn judgement(verdict: Verdict) -> Judgement {
    Judgement {
        claim: "C1".into(),
        verdict,
        ours: Some(0.361_234),
        low: Some(0.1),
        high: Some(0.622_468),
        n: 5,
        note: "arm `new` & co".into(),
    }
}

fn presentation() -> Presentation {
    let table = Table {
        id: "acc".into(),
        title: "Accuracy".into(),
        caption: String::new(),
        columns: vec!["arm".into(), "ours".into()],
        rows: vec![vec!["a".into(), Cell::Number(0.5, 1)], vec!["b".into(), Cell::Missing]],
    };
    let panel = Panel {
        title: String::new(),
        x: Axis::default(),
        y: Axis::default(),
        content: Content::Lines(vec![]),
    };
    let figure = Figure {
        id: "curve".into(),
        title: "t".into(),
        caption: String::new(),
        panels: vec![panel],
        columns: 1,
    };
    let picture = Picture {
        id: "dot".into(),
        title: "t".into(),
        caption: String::new(),
        png: b"\x89PNG\r\n\x1a\n..".to_vec(),
    };
    Presentation {
        tables: vec![table],
        figures: vec![figure],
        pictures: vec![picture],
        metrics: vec![("acc".into(), "Accuracy.".into())],
        protocol: vec!["Paired.".into()],
    }
}

/// Runs `with` on a report of one claim.
fn reported<T>(says: &str, shown: &Presentation, run: &Value, with: impl FnOnce(&Report) -> T) -> T {
    let header = header(vec![claim("C1", says)]);
    with(&Report {
        header: &header,
        title: "A title",
        citation: "A citation",
        judgements: &[judgement(Verdict::Supported)],
        presentation: shown,
        run,
        rows: &[],
    })
}

fn page(says: &str, run: Value) -> String {
    reported(says, &presentation(), &run, |report| html(report).unwrap())
}

#[test]
fn every_file_is_written_and_the_same_twice() {
    let folder = tempfile::tempdir().unwrap();
    reported("so", &presentation(), &json!({}), |report| {
        write_all(folder.path(), report).unwrap();
        for (name, bytes) in files(report).unwrap() {
            assert_eq!(std::fs::read(folder.path().join(&name)).unwrap(), bytes, "{name}");
        }
        let names: Vec<String> = files(report).unwrap().into_iter().map(|(name, _)| name).collect();
        let expected = [
            "claims.csv",
            "tables/acc.csv",
            "tables/acc.md",
            "figures/curve.svg",
            "figures/dot.png",
            "figures/pictures.json",
            "report.html",
        ];
        assert_eq!(names, expected);
    });
}

#[test]
fn pictures_of_an_earlier_report_are_kept_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let picture = |id: &str, title: &str| Picture {
        id: id.into(),
        title: title.into(),
        caption: "\"so\"".into(),
        png: [b"\x89PNG\r\n\x1a\n", title.as_bytes()].concat(),
    };
    assert!(with_kept(folder.path(), Vec::new()).unwrap().is_empty(), "nothing was there");
    let pictures = vec![picture("a", "old"), picture("b", "old"), picture("c", "old")];
    let shown = Presentation { pictures, ..presentation() };
    reported("so", &shown, &json!({}), |report| write_all(folder.path(), report).unwrap());
    let all = with_kept(folder.path(), vec![picture("d", "new"), picture("b", "new")]).unwrap();
    let told: Vec<(&str, &str)> = all.iter().map(|one| (one.id.as_str(), one.title.as_str())).collect();
    assert_eq!(told, [("a", "old"), ("b", "new"), ("c", "old"), ("d", "new")]);
    assert!(all.iter().all(|one| one.png.ends_with(one.title.as_bytes()) && one.caption == "\"so\""));
    std::fs::remove_file(folder.path().join("figures/c.png")).unwrap();
    let message = format!("{:#}", with_kept(folder.path(), Vec::new()).unwrap_err());
    assert!(message.contains("figures/c.png"), "{message}");
    std::fs::write(folder.path().join("figures/pictures.json"), "{}").unwrap();
    let message = format!("{:#}", with_kept(folder.path(), Vec::new()).unwrap_err());
    assert!(message.contains("pictures.json: expected a list of `id`, `title` and `caption`"), "{message}");
}

#[test]
fn claims_csv_has_the_columns_that_programs_read() {
    let text = reported("so, \"it\" is", &presentation(), &json!({}), |report| {
        String::from_utf8(files(report).unwrap().remove(0).1).unwrap()
    });
    let expected = "id,says,source,published,ours,ci_low,ci_high,n,verdict,note\n\
                    C1,\"so, \"\"it\"\" is\",Table I; v1; in the text,new 94.08; old not found (% top-1),\
                    0.361234,0.1,0.622468,5,supported,arm `new` & co — as printed\n";
    assert_eq!(text, expected);
}

#[test]
fn numbers_are_shown_as_far_as_their_interval_allows() {
    let shown = claims::ours(&judgement(Verdict::Supported));
    assert_eq!(shown, Some(("0.36".into(), Some("[0.10, 0.62]".into()))));
    let exact =
        Judgement { low: None, high: None, ours: Some(23_520_842.0), ..judgement(Verdict::Supported) };
    assert_eq!(claims::ours(&exact), Some(("23520842".into(), None)));
    let point =
        Judgement { low: Some(0.5), high: Some(0.5), ours: Some(0.5), ..judgement(Verdict::Supported) };
    assert_eq!(claims::ours(&point).unwrap().0, "0.5000");
}

#[test]
fn the_page_opens_with_the_verdicts() {
    let page = page("it holds", json!({"command": "cargo xtask reproduce invented -s seeds=3"}));
    let order =
        ["it holds", "id=\"protocol\"", "id=\"tables\"", "id=\"figures\"", "id=\"again\"", "-s seeds=3"];
    let places: Vec<usize> = order.iter().map(|part| page.find(part).unwrap()).collect();
    assert!(places.is_sorted(), "{places:?}");
    assert!(page.contains("✓ supported") && page.contains("arm <code>new</code> &amp; co"));
}

#[test]
fn the_page_needs_no_network_and_no_script() {
    let page = page("so", json!({}));
    assert!(!page.contains("<script") && !page.contains("<link") && !page.contains("@import"));
    for (place, _) in page.match_indices("http") {
        assert!(page[place..].starts_with("http://www.w3.org/2000/svg"), "{}", &page[place..place + 60]);
    }
    assert!(page.contains("src=\"data:image/png;base64,"));
}

#[test]
fn text_of_an_experiment_cannot_become_markup() {
    let page = page("<img src=x onerror=alert(1)>", json!({"device": "<b>", "command": "a && b <c>"}));
    assert!(!page.contains("<img src=x") && page.contains("&lt;img src=x"));
    assert!(!page.contains("<b>cpu") && page.contains("a &amp;&amp; b &lt;c&gt;"));
}

#[test]
fn a_run_that_says_nothing_still_has_a_command() {
    assert!(page("so", json!({})).contains("cargo xtask reproduce invented --scale quick"));
    assert!(page("so", Value::Null).contains("cargo xtask reproduce invented --scale quick"));
}

#[test]
fn ids_that_would_leave_the_folder_or_clash_are_refused() {
    for id in ["../x", "", "a b", "a/b"] {
        let mut shown = presentation();
        shown.tables[0].id = id.into();
        let message = reported("so", &shown, &json!({}), |report| files(report).unwrap_err().to_string());
        assert!(message.contains("table `") && message.contains("expected an id"), "{message}");
    }
    let mut shown = presentation();
    shown.pictures[0].id = "Curve".into();
    let message = reported("so", &shown, &json!({}), |report| files(report).unwrap_err().to_string());
    assert!(message.contains("found it twice"), "{message}");
}

#[test]
fn what_is_no_png_is_refused_before_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut shown = presentation();
    shown.pictures[0].png = b"GIF89a".to_vec();
    let message = reported("so", &shown, &json!({}), |report| {
        write_all(folder.path(), report).unwrap_err().to_string()
    });
    assert!(message.contains("picture `dot`: expected a PNG file, found 6 bytes"), "{message}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
