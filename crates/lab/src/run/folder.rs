//! The output folder: made, claimed for one configuration, and cleared.

use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

use crate::atomic::{self, AtomicError};
use crate::config::Document;
use crate::error::RunError;
use crate::executor::{Plan, RunOptions};
use crate::paper::{Paper, Reproduction};

/// How many differences a message lists.
const SHOWN: usize = 8;

/// Makes the folder and checks that it can be written before anything is computed for it.
pub(super) fn create(out: &Path) -> Result<(), RunError> {
    atomic::create_dir_all_synced(out).map_err(RunError::Setup)?;
    // Shards may do the same at the same moment.
    let probe = out.join(format!(".probe-{}", std::process::id()));
    atomic::write_bytes(&probe, b"").map_err(RunError::Setup)?;
    fs::remove_file(&probe)
        .map_err(|source| RunError::Setup(AtomicError { path: probe, doing: "remove a file", source }))
}

/// Writes `<out>/experiment.yaml`, or refuses where the folder holds the outcome of another configuration.
pub(super) fn claim(
    paper: &dyn Paper,
    document: &Document,
    reproduction: &dyn Reproduction,
    options: &RunOptions,
) -> Result<(), RunError> {
    let path = options.out.join("experiment.yaml");
    if path.exists() && !options.rerun {
        let differences = differences(paper, &path, reproduction);
        if !differences.is_empty() {
            let shown = differences.join("\n  ");
            return Err(RunError::OtherConfiguration { out: options.out.clone(), differences: shown });
        }
    }
    let text = experiment_text(document)?;
    if fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    atomic::write_bytes(&path, text.as_bytes()).map_err(RunError::Setup)
}

/// Forgets the trials that this process is going to run again.
pub(super) fn forget(plan: &mut Plan) -> Result<(), RunError> {
    for trial in plan.trials.iter_mut().filter(|trial| trial.mine) {
        remove(&trial.folder, "remove the finished trial")?;
        trial.done = None;
    }
    Ok(())
}

/// Removes the checkpoints of finished trials: a trial that was killed between its `DONE` and its end left one.
pub(super) fn remove_stale_checkpoints(plan: &Plan) -> Result<(), RunError> {
    let mut finished = plan.trials.iter().filter(|trial| trial.mine && trial.done.is_some());
    finished.try_for_each(|trial| remove(&trial.folder.join("checkpoint"), "remove an old checkpoint"))
}

/// Removes a folder, which may be gone already.
fn remove(folder: &Path, doing: &'static str) -> Result<(), RunError> {
    match fs::remove_dir_all(folder) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(RunError::Setup(AtomicError { path: folder.to_owned(), doing, source }))
        }
        _ => Ok(()),
    }
}

fn experiment_text(document: &Document) -> Result<String, RunError> {
    let mut text = format!("# What was run: {}", document.name());
    for typed in document.overrides() {
        text.push_str(&format!("\n#   -s {}", typed.replace('\n', " ")));
    }
    Ok(format!("{text}\n{}", document.to_yaml()?))
}

/// One line for each value in which the configuration of the folder differs from the one at hand. Claims and prose are left out:
/// no trial depends on them, so they may be changed and judged anew.
fn differences(paper: &dyn Paper, path: &Path, reproduction: &dyn Reproduction) -> Vec<String> {
    let there = Document::read(path).and_then(|document| paper.open(&document));
    let there = match there {
        Ok(there) => there.resolved(),
        Err(error) => return vec![format!("its experiment.yaml cannot be opened any more: {error}")],
    };
    let mut found = Vec::new();
    compare("", &there, &reproduction.resolved(), &mut found);
    let more = found.len().saturating_sub(SHOWN);
    found.truncate(SHOWN);
    if more > 0 {
        found.push(format!("and {more} more"));
    }
    found
}

fn compare(path: &str, there: &Value, here: &Value, found: &mut Vec<String>) {
    if there == here || path == "claims" || path == "about" {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = (there, here) else {
        return found.push(format!("`{path}`: there {}, here {}", short(there), short(here)));
    };
    let keys: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let below = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let value = |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
        compare(&below, &value(old), &value(new), found);
    }
}

fn short(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_changed_value_is_named_by_its_path_and_prose_is_not() {
        let old = json!({"about": "x", "claims": [1], "arms": {"adam": {"lr": 0.1}}, "seeds": 3});
        let new = json!({"about": "y", "claims": [2], "arms": {"adam": {"lr": 0.2}}, "seeds": 3, "seed": 1});
        let mut found = Vec::new();
        compare("", &old, &new, &mut found);
        assert_eq!(found, ["`arms.adam.lr`: there 0.1, here 0.2", "`seed`: there null, here 1"]);
    }
}
