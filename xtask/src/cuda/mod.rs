//! `cuda setup` and `cuda build`: CUDA for machines that have neither a GPU nor a toolkit.
//!
//! NVIDIA publishes the parts of its toolkit as Python wheels. [`setup`] puts them into `target/cuda/toolkit`, laid out as
//! an installed toolkit, with a stand-in for the driver's library that the linker is content with; [`build`] builds the
//! runner against it.

mod build;
mod packages;
mod setup;
mod stub;
mod toolkit;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;
use cli::{Cuda, CudaAction};

use crate::build::{repository_root, target_folder};
use crate::say;

/// Does what was typed.
pub(crate) fn run(typed: &Cuda) -> Result<()> {
    let folder = target_folder()?.join("cuda");
    match &typed.action {
        CudaAction::Setup { nvrtc_only } => {
            let parts = if *nvrtc_only { packages::Parts::Nvrtc } else { packages::Parts::Whole };
            say(&setup::run(&folder, parts, &setup::Tools::default())?);
        }
        CudaAction::Build(typed) => say(&build::run(&folder, &repository_root(), typed)?),
    }
    Ok(())
}

/// Builds the runner with CUDA and starts it with `arguments`.
pub(crate) fn start(arguments: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    build::start(&target_folder()?.join("cuda"), &repository_root(), arguments)
}
