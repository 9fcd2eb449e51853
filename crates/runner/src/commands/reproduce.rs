//! `reproduce`: from what was typed to what is run, on this machine.

use std::env;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;

#[cfg(not(feature = "cuda"))]
use anyhow::bail;
use anyhow::{Context as _, Result, ensure};
use cli::Device;
use lab::executor::{Executor, RunOptions, Shard};
use lab::progress::ProgressMode;
use lab::run;

use crate::output::{print, say};
use crate::papers::{self, Entry};
use crate::places;

/// Runs the experiments of one paper or of all; the worst exit code of them is this command's.
pub(crate) fn run(all: &[Entry], typed: &cli::Reproduce) -> Result<u8> {
    let mut worst = cli::exit::DONE;
    for entry in papers::named(all, &typed.paper)? {
        worst = worst.max(one(entry, typed)?);
    }
    Ok(worst)
}

fn one(entry: &Entry, typed: &cli::Reproduce) -> Result<u8> {
    let document = places::experiment(entry, typed.scale)?.with_overrides(&overrides(entry, typed)?)?;
    let options = options(entry, typed)?;
    if typed.dry_run {
        print(&format!("{}\n", run::dry_run(entry.paper, &document, &options)?))?;
        return Ok(cli::exit::DONE);
    }
    let summary = run::reproduce(entry.paper, &document, &options, Box::new(io::stderr()))?;
    say(&summary.to_string());
    Ok(summary.exit_code())
}

/// What was typed after `-s`, and `--model` as the key that it sets.
fn overrides(entry: &Entry, typed: &cli::Reproduce) -> Result<Vec<String>> {
    let mut all = typed.overrides.set.clone();
    if let Some(model) = &typed.model {
        let paper = entry.paper.id();
        ensure!(
            places::experiment(entry, typed.scale)?.has("data.model"),
            "--model {model}: {paper} is not about a model\n  help: leave --model out, or name one paper that is"
        );
        all.push(format!("data.model={model}"));
    }
    Ok(all)
}

fn options(entry: &Entry, typed: &cli::Reproduce) -> Result<RunOptions> {
    let (jobs, threads) = share(cores(), typed.jobs, typed.threads);
    Ok(RunOptions {
        out: out(entry.paper.id(), typed),
        data: places::data(typed.data.as_deref()),
        device: resolve(typed.device)?,
        jobs,
        threads,
        executor: executor(typed.executor),
        shard: typed.shard.map(|shard| Shard { index: shard.index, count: shard.count }),
        fail_fast: typed.fail_fast,
        rerun: typed.rerun,
        progress: progress(typed.progress),
        runner: env::current_exe().context("where this program itself lies")?,
        again: again(env::args().skip(1)),
        repository: places::repository(),
        versions: vec![("candle-core".to_owned(), CANDLE.to_owned())],
    })
}

/// Checked against the workspace's manifest by a test below.
const CANDLE: &str = "0.11.1";

/// `--out` as it was typed, but a folder of its own for each paper of `all`.
fn out(paper: &str, typed: &cli::Reproduce) -> PathBuf {
    match &typed.out {
        Some(folder) if typed.paper == "all" => folder.join(paper).join(typed.scale.name()),
        folder => places::results(paper, typed.scale, folder.as_deref()),
    }
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    available_parallelism().map_or(1, |cores| cores.get())
}

/// Trials at a time and threads of each: what was not asked for is what makes their product the number of cores.
fn share(cores: usize, jobs: Option<usize>, threads: Option<usize>) -> (usize, usize) {
    let jobs = jobs.unwrap_or_else(|| (cores / threads.unwrap_or(1)).max(1));
    (jobs, threads.unwrap_or_else(|| (cores / jobs).max(1)))
}

/// The device as trials know it. A GPU that was asked for and cannot be had is an error: nothing falls back silently.
pub(crate) fn resolve(device: Device) -> Result<String> {
    match device {
        Device::Auto | Device::Cpu => Ok("cpu".to_owned()),
        Device::Cuda(index) => gpu(device, index),
    }
}

/// A GPU that is there. Whether a paper computes on one is the paper's to say.
#[cfg(feature = "cuda")]
fn gpu(device: Device, index: usize) -> Result<String> {
    let present = sd_core::cuda::device::present(index);
    present.map(|_| format!("cuda:{index}")).with_context(|| format!("--device {device}"))
}

#[cfg(not(feature = "cuda"))]
fn gpu(device: Device, _: usize) -> Result<String> {
    bail!(
        "--device {device}: this build has no CUDA\n  expected: cpu or auto\n  \
         help: leave --device out to compute on the CPU; nothing was started"
    )
}

fn executor(typed: cli::Executor) -> Executor {
    match typed {
        cli::Executor::Local => Executor::Local,
        cli::Executor::Slurm => Executor::Slurm { sbatch: Path::new("sbatch").to_owned() },
    }
}

fn progress(typed: cli::Progress) -> ProgressMode {
    match typed {
        cli::Progress::Auto => ProgressMode::Auto,
        cli::Progress::Bar => ProgressMode::Bar,
        cli::Progress::Lines => ProgressMode::Lines,
        cli::Progress::Json => ProgressMode::Json,
    }
}

/// The command as one would type it again.
fn again(words: impl Iterator<Item = String>) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,+@%".contains(c);
    let quoted = words.map(|word| match !word.is_empty() && word.chars().all(plain) {
        true => word,
        false => format!("'{}'", word.replace('\'', "'\\''")),
    });
    std::iter::once("cargo xtask".to_owned()).chain(quoted).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn cores_are_shared_out_among_jobs_and_threads() {
        assert_eq!(share(8, None, None), (8, 1));
        assert_eq!(share(8, Some(2), None), (2, 4));
        assert_eq!(share(8, None, Some(4)), (2, 4));
        assert_eq!(share(2, Some(5), None), (5, 1));
        assert_eq!(share(2, None, Some(16)), (1, 16));
        assert_eq!(share(8, Some(3), Some(3)), (3, 3));
    }

    #[test]
    fn a_gpu_is_never_silently_replaced() {
        assert_eq!(resolve(Device::Auto).unwrap(), "cpu");
        // No machine has as many.
        let error = resolve(Device::Cuda(1000)).unwrap_err().to_string();
        assert!(error.contains("--device cuda:1000"), "{error}");
        #[cfg(not(feature = "cuda"))]
        assert!(error.contains("no CUDA") && error.contains("leave --device out"), "{error}");
    }

    #[test]
    fn the_command_can_be_pasted_back_into_a_shell() {
        let words = ["reproduce", "p", "-s", "arms.a.lr=1e-3", "--out", "it's here", ""].map(str::to_owned);
        let line = again(words.into_iter());
        assert_eq!(line, r"cargo xtask reproduce p -s arms.a.lr=1e-3 --out 'it'\''s here' ''");
    }

    #[test]
    fn the_version_of_candle_is_the_pinned_one() {
        let manifest =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml")).unwrap();
        assert!(manifest.contains(&format!("candle-core = \"={CANDLE}\"")));
    }
}
