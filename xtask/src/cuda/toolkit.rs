//! A folder that looks like an installed toolkit, made of links to what the wheels brought.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::setup::remove;

/// Where the wheels of CUDA 13 put their files inside an environment.
///
/// # Errors
/// Where there is no such folder.
pub(crate) fn wheels(environment: &Path) -> Result<PathBuf> {
    let libraries = environment.join("lib");
    let found = entries(&libraries)?.into_iter().map(|python| python.join("site-packages/nvidia/cu13"));
    let found = found.filter(|folder| folder.is_dir()).min();
    found.with_context(|| format!("{}: the wheels brought no nvidia/cu13", libraries.display()))
}

/// Fills `toolkit` with links: `bin`, `include` and `nvvm` as they are, in `lib64` every library under its full name
/// and, as the linker asks for it, without its version.
pub(crate) fn lay_out(toolkit: &Path, wheels: &Path) -> Result<()> {
    remove(toolkit)?;
    let lib64 = toolkit.join("lib64");
    fs::create_dir_all(&lib64).with_context(|| format!("cannot make {}", lib64.display()))?;
    for part in ["bin", "include", "nvvm"] {
        if wheels.join(part).exists() {
            link(&wheels.join(part), &toolkit.join(part))?;
        }
    }
    for library in entries(&wheels.join("lib"))? {
        let Some(name) = library.file_name().and_then(|name| name.to_str()) else { continue };
        link(&library, &lib64.join(name))?;
        if let Some(bare) = without_version(name) {
            link(Path::new(name), &lib64.join(bare))?;
        }
    }
    Ok(())
}

/// `libx.so` for `libx.so.13` and `libx.so.13.0`.
fn without_version(name: &str) -> Option<&str> {
    let (stem, _) = name.split_once(".so.")?;
    Some(&name[..stem.len() + ".so".len()])
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listing = fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths: Vec<PathBuf> = listing.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    Ok(paths)
}

/// A name that is taken already stays what it is: of two versions the first in order.
#[cfg(unix)]
fn link(to: &Path, name: &Path) -> Result<()> {
    match std::os::unix::fs::symlink(to, name) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot link {} to {}", name.display(), to.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn link(_: &Path, name: &Path) -> Result<()> {
    anyhow::bail!(
        "cannot link {}: this command is for Linux; install NVIDIA's toolkit instead",
        name.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_linkers_name_has_no_version() {
        assert_eq!(without_version("libcublas.so.13"), Some("libcublas.so"));
        assert_eq!(without_version("libnvrtc-builtins.so.13.0"), Some("libnvrtc-builtins.so"));
        assert_eq!(without_version("libcudart_static.a"), None);
        assert_eq!(without_version("libx.so"), None);
    }
}
