//! Which files the rules look at.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One text file, its path relative to the repository.
pub(crate) struct File {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl File {
    /// Whether the path, with `/` between its parts, satisfies `test`.
    pub(crate) fn is(&self, test: impl Fn(&str) -> bool) -> bool {
        test(&self.path.to_string_lossy().replace('\\', "/"))
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap()
}

/// Every file whose extension is among `extensions`, build outputs and git's own folder left out.
pub(crate) fn with_extension(extensions: &[&str]) -> Vec<File> {
    let mut paths = Vec::new();
    collect(&root(), &mut paths);
    paths.retain(|path| {
        path.extension().is_some_and(|found| extensions.iter().any(|wanted| found == *wanted))
    });
    paths.sort();
    paths.into_iter().map(read).collect()
}

/// Every Rust file but these rules themselves, which quote what they forbid.
pub(crate) fn rust() -> Vec<File> {
    let mut files = with_extension(&["rs"]);
    files.retain(|file| !file.is(|path| path.starts_with("xtask/tests/tidy/")));
    files
}

/// Rust sources of the crates that others use: everything that may not write to the terminal by itself.
pub(crate) fn libraries() -> Vec<File> {
    let mut files = rust();
    files.retain(|file| file.is(|path| path.starts_with("crates/") && path.contains("/src/")));
    files.retain(|file| !file.is(|path| path.starts_with("crates/runner/") || path.contains("/bin/")));
    files
}

/// Sizes in bytes of the files that git tracks (of all files where this is no git checkout).
pub(crate) fn tracked_sizes() -> Vec<(PathBuf, u64)> {
    let size = |path: PathBuf| fs::symlink_metadata(root().join(&path)).ok().map(|meta| (path, meta.len()));
    tracked().into_iter().filter_map(size).collect()
}

fn tracked() -> Vec<PathBuf> {
    let listing = Command::new("git").arg("-C").arg(root()).args(["ls-files", "-z"]).output();
    match listing {
        Ok(listing) if listing.status.success() && !listing.stdout.is_empty() => {
            String::from_utf8_lossy(&listing.stdout).split_terminator('\0').map(PathBuf::from).collect()
        }
        _ => {
            let mut paths = Vec::new();
            collect(&root(), &mut paths);
            paths
        }
    }
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) {
    const SKIPPED: [&str; 6] = ["target", ".git", "trials", "out", "__pycache__", "node_modules"];
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let skipped = SKIPPED.iter().any(|name| entry.file_name() == *name);
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !skipped => collect(&path, into),
            Ok(kind) if kind.is_file() => into.push(path),
            _ => {}
        }
    }
}

fn read(path: PathBuf) -> File {
    let bytes = fs::read(&path).unwrap();
    let text = String::from_utf8(bytes).unwrap_or_else(|_| panic!("{} is not UTF-8", path.display()));
    File { path: path.strip_prefix(root()).unwrap().to_owned(), text }
}

#[test]
fn the_walk_finds_sources_and_leaves_build_outputs_out() {
    let files = with_extension(&["rs", "toml"]);
    assert!(files.iter().any(|file| file.is(|path| path == "xtask/src/main.rs")));
    assert!(files.iter().any(|file| file.is(|path| path == "Cargo.toml")));
    assert!(!files.iter().any(|file| file.is(|path| path.contains("target/"))));
}
