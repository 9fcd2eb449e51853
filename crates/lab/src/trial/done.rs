//! The `DONE` file: what a finished trial wrote, by digest. A trial counts only while every digest holds.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::row::Row;
use crate::{atomic, digest};

/// One file of a finished trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Payload {
    /// SHA-256 of its content.
    pub sha256: String,
    /// Its length.
    pub bytes: u64,
}

/// Content of `DONE`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Done {
    /// SHA-256 of the trial's identity (study, arm, case, seed, configuration) as canonical JSON.
    pub(crate) config_sha256: String,
    /// Files by name.
    pub(crate) files: BTreeMap<String, Payload>,
    /// Seconds that the process that finished it worked on it.
    pub(crate) seconds: f64,
    /// Largest resident set of the process, in bytes; 0 where the system does not tell.
    pub(crate) peak_bytes: u64,
}

impl Done {
    /// Reads and checks `folder/DONE`: `None` unless it is whole, belongs to `config_sha256`, and every file it names is
    /// there with its digest.
    pub(crate) fn valid(folder: &Path, config_sha256: &str) -> Option<Done> {
        let text = std::fs::read(folder.join("DONE")).ok()?;
        let done: Done = serde_json::from_slice(&text).ok()?;
        let whole = |(name, payload): (&String, &Payload)| {
            digest::of_file(&folder.join(name)).is_ok_and(|found| found == payload.sha256)
        };
        let holds = done.config_sha256 == config_sha256
            && done.files.contains_key("rows.jsonl")
            && done.files.iter().all(whole);
        holds.then_some(done)
    }

    /// Digests `names` in `folder` and writes `DONE`, which makes the trial count.
    pub(crate) fn write(
        folder: &Path,
        config_sha256: String,
        names: &[String],
        seconds: f64,
        peak_bytes: u64,
    ) -> anyhow::Result<()> {
        let mut files = BTreeMap::new();
        for name in names {
            let path = folder.join(name);
            let bytes = std::fs::metadata(&path)?.len();
            files.insert(name.clone(), Payload { sha256: digest::of_file(&path)?, bytes });
        }
        let done = Done { config_sha256, files, seconds, peak_bytes };
        atomic::write_bytes(folder.join("DONE"), &serde_json::to_vec_pretty(&done)?)?;
        Ok(())
    }
}

/// Reads the rows of a finished trial.
pub(crate) fn read_rows(folder: &Path) -> anyhow::Result<Vec<Row>> {
    let path = folder.join("rows.jsonl");
    let text = std::fs::read_to_string(&path)?;
    let read = |(index, line): (usize, &str)| {
        serde_json::from_str(line)
            .map_err(|error| anyhow::anyhow!("{}:{}: not a row: {error}", path.display(), index + 1))
    };
    text.lines().enumerate().map(read).collect()
}
