//! `reproduce`: what is run, on what, and how.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask reproduce diffgrad
      everything at scale quick, into results/diffgrad/quick; open report.html there
  cargo xtask reproduce diffgrad -s seeds=8 --out /tmp/eight-seeds
      one value of the experiment file changed, kept apart from the reference results
  cargo xtask reproduce diffgrad --scale standard --data ~/data --jobs 2
      the same comparison on real CIFAR-10
  cargo xtask reproduce diffgrad --shard 2/4
      the second of four machines that share one folder's work

Stop it with Ctrl-C whenever you like: the same command goes on where it stopped.
Exit codes: 0 done (a refuted claim is not a failure), 1 a trial failed, 2 bad usage or configuration.";

/// Arguments of `reproduce`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Reproduce {
    /// The paper, such as `diffgrad` (see `cargo xtask list`), or `all`.
    pub paper: String,
    /// How much is run: about ten minutes on two cores, real data, or the published protocol.
    #[arg(long, value_enum, default_value_t = Scale::Quick)]
    pub scale: Scale,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub overrides: Overrides,
    /// Where to compute: `auto` takes a GPU if this build can use one, `cuda` or `cuda:1` insists on it.
    #[arg(long, value_name = "auto|cpu|cuda[:n]", default_value_t = Device::Auto)]
    pub device: Device,
    /// Folder that holds real data sets [default: $DIFFLAB_DATA]; the Hub's cache folder is looked into as well.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The model to reproduce it on, for papers about a model: a folder that diffusers saved, or a name. Sets `data.model`.
    #[arg(long, value_name = "DIR|NAME")]
    pub model: Option<String>,
    /// Folder for the results [default: results/PAPER/SCALE; with `all`, DIR/PAPER/SCALE].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Trials that run at the same time [default: one a core].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub jobs: Option<usize>,
    /// Threads of each trial [default: the cores shared out among the jobs].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub threads: Option<usize>,
    /// Who runs the trials: this machine, or a Slurm cluster's job array.
    #[arg(long, value_enum, default_value_t = Executor::Local)]
    pub executor: Executor,
    /// Run only the i-th of n equal parts of the trials, counted from 1; the last part to end writes the report.
    #[arg(long, value_name = "i/n")]
    pub shard: Option<Shard>,
    /// Go on with the other trials when one fails (this is the default; it undoes an earlier --fail-fast).
    #[arg(long, overrides_with = "fail_fast")]
    pub keep_going: bool,
    /// Stop at the first trial that fails.
    #[arg(long, overrides_with = "keep_going")]
    pub fail_fast: bool,
    /// Forget the trials that are done and run them all again; tables and figures of before go when the new ones are there.
    #[arg(long)]
    pub rerun: bool,
    /// Show the trials, their number, and an estimate of time and disk; run nothing, write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// How progress is shown on standard error: a bar on a terminal and lines elsewhere, or one of them always.
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub progress: Progress,
}

/// Values of an experiment file that are replaced for one run.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct Overrides {
    /// Replace one value of the experiment file, such as `seeds=8` or `arms.adam.lr=5e-4`; may be repeated.
    #[arg(short = 's', long = "set", value_name = "key.path=value", value_parser = assignment)]
    pub set: Vec<String>,
}

/// How much is run; the name of the file under `experiments/<paper>/`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Scale {
    /// About ten minutes on two cores, no download
    #[default]
    Quick,
    /// Real data; about an hour on a CPU, or minutes on a GPU
    Standard,
    /// The published protocol
    Paper,
}

impl Scale {
    /// Every scale, smallest first.
    pub const ALL: [Scale; 3] = [Scale::Quick, Scale::Standard, Scale::Paper];

    /// The file stem: `quick`, `standard` or `paper`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Scale::Quick => "quick",
            Scale::Standard => "standard",
            Scale::Paper => "paper",
        }
    }
}

impl fmt::Display for Scale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where to compute, as it was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// A GPU if this build can use one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU of this index, or an error.
    Cuda(usize),
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("expected `auto`, `cpu`, `cuda` or `cuda:<index>`, found `{text}`");
        match text.split_once(':') {
            None if text == "auto" => Ok(Device::Auto),
            None if text == "cpu" => Ok(Device::Cpu),
            None if text == "cuda" => Ok(Device::Cuda(0)),
            Some(("cuda", index)) => index.parse().map(Device::Cuda).map_err(|_| refuse()),
            _ => Err(refuse()),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Device::Auto => f.write_str("auto"),
            Device::Cpu => f.write_str("cpu"),
            Device::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

/// Who runs the trials.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Executor {
    /// A pool of processes on this machine
    #[default]
    Local,
    /// A job array, submitted with `sbatch`
    Slurm,
}

/// The `index`-th of `count` equal parts, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Which part, `1..=count`.
    pub index: usize,
    /// How many parts there are, at least 1.
    pub count: usize,
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parts {
            Some((index, count)) if (1..=count).contains(&index) => Ok(Shard { index, count }),
            _ => Err(format!("expected i/n with 1 <= i <= n, such as `2/4`, found `{text}`")),
        }
    }
}

/// How progress is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Progress {
    /// A bar on a terminal, lines elsewhere
    #[default]
    Auto,
    /// A bar
    Bar,
    /// A line an event
    Lines,
    /// A JSON object an event, one a line
    Json,
}

pub(crate) fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err(format!("expected a whole number of at least 1, found `{text}`")),
        Ok(number) => Ok(number),
    }
}

/// The path must be there; what stands in it and the value are judged against the experiment file later.
fn assignment(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((path, _)) if !path.trim().is_empty() => Ok(text.to_owned()),
        _ => Err(format!("expected key.path=value, such as `seeds=8`, found `{text}`")),
    }
}
