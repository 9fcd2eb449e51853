//! One safetensors file, mapped into memory.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Result as TensorResult, Tensor};
use memmap2::Mmap;

use super::error::{WeightsError, io};
use super::foreign;
use super::header::{self, Entry, Header};

/// A file whose header was read and checked.
pub(super) struct Mapped {
    pub(super) path: PathBuf,
    pub(super) header: Header,
    bytes: Mmap,
}

impl Mapped {
    /// Opens `path` and checks all that can be checked without reading a tensor.
    pub(super) fn open(path: &Path) -> Result<Self, WeightsError> {
        // Before it is opened: opening a pipe would wait for a writer.
        let about = io(path, "open it", std::fs::metadata(path))?;
        if !about.is_file() {
            let found = if about.is_dir() { "a folder" } else { "something else than a file" };
            return Err(WeightsError::absent(
                path,
                "a safetensors file",
                found,
                "give the path of the file itself",
            ));
        }
        let mut file = io(path, "open it", File::open(path))?;
        let mut head = Vec::new();
        io(path, "read it", file.by_ref().take(foreign::LOOKED_AT as u64).read_to_end(&mut head))?;
        foreign::refuse(path, &head, about.len())?;
        // SAFETY: the mapping is read-only and its bytes are taken as they come, every one of them checked or a number. That
        // nobody shortens or rewrites the file meanwhile is asked of the user (the module's page says so).
        let bytes = io(path, "map it into memory", unsafe { Mmap::map(&file) })?;
        let header = header::read(path, &bytes)?;
        let mapped = Self { path: path.to_owned(), header, bytes };
        // The header is read once; a sharded model has many.
        mapped.release(0, mapped.bytes.len());
        Ok(mapped)
    }

    /// The bytes of one of this file's tensors.
    pub(super) fn bytes(&self, entry: &Entry) -> &[u8] {
        &self.bytes[entry.begin..entry.end]
    }

    /// Reads one of this file's tensors.
    pub(super) fn tensor(&self, entry: &Entry, dtype: DType, device: &Device) -> TensorResult<Tensor> {
        let release = |from: usize, length: usize| self.release(entry.begin + from, length);
        let tensor =
            entry.stored.tensor(&self.bytes[entry.begin..entry.end], &entry.shape, dtype, device, &release);
        // What was not read in slabs.
        self.release(entry.begin, entry.end - entry.begin);
        tensor
    }

    /// Gives the pages of a stretch back: they are the file's, and would be counted as memory of this process.
    #[cfg(unix)]
    fn release(&self, from: usize, length: usize) {
        if length == 0 {
            return;
        }
        // SAFETY: the pages are a read-only mapping of a file, never written here: what is dropped is read again from the
        // file where it is touched again.
        let released =
            unsafe { self.bytes.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, from, length) };
        // Advice that is not taken costs memory, not correctness.
        drop(released);
    }

    #[cfg(not(unix))]
    fn release(&self, _from: usize, _length: usize) {}
}
