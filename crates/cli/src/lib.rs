//! difflab's command line, shared by xtask (which parses it) and the runner (which obeys it).
//!
//! The doc comments of these types are the help texts. Parsing has no side effects: it says what was typed, and the
//! runner decides what that means on the machine at hand.
//!
//! Exit codes are a contract, see [`exit`].

mod bench;
mod chores;
mod edit;
mod forward;
mod generate;
mod gpu;
mod reproduce;
mod trace;
mod train;
mod worlds;

pub use bench::{Bench, BenchDevice, Implementation};
pub use chores::{Claims, Datasets, DatasetsAction, Report, Schema, Trial};
pub use edit::{Edit, EditBias, EditTokens};
pub use forward::{Component, Forward, ForwardDtype};
pub use generate::{Dtype, Generate, Sampler};
pub use gpu::{Cuda, CudaAction, CudaBuild, Gpu, GpuAction, GpuVerify};
pub use reproduce::{Device, Executor, Overrides, Progress, Reproduce, Scale, Shard};
pub use trace::{Corrupt, Half, Reading, Trace};
pub use train::{Stage, Train, Trainable};
pub use worlds::{Sheet, Split, Worlds, WorldsAction};

use clap::{Parser, Subcommand};

/// Exit codes. Scripts and schedulers may rely on them.
pub mod exit {
    /// Everything asked for was done. A refuted claim is not a failure.
    pub const DONE: u8 = 0;
    /// At least one trial failed, or the run was interrupted; running the same command again goes on from there. Of a command that
    /// runs no trials: what it computed went wrong.
    pub const FAILED: u8 = 1;
    /// The command line, an experiment file, a data set, a model or the machine does not allow what was asked for.
    pub const USAGE: u8 = 2;
}

const EXAMPLES: &str = "\
Examples:
  cargo xtask list                          what can be reproduced, and what each needs
  cargo xtask reproduce diffgrad            a few minutes on two cores, no download
  cargo xtask claims diffgrad               the paper's claims, and what was found
  cargo xtask reproduce diffgrad --dry-run  the trials, their number, time and disk, without running any
  cargo xtask generate \"a red star\"         a picture, with the small Stable Diffusion that ships

Exit codes: 0 done (a refuted claim is not a failure), 1 a trial failed, 2 bad usage or configuration.";

/// Reproduces papers about diffusion models and their training: each claim is written down as data, tested with
/// statistics, and gets a verdict beside the published number.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(
    name = "difflab",
    bin_name = "cargo xtask",
    version,
    after_help = EXAMPLES,
    disable_help_subcommand = true,
    max_term_width = 110
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Clone, Debug, PartialEq, Subcommand)]
pub enum Command {
    /// Run a paper's experiment and write its tables, figures, verdicts and report.
    #[command(after_help = reproduce::EXAMPLES)]
    Reproduce(Reproduce),
    /// List the papers, their scales, and the data and time each scale needs.
    List,
    /// Show a paper's claims with the published numbers and, where there are results, the verdicts.
    #[command(after_help = chores::CLAIMS_EXAMPLES)]
    Claims(Claims),
    /// Write tables, figures, verdicts and report again from the trials that are done, without running any.
    #[command(after_help = chores::REPORT_EXAMPLES)]
    Report(Report),
    /// Write the JSON schemas of the experiment files, with which an editor completes and checks them.
    #[command(after_help = chores::SCHEMA_EXAMPLES)]
    Schema(Schema),
    /// List, download and check real data sets.
    #[command(after_help = chores::DATASETS_EXAMPLES)]
    Datasets(Datasets),
    /// Look at the drawn world that sd-mini is trained on.
    #[command(after_help = worlds::EXAMPLES)]
    Worlds(Worlds),
    /// Make pictures from a prompt with Stable Diffusion.
    #[command(after_help = generate::EXAMPLES)]
    Generate(Generate),
    /// Find where a model keeps what it knows of a caption's subject, by causal tracing.
    #[command(after_help = trace::EXAMPLES)]
    Trace(Trace),
    /// Remove or rewrite a concept in a model's text encoder, in milliseconds.
    #[command(after_help = edit::EXAMPLES)]
    Edit(Edit),
    /// Train a model that ships with the repository, from nothing.
    #[command(after_help = train::EXAMPLES)]
    Train(Train),
    /// Run tensors through one component of a model and write what comes out.
    #[command(after_help = forward::EXAMPLES)]
    Forward(Forward),
    /// Time the operations that training lives on, as CSV.
    #[command(after_help = bench::EXAMPLES)]
    Bench(Bench),
    /// Say which kernels have been verified on a GPU, or verify them on the one at hand.
    #[command(after_help = gpu::GPU_EXAMPLES)]
    Gpu(Gpu),
    /// Make what a build with CUDA needs, and build it.
    #[command(after_help = gpu::CUDA_EXAMPLES)]
    Cuda(Cuda),
    /// Run one trial of an experiment (what the executors start).
    #[command(hide = true)]
    Trial(Trial),
}

#[cfg(test)]
mod tests;
