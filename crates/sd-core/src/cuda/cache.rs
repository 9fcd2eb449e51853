//! Compiled kernels on disk: one file for each source, options, architecture and compiler.
//!
//! A file begins with the digest of what follows, so one that was damaged is seen and made anew. It is written under another
//! name and renamed, so two programs that compile at once do not disturb each other. A folder that cannot be written only
//! costs the time to compile again.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::digest::hex;
use super::nvrtc::{OPTIONS, Target};
use super::{COMMON, Source};

/// The first word of an entry.
const MAGIC: &str = "difflab-kernel-1";

/// A folder of compiled kernels; without a folder nothing is kept.
#[derive(Clone, Debug, Default)]
pub struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// The folder `difflab-kernels` in the cache folder of the Hub's files: `$HF_HUB_CACHE`, else `hub` in `$HF_HOME`, else in
    /// `~/.cache/huggingface`. No folder where none of these is known.
    #[must_use]
    pub fn from_env() -> Self {
        Self { folder: folder(|name| std::env::var_os(name).map(PathBuf::from)) }
    }

    /// In this folder, which need not exist yet.
    #[must_use]
    pub fn at(folder: impl Into<PathBuf>) -> Self {
        Self { folder: Some(folder.into()) }
    }

    /// What is kept under `key`, else what `make` gives, which is kept.
    ///
    /// # Errors
    /// Where `make` fails.
    pub fn get_or_make<E>(&self, key: &str, make: impl FnOnce() -> Result<Vec<u8>, E>) -> Result<Vec<u8>, E> {
        let path = self.folder.as_ref().map(|folder| folder.join(format!("{key}.bin")));
        if let Some(image) = path.as_deref().and_then(read) {
            return Ok(image);
        }
        let image = make()?;
        if let Some(path) = path {
            // See the head of this module.
            let _ = write(&path, &image);
        }
        Ok(image)
    }
}

/// Under which name a compiled source is kept.
#[must_use]
pub fn key(source: &Source, target: Target, more: &[&str], compiler: (u32, u32)) -> String {
    let options: Vec<&str> = OPTIONS.iter().chain(more).copied().collect();
    let version = format!("{}.{}", compiler.0, compiler.1);
    let architecture = target.architecture();
    // NUL stands in none of the parts.
    hex(&[[source.text, COMMON, &architecture, &version, &options.join("\0")].join("\0")])
}

fn folder(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.as_os_str().is_empty());
    let hub = set("HF_HUB_CACHE")
        .or_else(|| set("HF_HOME").map(|home| home.join("hub")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/huggingface/hub")));
    hub.map(|hub| hub.join("difflab-kernels"))
}

/// The content of an entry, if it is there and whole.
fn read(path: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(path).ok()?;
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    let (head, image) = (&bytes[..end], &bytes[end + 1..]);
    (head == self::head(image).as_bytes()).then(|| image.to_vec())
}

fn head(image: &[u8]) -> String {
    format!("{MAGIC} {}", hex(&[image]))
}

fn write(path: &Path, image: &[u8]) -> std::io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let unique = format!("tmp{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let temporary = path.with_extension(unique);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let content = [head(image).as_bytes(), b"\n", image].concat();
    let written = fs::write(&temporary, content).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // Nothing more can be done where this fails too.
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    static SOURCE: Source = Source { name: "s", path: "s.cu", text: "one", kernels: &[], stack_limit: 0 };

    fn made(image: &[u8]) -> Result<Vec<u8>, String> {
        Ok(image.to_vec())
    }

    fn unmade() -> Result<Vec<u8>, String> {
        Err("compiled again".to_owned())
    }

    #[test]
    fn what_was_made_is_not_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path().join("not/yet/there"));
        assert_eq!(cache.get_or_make("k", || made(b"image\n\0")).unwrap(), b"image\n\0");
        assert_eq!(cache.get_or_make("k", unmade).unwrap(), b"image\n\0");
        assert_eq!(cache.get_or_make("other", unmade).unwrap_err(), "compiled again");
        let names = fs::read_dir(folder.path().join("not/yet/there")).unwrap().count();
        assert_eq!(names, 1, "no temporary file stays");
    }

    #[test]
    fn a_damaged_entry_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let cache = Cache::at(folder.path());
        cache.get_or_make("k", || made(b"image")).unwrap();
        let path = folder.path().join("k.bin");
        let whole = fs::read(&path).unwrap();
        let mut flipped = whole.clone();
        *flipped.last_mut().unwrap() ^= 1;
        for damaged in [&whole[..whole.len() - 1], &flipped, b"", b"no line at all"] {
            fs::write(&path, damaged).unwrap();
            assert_eq!(cache.get_or_make("k", || made(b"anew")).unwrap(), b"anew");
            assert_eq!(fs::read(&path).unwrap().len(), whole.len() - 1, "and kept");
            fs::write(&path, &whole).unwrap();
        }
    }

    #[test]
    fn everything_that_matters_is_in_the_key() {
        let base = key(&SOURCE, Target::Machine(90), &["-G"], (13, 0));
        let edited = Source { text: "two", ..SOURCE };
        let others = [
            key(&edited, Target::Machine(90), &["-G"], (13, 0)),
            key(&SOURCE, Target::Ptx(90), &["-G"], (13, 0)),
            key(&SOURCE, Target::Machine(80), &["-G"], (13, 0)),
            key(&SOURCE, Target::Machine(90), &[], (13, 0)),
            key(&SOURCE, Target::Machine(90), &["-G"], (13, 1)),
        ];
        assert!(others.iter().all(|other| *other != base), "{base} {others:?}");
        assert_eq!(base, key(&SOURCE, Target::Machine(90), &["-G"], (13, 0)));
    }

    #[test]
    fn a_folder_that_cannot_be_written_costs_only_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let cache = Cache::at(file.join("below"));
        assert_eq!(cache.get_or_make("k", || made(b"image")).unwrap(), b"image");
        assert_eq!(Cache::default().get_or_make("k", || made(b"image")).unwrap(), b"image");
    }

    #[test]
    fn the_folder_is_where_the_hubs_files_are() {
        let with = |set: &'static [(&str, &str)]| {
            folder(|name| set.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value)))
        };
        assert_eq!(with(&[("HF_HUB_CACHE", "/c"), ("HF_HOME", "/h")]), Some("/c/difflab-kernels".into()));
        assert_eq!(with(&[("HF_HUB_CACHE", ""), ("HF_HOME", "/h")]), Some("/h/hub/difflab-kernels".into()));
        assert_eq!(with(&[("HOME", "/u")]), Some("/u/.cache/huggingface/hub/difflab-kernels".into()));
        assert_eq!(with(&[]), None);
    }
}
