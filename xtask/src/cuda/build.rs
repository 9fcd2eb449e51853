//! The runner with CUDA: which toolkit, with which variables, and what the binary needs when it runs.

use std::env;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use cli::CudaBuild;

use super::packages::Parts;
use super::setup;
use crate::{say, start};

/// Every name under which build scripts look for a toolkit.
const HOMES: [&str; 4] = ["CUDA_HOME", "CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR"];
/// Where a toolkit lies when it was installed as NVIDIA does.
const USUAL: &str = "/usr/local/cuda";

/// Builds the runner and returns what to tell about it.
pub(crate) fn run(folder: &Path, root: &Path, typed: &CudaBuild) -> Result<String> {
    let toolkit = toolkit(folder)?;
    let binary = build(folder, root, &toolkit, typed)?;
    Ok(format!(
        "Built {}\nIt needs when it runs: a GPU with NVIDIA's driver (libcuda.so.1; release 580 or later for CUDA 13) and \
         libcublas, libcublasLt, libcurand, libcudart and libnvrtc of the toolkit, found through\n  \
         LD_LIBRARY_PATH={}\n`cargo xtask gpu verify` starts it so. It does not start where there is no driver.",
        binary.display(),
        libraries(&toolkit).display()
    ))
}

/// Where the kernel shows NVIDIA's driver: on a machine, in a container, under WSL.
const DRIVER: [&str; 3] = ["/proc/driver/nvidia", "/dev/nvidiactl", "/dev/dxg"];

/// Says at once what a build of a quarter of an hour would end with: a program with CUDA does not start without a driver.
fn check_driver(traces: &[&str]) -> Result<()> {
    if traces.iter().any(|trace| Path::new(trace).exists()) {
        return Ok(());
    }
    bail!(
        "there is no NVIDIA driver on this machine (none of {} is there), so there is no GPU to verify on\n  \
         help: `cargo xtask gpu status` says what is verified; without a GPU, `cargo test --package kernel-host` runs every \
         kernel on the CPU",
        traces.join(", ")
    )
}

/// Builds the runner in release and starts it with `arguments`, the toolkit's libraries in reach.
pub(crate) fn start(
    folder: &Path,
    root: &Path,
    arguments: impl Iterator<Item = OsString>,
) -> Result<ExitCode> {
    check_driver(&DRIVER)?;
    let toolkit = toolkit(folder)?;
    let typed = CudaBuild { release: true, compute_cap: 90 };
    let binary = build(folder, root, &toolkit, &typed)?;
    start::with(
        &binary,
        arguments,
        &[("LD_LIBRARY_PATH", prepended(&libraries(&toolkit), "LD_LIBRARY_PATH")?)],
    )
}

fn build(folder: &Path, root: &Path, toolkit: &Path, typed: &CudaBuild) -> Result<PathBuf> {
    let target = folder.join("build");
    if !target.exists() {
        say(
            "The first build with CUDA takes about a quarter of an hour on two cores: candle compiles its kernels",
        );
    }
    let mut cargo = cargo(root, &target, toolkit, typed)?;
    let status = cargo.status().context("cannot start cargo: is Rust installed? See https://rustup.rs")?;
    if !status.success() {
        bail!("the runner did not build with CUDA ({status}); cargo's message above says why");
    }
    Ok(target.join(if typed.release { "release" } else { "debug" }).join("runner"))
}

fn cargo(root: &Path, target: &Path, toolkit: &Path, typed: &CudaBuild) -> Result<Command> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "--package", "runner", "--features", "cuda"]);
    cargo.arg("--manifest-path").arg(root.join("Cargo.toml")).arg("--target-dir").arg(target);
    if typed.release {
        cargo.arg("--release");
    }
    cargo.envs(HOMES.map(|name| (name, toolkit)));
    cargo.env("CUDA_COMPUTE_CAP", typed.compute_cap.to_string());
    cargo.env("PATH", prepended(&toolkit.join("bin"), "PATH")?);
    let stubs = prepended(&libraries(toolkit).join("stubs"), "LIBRARY_PATH")?;
    cargo.env("LIBRARY_PATH", joined(&libraries(toolkit), &stubs)?);
    Ok(cargo)
}

/// `first` before what the variable `name` holds.
fn prepended(first: &Path, name: &str) -> Result<OsString> {
    joined(first, &env::var_os(name).unwrap_or_default())
}

/// A list of folders with one more before it.
fn joined(first: &Path, rest: &OsStr) -> Result<OsString> {
    let rest = env::split_paths(rest).filter(|path| !path.as_os_str().is_empty());
    let all = std::iter::once(first.to_owned()).chain(rest);
    env::join_paths(all).with_context(|| format!("{} cannot stand in a list of folders", first.display()))
}

fn libraries(toolkit: &Path) -> PathBuf {
    toolkit.join("lib64")
}

/// The toolkit that `cuda setup` made, else the one that the environment names, else the one in the usual place.
fn toolkit(folder: &Path) -> Result<PathBuf> {
    let ours = folder.join("toolkit");
    if setup::is_finished(&ours, Parts::Whole) {
        return Ok(ours);
    }
    let named = HOMES.iter().filter_map(|name| env::var_os(name).map(PathBuf::from));
    match named.chain([PathBuf::from(USUAL)]).find(|home| home.join("bin/nvcc").exists()) {
        Some(home) => Ok(home),
        None => bail!(
            "there is no CUDA toolkit: none in {}, none named by CUDA_HOME, none in {USUAL}\n  \
             help: `cargo xtask cuda setup` makes one; it needs python3, the network and 1.2 GB, and no GPU",
            ours.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_build_has_its_own_target_folder_and_the_toolkit_in_every_variable() {
        let typed = CudaBuild { release: true, compute_cap: 80 };
        let command = cargo(Path::new("root"), Path::new("t/build"), Path::new("/kit"), &typed).unwrap();
        let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
        assert_eq!(words[..6], ["build", "--locked", "--package", "runner", "--features", "cuda"]);
        assert!(
            words.windows(2).any(|pair| pair == ["--target-dir", "t/build"])
                && words.contains(&"--release".into())
        );
        let variable = |name: &str| {
            let found = command.get_envs().find(|(key, _)| *key == name);
            found.and_then(|(_, value)| value).map(|value| value.to_string_lossy().into_owned())
        };
        for home in HOMES {
            assert_eq!(variable(home).as_deref(), Some("/kit"));
        }
        assert_eq!(variable("CUDA_COMPUTE_CAP").as_deref(), Some("80"));
        assert!(variable("PATH").unwrap().starts_with("/kit/bin:"));
        assert!(variable("LIBRARY_PATH").unwrap().starts_with("/kit/lib64:/kit/lib64/stubs"));
    }

    #[test]
    fn a_machine_without_a_driver_is_told_so_before_anything_is_built() {
        let error = check_driver(&["/no/such/driver"]).unwrap_err().to_string();
        assert!(error.contains("no NVIDIA driver") && error.contains("/no/such/driver"), "{error}");
        assert!(check_driver(&["/no/such/driver", "/"]).is_ok());
    }

    #[test]
    fn a_missing_toolkit_is_said_with_the_command_that_makes_one() {
        let folder = tempfile::tempdir().unwrap();
        if HOMES.iter().any(|name| env::var_os(name).is_some()) || Path::new(USUAL).exists() {
            say("skipped: this machine has a toolkit");
            return;
        }
        assert!(toolkit(folder.path()).unwrap_err().to_string().contains("cargo xtask cuda setup"));
    }
}
