//! Builds the runner in release and says where it lies.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

const FIRST_BUILD: &str = "Building the runner in release. The first build takes about 6 minutes on two cores; later ones take seconds.";

/// Builds what is out of date and returns the path of the binary.
pub(crate) fn runner() -> Result<PathBuf> {
    let binary = beside(&env::current_exe().context("where xtask itself lies")?)?;
    if !binary.exists() {
        crate::say(FIRST_BUILD);
    }
    let mut cargo = cargo_build(&repository_root());
    let status = cargo.status().context("cannot start cargo: is Rust installed? See https://rustup.rs")?;
    if !status.success() {
        bail!("the runner did not build ({status}); cargo's message above says why");
    }
    if !binary.exists() {
        bail!(
            "cargo built the runner, but not as {}: is build.target set for one profile only?",
            binary.display()
        );
    }
    Ok(binary)
}

/// `<target>/release/runner`, given `<target>/debug/xtask`: holds whatever the target folder is called and wherever it is.
fn beside(xtask: &Path) -> Result<PathBuf> {
    Ok(target_around(xtask)?.join("release").join(format!("runner{}", env::consts::EXE_SUFFIX)))
}

/// The target folder that this program was built into.
pub(crate) fn target_folder() -> Result<PathBuf> {
    target_around(&env::current_exe().context("where xtask itself lies")?)
}

fn target_around(xtask: &Path) -> Result<PathBuf> {
    let target = xtask.parent().and_then(Path::parent).map(Path::to_owned);
    target.with_context(|| format!("{} lies in no target folder", xtask.display()))
}

/// Cargo's own progress goes to standard error, so standard output stays the runner's.
fn cargo_build(root: &Path) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--release", "--package", "runner", "--manifest-path"]).arg(root.join("Cargo.toml"));
    cargo
}

/// `cargo run` says where this package lies now; the path from when it was compiled serves a binary started by hand.
pub(crate) fn repository_root() -> PathBuf {
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).join("..")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_runner_lies_in_the_release_folder_of_the_same_target_folder() {
        let found = beside(Path::new("/anywhere/at all/debug/xtask")).unwrap();
        assert_eq!(found.with_extension(""), Path::new("/anywhere/at all/release/runner"));
        assert!(beside(Path::new("xtask")).is_err());
    }

    #[test]
    fn the_root_is_the_workspace() {
        let manifest = std::fs::read_to_string(repository_root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
    }

    #[test]
    fn the_build_is_a_release_build_of_the_runner_alone() {
        let command = cargo_build(Path::new("root"));
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert_eq!(words[..4], ["build", "--release", "--package", "runner"]);
    }
}
