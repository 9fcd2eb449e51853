//! The process of one trial: what `runner trial <experiment.yaml> <key>` does.

use std::fs::File;
use std::io::{self, Read};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, anyhow, bail};

use super::context::Sink;
use super::done::Done;
use crate::config::Document;
use crate::paper::{Paper, TrialContext, TrialSpec};
use crate::{atomic, digest};

/// Environment variable by which the executor tells a child to stop when its standard input ends.
pub const WATCH_STDIN: &str = "DIFFLAB_WATCH_STDIN";

/// What `runner trial` was given.
#[derive(Clone, Debug)]
pub struct ChildOptions {
    /// The experiment file, overrides and all.
    pub experiment: PathBuf,
    /// Key of the trial.
    pub key: String,
    /// Output folder; the trial writes below `trials/<key>/` in it.
    pub out: PathBuf,
    /// Where the data sets lie.
    pub data: PathBuf,
    /// `cpu` or `cuda:n`.
    pub device: String,
    /// Threads the trial may use.
    pub threads: usize,
}

/// Runs one trial in this process, from its plan to its `DONE`.
///
/// Progress goes to standard output as JSON lines, the log is whatever the process writes to standard error. Where
/// [`WATCH_STDIN`] is set the process ends as soon as its standard input does, so that it never outlives the executor.
///
/// # Errors
/// Where the experiment does not hold the trial, or the trial fails or panics. No `DONE` is written then.
pub fn run_child(papers: &[&dyn Paper], options: &ChildOptions) -> anyhow::Result<()> {
    watch_stdin();
    let document = Document::read(&options.experiment)?;
    let reproduction = crate::run::open(papers, &document)?;
    let trials = reproduction.trials(&options.data)?;
    let spec = trials
        .iter()
        .find(|trial| trial.key() == options.key)
        .ok_or_else(|| no_trial(options, trials.len()))?;
    let folder = options.out.join("trials").join(&options.key);
    let _lock = prepare(&folder, spec)?;
    let started = Instant::now();
    let mut context = context(&folder, spec, options);
    caught(&folder, || reproduction.run(spec, &mut context))
        .with_context(|| format!("trial {} ({})", options.key, spec.label()))?;
    finish(context.sink, started.elapsed().as_secs_f64())
}

fn no_trial(options: &ChildOptions, count: usize) -> anyhow::Error {
    anyhow!(
        "{}: no trial `{}` among its {count} trials\n  help: list the trials with --dry-run",
        options.experiment.display(),
        options.key
    )
}

/// Makes the folder and clears what an earlier process left, its checkpoint excepted.
///
/// The lock that it gives keeps a second process out for as long as this one lives: after the executor was killed, the
/// next one may start the trial while its old process is still ending.
fn prepare(folder: &Path, spec: &TrialSpec) -> anyhow::Result<File> {
    atomic::create_dir_all_synced(folder)?;
    let lock = File::create(folder.join(".lock"))?;
    lock.lock()?;
    match std::fs::remove_file(folder.join("DONE")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
        _ => {}
    }
    atomic::remove_leftovers(folder)?;
    atomic::write_bytes(folder.join("trial.json"), &serde_json::to_vec_pretty(spec)?)?;
    Ok(lock)
}

fn context(folder: &Path, spec: &TrialSpec, options: &ChildOptions) -> TrialContext {
    let sink = Sink {
        folder: folder.to_owned(),
        spec: spec.clone(),
        key: options.key.clone(),
        rows: Vec::new(),
        artifacts: Vec::new(),
        progress: Box::new(io::stdout()),
    };
    TrialContext {
        data: options.data.clone(),
        device: options.device.clone(),
        threads: options.threads,
        sink,
    }
}

/// A panic of the trial becomes an error; the panic message itself is already in the log.
fn caught(folder: &Path, run: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => result,
        Err(payload) => {
            let text = payload.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| payload.downcast_ref::<&str>().copied()).unwrap_or("no message");
            bail!("the trial panicked: {text}\n  help: the place is in {}", folder.join("log.txt").display())
        }
    }
}

/// Rows, then `DONE`, then the checkpoint goes: in that order a kill at any point costs nothing or the whole trial.
fn finish(sink: Sink, seconds: f64) -> anyhow::Result<()> {
    if sink.rows.is_empty() {
        bail!("trial {} wrote no rows\n  help: a trial measures at least one thing", sink.spec.label());
    }
    atomic::write(sink.folder.join("rows.jsonl"), |file| {
        for row in &sink.rows {
            serde_json::to_writer(&mut *file, row)?;
            file.write_all(b"\n")?;
        }
        Ok(())
    })?;
    let mut names = vec!["rows.jsonl".to_owned(), "trial.json".to_owned()];
    names.extend(sink.artifacts);
    let config = digest::of_json(&sink.spec.identity());
    Done::write(&sink.folder, config, &names, seconds, peak_memory())?;
    match std::fs::remove_dir_all(sink.folder.join("checkpoint")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Largest resident set of this process so far, in bytes; 0 where the system does not tell.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|rest| rest.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Ends the process when its standard input ends: the executor holds the other side, and the system closes it even
/// when the executor is killed. Every file is written atomically, so ending anywhere is safe.
fn watch_stdin() {
    if std::env::var_os(WATCH_STDIN).is_none() {
        return;
    }
    std::thread::spawn(|| {
        let mut byte = [0u8; 1];
        while !matches!(io::stdin().read(&mut byte), Ok(0) | Err(_)) {}
        std::process::exit(1);
    });
}
