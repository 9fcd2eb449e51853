//! `run.json`: everything needed to do the run again, and on what it was done. The only output that holds times.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::atomic;
use crate::config::Document;
use crate::error::RunError;
use crate::executor::{Plan, RunOptions};
use crate::paper::{Paper, Reproduction};

/// Makes and writes `<out>/run.json`.
pub(super) fn write(
    paper: &dyn Paper,
    document: &Document,
    reproduction: &dyn Reproduction,
    plan: &Plan,
    options: &RunOptions,
) -> Result<Value, RunError> {
    let value = describe(paper, document, reproduction, plan, options);
    let text = format!("{value:#}\n");
    atomic::write_bytes(options.out.join("run.json"), text.as_bytes())?;
    Ok(value)
}

/// Reads the `run.json` of an earlier run.
pub(super) fn read(out: &Path) -> Result<Value, RunError> {
    let path = out.join("run.json");
    let refuse = |what: String| {
        RunError::Refused(anyhow::anyhow!("{}: {what}\n  help: run the experiment first", path.display()))
    };
    let text = std::fs::read_to_string(&path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    serde_json::from_str(&text).map_err(|error| refuse(format!("is no JSON: {error}")))
}

fn describe(
    paper: &dyn Paper,
    document: &Document,
    reproduction: &dyn Reproduction,
    plan: &Plan,
    options: &RunOptions,
) -> Value {
    let header = reproduction.header();
    let done = || plan.trials.iter().filter_map(|trial| trial.done);
    let mut versions: BTreeMap<&str, &str> = BTreeMap::from([("difflab", env!("CARGO_PKG_VERSION"))]);
    versions.extend(options.versions.iter().map(|(name, version)| (name.as_str(), version.as_str())));
    json!({
        "paper": paper.id(),
        "title": paper.title(),
        "scale": header.scale,
        "command": options.again,
        "experiment": document.name(),
        "overrides": document.overrides(),
        "config": reproduction.resolved(),
        "git": options.repository.as_deref().and_then(git),
        "versions": versions,
        "os": format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
        "cpu": cpu(),
        "device": options.device,
        "jobs": options.jobs,
        "threads": options.threads,
        "data": header.data,
        "seed": header.seed,
        "seeds": header.seeds,
        "trials": {"planned": plan.trials.len(), "done": plan.finished()},
        "seconds": done().map(|(seconds, _)| seconds).sum::<f64>(),
        "peak_bytes": done().map(|(_, bytes)| bytes).max().unwrap_or(0),
    })
}

/// Commit of the repository at `root` and whether files differ from it; nothing where it is no repository.
fn git(root: &Path) -> Option<Value> {
    let ask = |words: &[&str]| {
        let output = Command::new("git").arg("-C").arg(root).args(words).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = ask(&["rev-parse", "HEAD"])?;
    // Results are what a run writes; that they differ says nothing about the code that wrote them.
    let changed = ask(&["status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)results"])?;
    Some(json!({"commit": commit, "dirty": !changed.is_empty()}))
}

/// Model of the processor, or its architecture where the system does not tell.
fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let model = model.map_or(std::env::consts::ARCH, |(_, name)| name.trim());
    format!("{model}, {cores} cores")
}
