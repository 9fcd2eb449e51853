//! One child process: started, listened to, stopped.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::Sender;

use serde::Deserialize;

use super::{Planned, RunOptions};
use crate::atomic;
use crate::trial::WATCH_STDIN;

/// What the pool hears.
#[derive(Debug)]
pub(crate) enum Event {
    /// Trial `at` is so far.
    Progress { at: usize, fraction: f64, message: String },
    /// The process of trial `at` closed its output: it ended or is about to.
    Ended { at: usize },
    /// The user wants to stop.
    Signal,
}

/// A running trial.
pub(crate) struct Running {
    pub(crate) at: usize,
    child: Child,
    /// Its end is what tells the child to stop.
    stdin: Option<ChildStdin>,
}

/// The words after the program that run `trial` of the experiment in `options.out`.
pub(crate) fn arguments(key: &str, options: &RunOptions) -> Vec<String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let experiment = text(&options.out.join("experiment.yaml"));
    let mut words = vec!["trial".to_owned(), experiment, key.to_owned()];
    let pairs = [
        ("--out", text(&options.out)),
        ("--data", text(&options.data)),
        ("--device", options.device.clone()),
        ("--threads", options.threads.to_string()),
    ];
    for (name, value) in pairs {
        words.extend([name.to_owned(), value]);
    }
    words
}

/// Starts the process of the trial at position `at` of the plan.
pub(crate) fn start(
    at: usize,
    trial: &Planned,
    options: &RunOptions,
    events: &Sender<Event>,
) -> anyhow::Result<Running> {
    atomic::create_dir_all_synced(&trial.folder)?;
    let mut child = command(trial, options, open_log(&trial.folder)?)
        .spawn()
        .map_err(|error| anyhow::anyhow!("{}: cannot start: {error}", options.runner.display()))?;
    let stdin = child.stdin.take();
    if let Some(stdout) = child.stdout.take() {
        let events = events.clone();
        std::thread::spawn(move || listen(at, BufReader::new(stdout), &events));
    }
    Ok(Running { at, child, stdin })
}

fn command(trial: &Planned, options: &RunOptions, log: File) -> Command {
    let mut command = Command::new(&options.runner);
    command
        .args(arguments(&trial.key, options))
        .env(WATCH_STDIN, "1")
        .env("RAYON_NUM_THREADS", options.threads.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log);
    // Ctrl-C goes to the whole foreground group; children are told to stop by us, in order.
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command
}

/// The log is appended to: what a killed process said may be the reason for looking.
fn open_log(folder: &Path) -> io::Result<File> {
    let mut log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log.txt"))?;
    if log.metadata()?.len() > 0 {
        writeln!(log, "--- started again ---")?;
    }
    Ok(log)
}

/// A line of progress, as [`crate::paper::TrialContext::progress`] writes it.
#[derive(Deserialize)]
struct Line {
    fraction: f64,
    message: String,
}

fn listen(at: usize, output: impl BufRead, events: &Sender<Event>) {
    for line in output.lines() {
        let Ok(line) = line else { break };
        // Anything else on standard output is some library's chatter.
        if let Ok(Line { fraction, message }) = serde_json::from_str(&line) {
            let _ = events.send(Event::Progress { at, fraction, message });
        }
    }
    let _ = events.send(Event::Ended { at });
}

impl Running {
    /// Asks the process to stop; files are whole at every moment, so it simply ends.
    pub(crate) fn ask_to_stop(&mut self) {
        self.stdin = None;
    }

    /// Ends the process now.
    pub(crate) fn kill(&mut self) {
        // It fails only where the process has ended already.
        let _ = self.child.kill();
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        self.stdin = None;
        self.child.wait()
    }
}

/// Why a trial that ended with `status` failed, with the last lines of its log.
pub(crate) fn reason(status: io::Result<ExitStatus>, folder: &Path) -> String {
    let ended = match status {
        Ok(status) if status.success() => "it ended without DONE".to_owned(),
        Ok(status) => status.to_string(),
        Err(error) => format!("its process was lost: {error}"),
    };
    let log = fs::read(folder.join("log.txt")).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = &lines[lines.len().saturating_sub(4)..];
    if last.is_empty() { ended } else { format!("{ended}\n    {}", last.join("\n    ")) }
}
