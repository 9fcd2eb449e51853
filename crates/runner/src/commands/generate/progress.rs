//! How far the pictures are: a bar on a terminal, lines elsewhere, or JSON for programs.
//!
//! With `json` every line is an object with `event` (`progress`), `done`, `total` and `seconds_left`.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use lab::executor::readable_seconds;
use serde_json::json;

use crate::output::say;

/// Between two lines.
const QUIET: Duration = Duration::from_secs(10);

/// Shows steps.
pub(super) struct Steps {
    bar: Option<ProgressBar>,
    json: bool,
    start: Instant,
    last_line: Option<Instant>,
}

impl Steps {
    pub(super) fn new(typed: cli::Progress) -> Self {
        let wants_bar = match typed {
            cli::Progress::Auto => io::stderr().is_terminal(),
            typed => typed == cli::Progress::Bar,
        };
        let bar = wants_bar.then(|| ProgressBar::new(0));
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} steps, {elapsed} so far, {wide_msg}");
        if let (Some(bar), Ok(style)) = (&bar, style) {
            bar.set_style(style);
        }
        Self { bar, json: typed == cli::Progress::Json, start: Instant::now(), last_line: None }
    }

    /// `done` of `total` steps are taken.
    pub(super) fn show(&mut self, done: usize, total: usize) {
        let left = self.start.elapsed().as_secs_f64() / done.max(1) as f64 * (total - done) as f64;
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
            bar.set_message(format!("{} left", readable_seconds(left)));
            bar.set_position(done as u64);
        } else if self.json {
            let event = json!({"event": "progress", "done": done, "total": total, "seconds_left": left});
            say(&event.to_string());
        } else if done == total || self.last_line.is_none_or(|last| last.elapsed() >= QUIET) {
            self.last_line = Some(Instant::now());
            say(&line(done, total, left));
        }
    }

    /// Leaves the terminal as it was.
    pub(super) fn close(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn line(done: usize, total: usize, left: f64) -> String {
    let left = if done < total { format!(", {} left", readable_seconds(left)) } else { String::new() };
    format!("[{done}/{total}{left}]")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_has_no_time_left() {
        assert_eq!(line(4, 4, 0.0), "[4/4]");
        assert!(line(1, 4, 90.0).starts_with("[1/4, ") && line(1, 4, 90.0).ends_with(" left]"));
    }
}
