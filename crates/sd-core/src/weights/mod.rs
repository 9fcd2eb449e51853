//! Weights: safetensors files, folders of diffusers and transformers, and the Hub they come from.
//!
//! # Memory
//! A file is mapped, not read: opening one costs its header. A tensor is then copied once, from the mapping into the tensor
//! itself, converted on the way; pages that were read are given back every 16 MiB. So loading a model needs its
//! own size in the dtype asked for and 16 MiB beside. (On a GPU: one tensor beside, on the host.)
//!
//! A mapped file must not be shortened or rewritten while it is in use: the operating system then ends the program
//! (SIGBUS) or gives other numbers. The fetcher and the writers here never do so; they replace whole files.
//!
//! # Trust
//! Nothing in a file is trusted. Lengths, offsets, shapes and names are checked before they are used; pickles are recognised by
//! their content and refused.

mod error;
mod file;
mod find;
mod folder;
mod folder_writer;
mod foreign;
mod header;
pub mod hub;
mod loader;
mod parts;
mod rules;
mod shards;
mod stored;
#[cfg(test)]
mod tests;
mod whole;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Result as TensorResult, Tensor, bail};

pub use error::WeightsError;
pub use folder::{Component, Folder, Pipeline};
pub use folder_writer::FolderWriter;
pub use loader::{Loader, Misfit, MisshapedTensor, load};
pub use rules::{Rules, matches};
pub use write::{Planned, write_streamed, write_tensors};

use file::Mapped;
use find::Found;

/// Tensors by name, in files or in memory.
pub struct Weights {
    place: PathBuf,
    parts: Vec<Mapped>,
    /// Where each tensor is.
    owners: BTreeMap<String, Owner>,
}

enum Owner {
    Part(usize),
    Memory(Tensor),
}

impl Weights {
    /// Opens a `.safetensors` file, an index of shards (`*.index*.json`), or a folder that holds one or the other.
    ///
    /// # Errors
    /// See [`WeightsError`]: absent, no safetensors, broken, or shards that do not fit their index.
    pub fn open(path: &Path) -> Result<Self, WeightsError> {
        Self::open_for(path, None)
    }

    /// As [`Weights::open`]; of a folder that also holds the half-precision variant (`*.fp16.safetensors`), that one where
    /// `dtype` is `f16`. A variant that is the only one is taken for any dtype.
    ///
    /// # Errors
    /// As [`Weights::open`].
    pub fn open_for(path: &Path, dtype: Option<DType>) -> Result<Self, WeightsError> {
        let found = if path.is_dir() {
            find::weights(path, dtype)?
        } else if path.extension().is_some_and(|extension| extension == "json") {
            Found::Sharded(path.to_owned())
        } else {
            Found::Whole(path.to_owned())
        };
        match found {
            Found::Whole(path) => Ok(Self::whole(Mapped::open(&path)?)),
            Found::Sharded(path) => {
                let (parts, owners) = shards::open(&path)?;
                let owners = owners.into_iter().map(|(name, part)| (name, Owner::Part(part))).collect();
                Ok(Self { place: path, parts, owners })
            }
        }
    }

    fn whole(file: Mapped) -> Self {
        let owners = file.header.tensors.keys().map(|name| (name.clone(), Owner::Part(0))).collect();
        Self { place: file.path.clone(), parts: vec![file], owners }
    }

    /// Tensors that are in memory already.
    #[must_use]
    pub fn from_tensors(tensors: BTreeMap<String, Tensor>) -> Self {
        let owners = tensors.into_iter().map(|(name, tensor)| (name, Owner::Memory(tensor))).collect();
        Self { place: "(in memory)".into(), parts: Vec::new(), owners }
    }

    /// The file, or the index of the files; for messages.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.owners.keys().map(String::as_str)
    }

    /// Shape of a tensor; none where there is no such tensor.
    #[must_use]
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        Some(match self.owners.get(name)? {
            Owner::Part(part) => &self.parts[*part].header.tensors.get(name)?.shape,
            Owner::Memory(tensor) => tensor.dims(),
        })
    }

    /// The dtype that keeps a tensor's values as they stand; none where there is no such tensor, or none for its elements.
    #[must_use]
    pub fn dtype(&self, name: &str) -> Option<DType> {
        match self.owners.get(name)? {
            Owner::Part(part) => self.parts[*part].header.tensors.get(name)?.stored.dtype(),
            Owner::Memory(tensor) => Some(tensor.dtype()),
        }
    }

    /// What the files say of themselves (`__metadata__`); of shards, the first one's.
    #[must_use]
    pub fn metadata(&self) -> BTreeMap<String, String> {
        self.parts.first().map(|part| part.header.metadata.clone()).unwrap_or_default()
    }

    /// Reads a tensor, converted to `dtype`, onto `device`.
    ///
    /// Floating types become any floating type; to 16 bits by rounding to nearest even. Whole numbers become any type.
    ///
    /// # Errors
    /// Where there is no such tensor, its elements cannot become `dtype`, or the device refuses.
    pub fn tensor(&self, name: &str, dtype: DType, device: &Device) -> TensorResult<Tensor> {
        match self.owners.get(name) {
            Some(Owner::Part(part)) => self.read(&self.parts[*part], name, dtype, device),
            // A copy of a variable still belongs to its graph, which would be kept alive.
            Some(Owner::Memory(tensor)) => tensor.detach().to_dtype(dtype)?.to_device(device),
            None => bail!("{}: there is no tensor `{name}`", self.place.display()),
        }
    }

    fn read(&self, part: &Mapped, name: &str, dtype: DType, device: &Device) -> TensorResult<Tensor> {
        let Some(entry) = part.header.tensors.get(name) else {
            bail!("{}: there is no tensor `{name}`", part.path.display())
        };
        let tensor = part.tensor(entry, dtype, device);
        tensor.map_err(|error| error.context(format!("{}: tensor `{name}`", part.path.display())))
    }
}

impl std::fmt::Debug for Weights {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Weights {{ {}, {} tensors }}", self.place.display(), self.owners.len())
    }
}
