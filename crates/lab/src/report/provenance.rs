//! How to run it again, and on what it was run: the facts of `run.json`, in words where the bench knows them.

use maud::{Markup, html};
use serde_json::Value;

use super::Report;
use super::page::scale;
use crate::yaml;

/// The exact command and what it needs.
pub(super) fn again(report: &Report) -> Markup {
    let written = report.run.get("command").and_then(Value::as_str);
    let usual =
        format!("cargo xtask reproduce {} --scale {}", report.header.paper, scale(report.header.scale));
    let commit = report.run.pointer("/git/commit").and_then(Value::as_str);
    html! {
        p { "From the repository’s root" @if let Some(commit) = commit { ", at commit " code { (short(commit)) } } ":" }
        pre { code { (written.unwrap_or(&usual)) } }
        p {
            "Finished trials are kept, so the command picks up where it stopped; " code { "--rerun" } " starts over. Change one line of "
            code { (experiment(report)) } " or add " code { "-s key.path=value" } " to see a number move, with another folder in "
            code { "--out" } "."
        }
    }
}

fn experiment(report: &Report) -> String {
    let usual = || format!("experiments/{}/{}.yaml", report.header.paper, scale(report.header.scale));
    report.run.get("experiment").and_then(Value::as_str).map_or_else(usual, str::to_owned)
}

/// First twelve digits: enough to find the commit, short enough for a line.
fn short(commit: &str) -> String {
    commit.chars().take(12).collect()
}

/// Facts with a name of their own; everything else in `run.json` follows as it is.
const NAMED: [(&str, &str); 8] = [
    ("device", "Device"),
    ("cpu", "Processor"),
    ("os", "System"),
    ("threads", "Threads a trial"),
    ("jobs", "Trials at once"),
    ("seconds", "Time, over all trials"),
    ("peak_bytes", "Peak memory of a trial"),
    ("overrides", "Overrides"),
];

/// What `run.json` holds.
pub(super) fn facts(report: &Report) -> Markup {
    let named = NAMED.iter().filter_map(|(key, name)| Some((*name, value(key, report.run.get(key)?)?)));
    let facts: Vec<(&str, String)> = code(report.run).into_iter().chain(named).collect();
    html! {
        dl.pairs.wide {
            @for (name, value) in facts { dt { (name) } dd { (value) } }
            @for (name, version) in report.run.get("versions").and_then(Value::as_object).into_iter().flatten() {
                dt { "Version of " (name) } dd { (plain(version)) }
            }
        }
        @if let Some(config) = report.run.get("config") {
            details {
                summary { "The resolved configuration, every default written out" }
                pre { code { (yaml::write(config).unwrap_or_else(|_| format!("{config:#}"))) } }
            }
        }
        p.caption { "All of it: " a href="run.json" { "run.json" } }
    }
}

/// Commit and trials: facts that are objects.
fn code(run: &Value) -> Vec<(&'static str, String)> {
    let mut facts = Vec::new();
    if let Some(commit) = run.pointer("/git/commit").and_then(Value::as_str) {
        let dirty = run.pointer("/git/dirty").and_then(Value::as_bool) == Some(true);
        facts.push((
            "Commit",
            format!("{}{}", short(commit), if dirty { ", with changes not committed" } else { "" }),
        ));
    }
    let trials = |name: &str| run.get("trials").and_then(|trials| trials.get(name)).and_then(Value::as_u64);
    if let (Some(done), Some(planned)) = (trials("done"), trials("planned")) {
        facts.push(("Trials finished", format!("{done} of {planned}")));
    }
    facts
}

fn value(key: &str, value: &Value) -> Option<String> {
    match key {
        "seconds" => value.as_f64().map(duration),
        "peak_bytes" => {
            value.as_f64().filter(|bytes| *bytes > 0.0).map(|bytes| format!("{:.0} MiB", bytes / 1048576.0))
        }
        _ if value.is_null() || value.as_array().is_some_and(Vec::is_empty) => None,
        _ => Some(plain(value)),
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) => values.iter().map(plain).collect::<Vec<_>>().join(", "),
        other => other.to_string(),
    }
}

/// Seconds as people say them.
fn duration(seconds: f64) -> String {
    match seconds {
        seconds if seconds < 120.0 => format!("{seconds:.1} s"),
        seconds if seconds < 7200.0 => format!("{:.0} min", seconds / 60.0),
        seconds => format!("{:.1} h", seconds / 3600.0),
    }
}
