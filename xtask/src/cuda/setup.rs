//! From nothing to `toolkit/`: a virtual environment of Python, the wheels, and a folder of links into them.
//!
//! Everything is made under a name that ends in `.part` and renamed when it is whole, so an interrupted set-up leaves
//! nothing under a final name, and the next one goes on with the wheels that are there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use super::packages::Parts;
use super::{stub, toolkit};
use crate::say;

/// The file of a finished toolkit that says what is in it.
pub(crate) const STAMP: &str = "difflab-setup";

/// The programs that are used.
#[derive(Clone, Debug)]
pub(crate) struct Tools {
    pub(crate) python: PathBuf,
    pub(crate) cc: PathBuf,
}

impl Default for Tools {
    fn default() -> Self {
        Self { python: "python3".into(), cc: "cc".into() }
    }
}

/// Makes `folder/toolkit` and returns what to tell about it.
pub(crate) fn run(folder: &Path, parts: Parts, tools: &Tools) -> Result<String> {
    let finished = folder.join("toolkit");
    if is_finished(&finished, parts) {
        return Ok(format!("The toolkit is there already: {}", finished.display()));
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let venv = environment(folder, parts, tools)?;
    let half = folder.join("toolkit.part");
    toolkit::lay_out(&half, &toolkit::wheels(&venv)?)?;
    if parts == Parts::Whole {
        stub::build(&half.join("lib64/stubs"), &tools.cc)?;
    }
    check(&half, parts)?;
    write(&half.join(STAMP), &parts.stamp())?;
    replace(&half, &finished)?;
    Ok(told(&finished, parts))
}

/// Whether a whole toolkit with what is wanted lies here.
pub(crate) fn is_finished(toolkit: &Path, parts: Parts) -> bool {
    fs::read_to_string(toolkit.join(STAMP)).is_ok_and(|stamp| parts.served_by(&stamp))
        && check(toolkit, parts).is_ok()
}

fn check(toolkit: &Path, parts: Parts) -> Result<()> {
    for file in parts.proof() {
        ensure!(
            toolkit.join(file).exists(),
            "{} lacks {file}\n  help: remove {} and set up again",
            toolkit.display(),
            toolkit.parent().unwrap_or(toolkit).display()
        );
    }
    Ok(())
}

/// The virtual environment with the wheels in it.
fn environment(folder: &Path, parts: Parts, tools: &Tools) -> Result<PathBuf> {
    let (finished, half) = (folder.join("venv"), folder.join("venv.part"));
    // An environment with other wheels is gone on with: most of them are wanted again.
    if finished.exists() && !half.exists() {
        remove(&folder.join("toolkit"))?;
        rename(&finished, &half)?;
    }
    if !half.join("bin/python").exists() {
        say(&format!("Making a virtual environment of Python in {}", finished.display()));
        make_environment(&half, &tools.python)?;
    }
    say(&format!("Installing NVIDIA's wheels, {} on the disk", parts.size()));
    install(&half, parts)?;
    replace(&half, &finished)?;
    Ok(finished)
}

fn make_environment(half: &Path, python: &Path) -> Result<()> {
    let made = Command::new(python).args(["-m", "venv"]).arg(half).output();
    let made = made.with_context(|| {
        format!(
            "cannot start {}\n  help: install Python 3; it is only used to fetch wheels",
            python.display()
        )
    })?;
    if !made.status.success() {
        let (out, err) = (String::from_utf8_lossy(&made.stdout), String::from_utf8_lossy(&made.stderr));
        bail!(
            "`{} -m venv` failed ({}): {}{}\n  help: install Python's venv module (Debian: apt install python3-venv)",
            python.display(),
            made.status,
            out.trim(),
            err.trim()
        );
    }
    Ok(())
}

fn install(environment: &Path, parts: Parts) -> Result<()> {
    let mut pip = Command::new(environment.join("bin/python"));
    pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--quiet"]);
    if !parts.with_dependencies() {
        pip.arg("--no-deps");
    }
    // pip's own progress and complaints belong on standard error.
    let status = pip.args(parts.requirements()).stdout(std::io::stderr()).status();
    let status = status.with_context(|| format!("cannot start Python in {}", environment.display()))?;
    if !status.success() {
        bail!(
            "pip could not install {} ({status}); its message above says why\n  \
             help: this needs the network (or a mirror in pip's configuration) and x86-64 Linux; run the same command \
             again, it goes on with what is there",
            parts.requirements().join(" ")
        );
    }
    Ok(())
}

fn told(toolkit: &Path, parts: Parts) -> String {
    let next = match parts {
        Parts::Whole => "cargo xtask cuda build --release",
        Parts::Nvrtc => "cargo test --package kernel-host",
    };
    format!("The toolkit is in {}\nNext: {next}", toolkit.display())
}

/// Puts `half` in the place of `finished`.
fn replace(half: &Path, finished: &Path) -> Result<()> {
    remove(finished)?;
    rename(half, finished)
}

fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).with_context(|| format!("cannot rename {} to {}", from.display(), to.display()))
}

/// Removes a folder, which need not be there.
pub(crate) fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

/// Writes a small file.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(all(test, unix))]
#[path = "setup_tests.rs"]
mod tests;
