//! A stand-in for the driver's library, `libcuda.so`, which comes with a driver and not with a toolkit.
//!
//! The linker only wants to see its symbols; at run time the system finds the driver's own `libcuda.so.1`. Every function of the
//! stand-in returns 34, which the driver calls `CUDA_ERROR_STUB_LIBRARY`: a program started with it says what is wrong.
//!
//! `driver_symbols.txt` lists what cudarc may call. After a new version of cudarc in `Cargo.lock` write it anew:
//!
//! ```sh
//! grep -ohE '^ +fn cu[A-Z][A-Za-z0-9_]*\(' ~/.cargo/registry/src/*/cudarc-<version>/src/driver/sys/mod.rs |
//!   sed -E 's/ *fn //; s/\(//' | sort -u > xtask/src/cuda/driver_symbols.txt
//! ```

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::setup::write;

const SYMBOLS: &str = include_str!("driver_symbols.txt");

/// Builds `folder/libcuda.so`, and links to it under the name that programs ask for.
pub(crate) fn build(folder: &Path, cc: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let source = folder.join("libcuda.c");
    write(&source, &source_text(SYMBOLS))?;
    let mut compiler = Command::new(cc);
    compiler
        .args(["-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o"])
        .arg(folder.join("libcuda.so"))
        .arg(&source);
    let made = compiler.output().with_context(|| {
        format!("cannot start {}\n  help: install a C compiler (gcc or clang)", cc.display())
    })?;
    if !made.status.success() {
        let said = String::from_utf8_lossy(&made.stderr);
        bail!("{} could not build {} ({}): {}", cc.display(), source.display(), made.status, said.trim());
    }
    Ok(())
}

fn source_text(symbols: &str) -> String {
    let functions = symbols.lines().map(|name| format!("int {name}(void) {{ return 34; }}\n"));
    "// Stands in for the driver's library when linking. 34 is CUDA_ERROR_STUB_LIBRARY.\n".to_owned()
        + &functions.collect::<String>()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::PathBuf;

    #[test]
    fn the_list_is_plain_sorted_and_holds_what_every_program_calls() {
        let names: Vec<&str> = SYMBOLS.lines().collect();
        assert!(names.is_sorted() && names.len() > 400, "{}", names.len());
        assert!(
            names
                .iter()
                .all(|name| name.starts_with("cu") && name.chars().all(|c| c.is_alphanumeric() || c == '_'))
        );
        for needed in ["cuInit", "cuLaunchKernel", "cuMemAllocAsync", "cuModuleLoadData", "cuGetErrorString"]
        {
            assert!(names.contains(&needed), "{needed}");
        }
    }

    /// cudarc's bindings of the locked version, where cargo has fetched them.
    fn bindings() -> Option<String> {
        let lock = fs::read_to_string(crate::build::repository_root().join("Cargo.lock")).unwrap();
        let (_, after) = lock.split_once("name = \"cudarc\"\nversion = \"").unwrap();
        let version = after.split('"').next().unwrap();
        let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
        let home = home.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))?;
        let registries = fs::read_dir(home.join("registry/src")).ok()?;
        let file = |registry: PathBuf| registry.join(format!("cudarc-{version}/src/driver/sys/mod.rs"));
        registries.flatten().find_map(|registry| fs::read_to_string(file(registry.path())).ok())
    }

    #[test]
    fn the_list_is_what_the_locked_cudarc_declares() {
        let Some(bindings) = bindings() else {
            crate::say("skipped: cargo has not fetched cudarc, which only the feature cuda needs");
            return;
        };
        let declared = bindings.lines().filter_map(|line| line.strip_prefix("            fn "));
        let mut declared: Vec<&str> = declared.filter_map(|line| Some(line.split_once('(')?.0)).collect();
        declared.sort_unstable();
        declared.dedup();
        assert_eq!(declared, SYMBOLS.lines().collect::<Vec<_>>(), "see the head of stub.rs");
    }

    #[test]
    fn the_stand_in_links_under_the_drivers_name() {
        let folder = tempfile::tempdir().unwrap();
        build(folder.path(), Path::new("cc")).unwrap();
        let library = fs::read(folder.path().join("libcuda.so")).unwrap();
        let holds = |text: &[u8]| library.windows(text.len()).any(|window| window == text);
        assert!(holds(b"libcuda.so.1\0") && holds(b"cuLaunchKernel\0"));
        let error = build(folder.path(), Path::new("/no/such/cc")).unwrap_err();
        assert!(format!("{error:#}").contains("/no/such/cc"), "{error:#}");
    }
}
