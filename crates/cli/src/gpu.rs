//! `gpu`, which says and checks what runs on a GPU, and `cuda`, which makes the build that does.

use clap::{Args, Subcommand};

use crate::reproduce::at_least_one;

pub(crate) const GPU_EXAMPLES: &str = "\
Examples:
  cargo xtask gpu status                     which kernels have been verified on a GPU as they stand
  cargo xtask gpu verify                     runs every kernel's cases on the GPU at hand and appends to the ledger
  cargo xtask gpu verify --only attention

The ledger is results/gpu/ledger.csv. Exit code 1 of `verify`: a kernel gave a wrong value. Exit code 2: there is no GPU.";

pub(crate) const CUDA_EXAMPLES: &str = "\
Examples:
  cargo xtask cuda setup                     a CUDA toolkit in target/cuda, from Python wheels; no GPU needed
  cargo xtask cuda setup --nvrtc-only        only what compiles kernels in tests
  cargo xtask cuda build --release           the runner with CUDA, in target/cuda/build

Needs python3 with its venv module and a C compiler. A toolkit of your own serves as well: set CUDA_HOME.";

/// Arguments of `gpu`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Gpu {
    /// What to do.
    #[command(subcommand)]
    pub action: GpuAction,
}

/// What `gpu` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum GpuAction {
    /// List the kernels whose source as it stands has not been verified on a GPU. Needs no GPU.
    Status,
    /// Run every kernel on the GPU at hand against its expected values, time it, and append to the ledger.
    Verify(GpuVerify),
}

/// Arguments of `gpu verify`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct GpuVerify {
    /// Only the kernel files whose name begins with this.
    #[arg(long, value_name = "PREFIX", default_value = "")]
    pub only: String,
    /// Index of the GPU.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub gpu: usize,
    /// Timed repetitions of each case, after a warm-up; the median is reported.
    #[arg(long, value_name = "N", default_value = "20", value_parser = at_least_one)]
    pub reps: usize,
    /// Do not run the cases under compute-sanitizer, even where it is installed.
    #[arg(long)]
    pub no_sanitizer: bool,
    /// Run the cases alone, without timing and without the ledger (what compute-sanitizer is started on).
    #[arg(long, hide = true)]
    pub cases_only: bool,
}

/// Arguments of `cuda`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Cuda {
    /// What to do.
    #[command(subcommand)]
    pub action: CudaAction,
}

/// What `cuda` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum CudaAction {
    /// Make a CUDA toolkit in target/cuda/toolkit from the Python package index.
    Setup {
        /// Only libnvrtc and ptxas, with which tests compile the kernels.
        #[arg(long)]
        nvrtc_only: bool,
    },
    /// Build the runner with CUDA in target/cuda/build.
    Build(CudaBuild),
}

/// Arguments of `cuda build`.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct CudaBuild {
    /// Build in release mode, with optimisations.
    #[arg(long)]
    pub release: bool,
    /// Compute capability that candle's own kernels are compiled for, as 90 for 9.0 (ours are compiled at run time).
    #[arg(long, value_name = "CC", default_value = "90", value_parser = compute_capability)]
    pub compute_cap: u32,
}

/// Two or three digits: 75, 90, 120.
fn compute_capability(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(cap @ 50..=200) => Ok(cap),
        _ => {
            Err(format!("expected a compute capability without its point, such as 80 or 90, found `{text}`"))
        }
    }
}
