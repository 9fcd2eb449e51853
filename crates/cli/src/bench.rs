//! `bench`: times under stable names.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::reproduce::at_least_one;

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask bench                                       every case, as CSV on standard output
  cargo xtask bench cpu --only diffgrad/ --reps 15
  cargo xtask bench cpu --only conv2d/ --implementation candle
  cargo xtask bench cpu --only unet_ --reps 3             the full-size UNet: 4 GB, run only where it is named
  cargo xtask bench cpu --vs other.csv                    joined by name with another program's times

Each line is name,median_ms,q1_ms,q3_ms,reps,device; a name is <op>/<dtype>/<case>/<pass>. Run both programs in one
sitting, in turn: absolute times drift on a shared machine, ratios do not.";

/// Arguments of `bench`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Bench {
    /// What is timed.
    #[arg(value_enum, default_value_t = BenchDevice::Cpu)]
    pub device: BenchDevice,
    /// Only the cases whose name begins with this.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub only: String,
    /// Timed repetitions of each case, after two that are not.
    #[arg(long, value_name = "N", default_value = "7", value_parser = at_least_one)]
    pub reps: usize,
    /// Threads [default: every core].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub threads: Option<usize>,
    /// Whose operations: ours, or the same functions made of candle's own.
    #[arg(long, value_enum, default_value_t = Implementation::Ours)]
    pub implementation: Implementation,
    /// A CSV of the same form: prints both medians and their ratio instead (theirs over ours: above 1 we are faster).
    #[arg(long, value_name = "ROWS.csv")]
    pub vs: Option<PathBuf>,
}

/// What is timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum BenchDevice {
    /// This machine's CPU
    #[default]
    Cpu,
}

/// Whose operations are timed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Implementation {
    /// The engine's
    #[default]
    Ours,
    /// candle's, where it has them with a right gradient
    Candle,
}
