//! The smallest command line around the smallest paper (`paper.rs`, which is the file to read). Run it:
//!
//! ```text
//! cargo run -p lab --example toy -- reproduce crates/lab/examples/toy/toy.yaml --out /tmp/toy --jobs 2
//! ```
//!
//! Kill it at any moment and start it again: it goes on where it was, and ends with the same bytes. The real command line is the
//! crate `runner`; its example `own_paper` runs the same paper.

mod paper;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use lab::config::Document;
use lab::executor::{Executor, RunOptions, Shard};
use lab::progress::ProgressMode;
use lab::trial::ChildOptions;

use paper::Toy;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match command(&words) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            say(&format!("error: {error:#}"));
            ExitCode::from(lab::error::EXIT_USAGE)
        }
    }
}

fn command(words: &[String]) -> anyhow::Result<u8> {
    let flags = Flags(words);
    match words {
        [command, experiment, key, ..] if command == "trial" => trial(experiment, key, &flags),
        [command, experiment, ..] if command == "reproduce" => reproduce(experiment, &flags),
        [command, experiment, ..] if command == "report" => {
            let document = Document::read(experiment)?;
            ended(lab::run::report(&Toy, &document, &flags.folder("--out")))
        }
        _ => bail!("expected: toy reproduce|report <experiment.yaml> --out DIR [flags]"),
    }
}

fn trial(experiment: &str, key: &str, flags: &Flags<'_>) -> anyhow::Result<u8> {
    let options = ChildOptions {
        experiment: experiment.into(),
        key: key.to_owned(),
        out: flags.folder("--out"),
        data: flags.folder("--data"),
        device: flags.value("--device").unwrap_or("cpu").to_owned(),
        threads: flags.number("--threads")?,
    };
    lab::trial::run_child(&[&Toy], &options)?;
    Ok(lab::error::EXIT_DONE)
}

fn reproduce(experiment: &str, flags: &Flags<'_>) -> anyhow::Result<u8> {
    let document = Document::read(experiment).and_then(|read| read.with_overrides(&flags.all("-s")));
    let document = match document {
        Ok(document) => document,
        Err(error) => return ended(Err(error.into())),
    };
    let options = options(flags)?;
    if flags.has("--dry-run") {
        say(&lab::run::dry_run(&Toy, &document, &options)?.to_string());
        return Ok(lab::error::EXIT_DONE);
    }
    ended(lab::run::reproduce(&Toy, &document, &options, Box::new(std::io::stderr())))
}

fn options(flags: &Flags<'_>) -> anyhow::Result<RunOptions> {
    let submit = |program: &str| Executor::Slurm { sbatch: program.into() };
    Ok(RunOptions {
        out: flags.folder("--out"),
        data: PathBuf::from("data"),
        device: "cpu".to_owned(),
        jobs: flags.number("--jobs")?,
        threads: flags.number("--threads")?,
        executor: flags.value("--sbatch").map_or(Executor::Local, submit),
        shard: flags.value("--shard").map(shard).transpose()?,
        fail_fast: flags.has("--fail-fast"),
        rerun: flags.has("--rerun"),
        progress: if flags.has("--json") { ProgressMode::Json } else { ProgressMode::Auto },
        runner: std::env::current_exe()?,
        again: format!("toy {}", flags.0.join(" ")),
        repository: None,
        versions: Vec::new(),
    })
}

fn shard(text: &str) -> anyhow::Result<Shard> {
    let (index, count) = text.split_once('/').context("expected i/n")?;
    Ok(Shard { index: index.parse()?, count: count.parse()? })
}

fn ended(result: Result<lab::run::RunSummary, lab::error::RunError>) -> anyhow::Result<u8> {
    let (text, code) = match result {
        Ok(summary) => (summary.to_string(), summary.exit_code()),
        Err(error) => (format!("error: {error}"), error.exit_code()),
    };
    say(&text);
    Ok(code)
}

fn say(text: &str) {
    use std::io::Write;
    // Nobody listening is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// `--name value` and `--name` among the words of the command line.
struct Flags<'a>(&'a [String]);

impl Flags<'_> {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|word| word == name)
    }
    fn all(&self, name: &str) -> Vec<String> {
        self.0.windows(2).filter(|pair| pair[0] == name).map(|pair| pair[1].clone()).collect()
    }
    fn value(&self, name: &str) -> Option<&str> {
        let place = self.0.iter().position(|word| word == name)?;
        self.0.get(place + 1).map(String::as_str)
    }
    fn folder(&self, name: &str) -> PathBuf {
        self.value(name).unwrap_or("out").into()
    }
    fn number(&self, name: &str) -> anyhow::Result<usize> {
        Ok(self.value(name).unwrap_or("1").parse()?)
    }
}
