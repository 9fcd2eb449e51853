//! How far a run is: a bar on a terminal, lines elsewhere, or JSON for programs. Nothing of it goes into a result.
//!
//! With `json` every line is an object with `event` (`start`, `progress`, `done`, `failed`, `note`), `done`, `total`,
//! `seconds_left` (null while unknown) and, for a trial, `trial` and `label`; `progress` adds `fraction` and `message`,
//! `failed` adds `why` and `log`, `note` adds `message`.

mod remaining;

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::executor::{Failure, Plan, readable_seconds};
use remaining::Remaining;

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ProgressMode {
    /// A bar where standard error is a terminal, else lines.
    #[default]
    Auto,
    /// A bar on standard error.
    Bar,
    /// A line an event.
    Lines,
    /// A JSON object a line.
    Json,
}

/// Between two lines about trials that are merely under way.
const QUIET: Duration = Duration::from_secs(30);

/// Shows a run's progress through `writer` (or, for a bar, on standard error).
pub(crate) struct Progress {
    writer: Box<dyn Write + Send>,
    json: bool,
    bar: Option<ProgressBar>,
    remaining: Remaining,
    keys: Vec<String>,
    running: BTreeMap<usize, (String, f64, String)>,
    done: usize,
    last_line: Instant,
}

impl Progress {
    /// Progress of what is to be done in `plan`.
    pub(crate) fn new(
        mode: ProgressMode,
        writer: Box<dyn Write + Send>,
        plan: &Plan,
        jobs: usize,
    ) -> Progress {
        let todo = plan.todo();
        let wants_bar =
            mode == ProgressMode::Bar || (mode == ProgressMode::Auto && std::io::stderr().is_terminal());
        Progress {
            writer,
            json: mode == ProgressMode::Json,
            bar: wants_bar.then(|| new_bar(plan.trials.len())),
            remaining: Remaining::new(todo.iter().map(|&at| (at, plan.trials[at].spec.seconds)), jobs),
            keys: plan.trials.iter().map(|trial| trial.key.clone()).collect(),
            running: BTreeMap::new(),
            done: plan.finished(),
            last_line: Instant::now(),
        }
    }

    pub(crate) fn started(&mut self, at: usize, label: &str) {
        self.remaining.started(at);
        self.running.insert(at, (label.to_owned(), 0.0, String::new()));
        self.show("start", at, label, json!({}), &format!("start  {label}"));
    }

    pub(crate) fn advanced(&mut self, at: usize, fraction: f64, message: &str) {
        self.remaining.advanced(at, fraction);
        let Some(state) = self.running.get_mut(&at) else { return };
        (state.1, state.2) = (fraction, message.to_owned());
        let label = state.0.clone();
        if self.json {
            self.show("progress", at, &label, json!({"fraction": fraction, "message": message}), "");
        }
        self.tick();
    }

    pub(crate) fn finished(&mut self, at: usize) {
        self.remaining.ended(at);
        self.done += 1;
        let label = self.running.remove(&at).map(|state| state.0).unwrap_or_default();
        self.show("done", at, &label, json!({}), &format!("done   {label}"));
    }

    pub(crate) fn failed(&mut self, at: usize, failure: &Failure) {
        self.remaining.ended(at);
        self.running.remove(&at);
        let log = failure.log.display().to_string();
        let more = json!({"why": failure.why, "log": log});
        self.show("failed", at, &failure.label, more, &failure.to_string());
    }

    /// Says something about the whole run.
    pub(crate) fn note(&mut self, message: &str) {
        if self.json {
            let (done, total, left) = (self.done, self.keys.len(), self.remaining.seconds());
            let event = json!({
                "event": "note", "message": message, "done": done, "total": total, "seconds_left": left
            });
            self.line(&event.to_string());
        } else {
            self.line(message);
        }
    }

    /// Shows the time left anew.
    pub(crate) fn tick(&mut self) {
        if let Some(bar) = &self.bar {
            bar.set_message(self.state());
            bar.tick();
        } else if !self.json && self.last_line.elapsed() >= QUIET {
            let state = self.state();
            self.line(&state);
        }
    }

    /// Leaves the terminal as it was.
    pub(crate) fn close(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    fn show(&mut self, event: &str, at: usize, label: &str, more: Value, text: &str) {
        let (done, total, left) = (self.done, self.keys.len(), self.remaining.seconds());
        if self.json {
            let mut object = json!({
                "event": event, "trial": self.keys[at], "label": label, "done": done, "total": total,
                "seconds_left": left
            });
            if let (Value::Object(object), Value::Object(more)) = (&mut object, more) {
                object.extend(more);
            }
            return self.line(&object.to_string());
        }
        if let Some(bar) = &self.bar {
            bar.set_position(done as u64);
        }
        // A bar shows the rest itself; what failed stays readable above it.
        if self.bar.is_none() || event == "failed" {
            let left = left.map(|left| format!(", {} left", readable_seconds(left))).unwrap_or_default();
            self.line(&format!("[{done}/{total}{left}] {text}"));
        }
    }

    /// `study/arm seed 1 40 % (epoch 3); 2 min left`.
    fn state(&self) -> String {
        let one = |(label, fraction, message): &(String, f64, String)| {
            let message = if message.is_empty() { String::new() } else { format!(" ({message})") };
            format!("{label} {:.0} %{message}", fraction * 100.0)
        };
        let running: Vec<String> = self.running.values().map(one).collect();
        let left = self.remaining.seconds().map(|left| format!("{} left; ", readable_seconds(left)));
        format!("{}{}", left.unwrap_or_default(), running.join(", "))
    }

    fn line(&mut self, text: &str) {
        self.last_line = Instant::now();
        let writer = &mut self.writer;
        // Whoever read may be gone; the run goes on.
        let mut write = || drop(writeln!(writer, "{text}").and_then(|()| writer.flush()));
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }
}

fn new_bar(total: usize) -> ProgressBar {
    let bar = ProgressBar::new(total as u64);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:24} {pos}/{len} trials, {elapsed} so far, {wide_msg}")
    {
        bar.set_style(style);
    }
    bar
}
