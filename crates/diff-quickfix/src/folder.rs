//! Edited folders: what is written, what is kept to undo it, and nothing of the input touched.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use sd_core::weights::{Component, Weights, write_tensors};
use sha2::{Digest, Sha256};

use crate::edit::Edit;
use crate::encoder::{Encoder, tensor_name};

/// The edit, in the edited folder.
pub const EDIT: &str = "diff-quickfix.json";
/// The original matrices, in the edited folder.
pub const ORIGINAL: &str = "diff-quickfix.safetensors";

/// What an edit left in a folder.
#[derive(Debug)]
pub struct Record {
    /// The edit.
    pub edit: Edit,
    /// The original matrix by the name of the file that it was in.
    originals: Weights,
}

impl Record {
    /// Of the pipeline in `folder`; none where nothing was edited there.
    ///
    /// # Errors
    /// Where one of the two files is absent or broken.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let [edit, original] = [EDIT, ORIGINAL].map(|name| folder.join(name));
        if !edit.exists() && !original.exists() {
            return Ok(None);
        }
        let originals = Weights::open(&original).context("the original matrix of an edited model")?;
        Ok(Some(Self { edit: Edit::read(&edit)?, originals }))
    }

    /// The matrix that was in `file`.
    pub(crate) fn original(&self, file: &Path) -> Result<Tensor> {
        let name = name_of(file);
        Ok(self.originals.tensor(&name, DType::F32, &Device::Cpu)?)
    }

    fn original_bytes(&self, file: &Path) -> Result<&[u8]> {
        let name = name_of(file);
        self.originals.bytes_of(&name).with_context(|| {
            format!(
                "{}: there is no original of `{name}`\n  help: take the unedited model",
                self.originals.place().display()
            )
        })
    }
}

fn name_of(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

impl Encoder {
    fn place(&self) -> PathBuf {
        self.folder().join(Component::TextEncoder.name())
    }

    /// Every file that holds the matrix, in any variant.
    fn holding(&self, layer: usize) -> Result<Vec<(Weights, String)>> {
        let name = tensor_name(layer);
        let bare = name.trim_start_matches("text_model.").to_owned();
        let all = Weights::holding(&self.place(), &[name.as_str(), bare.as_str()])?;
        ensure!(
            !all.is_empty(),
            "{}: no safetensors file there holds `{name}`\n  help: is its text encoder CLIP's?",
            self.place().display()
        );
        Ok(all)
    }

    /// SHA-256 of the original matrix as it stands in the file that is read: whose edit an edit file is.
    ///
    /// # Errors
    /// Where there is no such matrix.
    pub fn digest(&self, layer: usize) -> Result<String> {
        if let Some(record) = self.record().filter(|record| record.edit.settings.layer == layer) {
            return Ok(record.edit.original.clone());
        }
        let name = self.stored_name(layer)?;
        let bytes = self.weights().bytes_of(&name).context("the matrix is in no file")?;
        let digest = Sha256::digest(bytes);
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The type in which the matrix is stored.
    ///
    /// # Errors
    /// Where there is no such matrix.
    pub fn dtype(&self, layer: usize) -> Result<DType> {
        dtype_of(self.weights(), &self.stored_name(layer)?)
    }

    /// Writes the pipeline to `out` with `matrix` (D, D) in the place of W: files are linked where the system can, copied elsewhere; those
    /// with the matrix are written anew and differ in nothing else. The edit and the original matrix lie beside. `out` appears whole or not at
    /// all.
    ///
    /// # Errors
    /// Where `out` is there already, or the system refuses.
    pub fn write(&self, edit: &Edit, matrix: &Tensor, out: &Path) -> Result<()> {
        let layer = edit.settings.layer;
        if let Some(record) = self.record() {
            ensure!(
                record.edit.settings.layer == layer,
                "{}: edited in layer {}, and this edit is of layer {layer}\n  help: undo that first, or edit the original model",
                self.folder().display(),
                record.edit.settings.layer
            );
        }
        let staged = Staged::new(self.folder(), out)?;
        let files = self.holding(layer)?;
        self.link(&staged.path, &files)?;
        let mut originals = std::collections::BTreeMap::new();
        for (weights, name) in &files {
            let file = weights.place();
            weights.copy_with(name, matrix, &staged.of(file))?;
            let original = match self.record() {
                Some(record) => record.originals.tensor(
                    &name_of(file),
                    dtype_of(&record.originals, &name_of(file))?,
                    &Device::Cpu,
                )?,
                None => weights.tensor(name, dtype_of(weights, name)?, &Device::Cpu)?,
            };
            originals.insert(name_of(file), original);
        }
        write_tensors(&staged.path.join(ORIGINAL), &originals)?;
        let json = staged.path.join(EDIT);
        fs::write(&json, edit.to_json()?).with_context(|| json.display().to_string())?;
        staged.finish(out)
    }

    /// Writes the pipeline to `out` as it was before any edit.
    ///
    /// # Errors
    /// Where it was not edited; as [`Self::write`].
    pub fn undo(&self, out: &Path) -> Result<()> {
        let record = self.record().with_context(|| {
            format!(
                "{}: nothing to undo: there is no {EDIT}\n  help: give the edited folder",
                self.folder().display()
            )
        })?;
        let staged = Staged::new(self.folder(), out)?;
        let files = self.holding(record.edit.settings.layer)?;
        self.link(&staged.path, &files)?;
        for (weights, name) in &files {
            weights.copy_with_bytes(
                name,
                record.original_bytes(weights.place())?,
                &staged.of(weights.place()),
            )?;
        }
        staged.finish(out)
    }

    /// Links or copies all but the files that are written anew, what an earlier edit left, and checkpoints of the text encoder in other
    /// formats, which would hold the unedited matrix.
    fn link(&self, to: &Path, written: &[(Weights, String)]) -> Result<()> {
        let mut folders = vec![PathBuf::new()];
        while let Some(inside) = folders.pop() {
            let from = self.folder().join(&inside);
            let target = to.join(&inside);
            fs::create_dir_all(&target).with_context(|| target.display().to_string())?;
            for entry in fs::read_dir(&from).with_context(|| from.display().to_string())? {
                let path = entry.with_context(|| from.display().to_string())?.path();
                let name = name_of(&path);
                if path.is_dir() {
                    folders.push(inside.join(&name));
                    continue;
                }
                let is_left = inside.as_os_str().is_empty() && [EDIT, ORIGINAL].contains(&name.as_str());
                let is_written = written.iter().any(|(weights, _)| weights.place() == path);
                let is_other = from == self.place() && is_foreign(&path);
                if !is_left && !is_written && !is_other {
                    link_or_copy(&path, &target.join(&name))?;
                }
            }
        }
        Ok(())
    }
}

fn dtype_of(weights: &Weights, name: &str) -> Result<DType> {
    weights.dtype(name).with_context(|| format!("{}: no tensor `{name}`", weights.place().display()))
}

/// Checkpoints that other programs might take in the place of safetensors.
fn is_foreign(path: &Path) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    matches!(extension.as_str(), "bin" | "ckpt" | "pt" | "pth" | "msgpack" | "h5" | "onnx")
}

/// A file of the Hub's cache is a link to where its content is: that is what is linked.
fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    let content = from.canonicalize().with_context(|| format!("{}: cannot read it", from.display()))?;
    if fs::hard_link(&content, to).is_err() {
        fs::copy(&content, to)
            .with_context(|| format!("{}: cannot copy it to {}", from.display(), to.display()))?;
    }
    Ok(())
}

/// A folder that gets its name when it is whole, and is removed where it does not.
struct Staged {
    path: PathBuf,
}

impl Staged {
    fn new(from: &Path, out: &Path) -> Result<Self> {
        ensure!(
            !out.exists(),
            "{}: there is something already, and nothing is overwritten\n  help: give a new folder with -o, or remove it",
            out.display()
        );
        let name = out
            .file_name()
            .with_context(|| format!("{}: expected the name of a new folder", out.display()))?;
        let parent = out.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let inside = out.ancestors().skip(1).find_map(|above| {
            let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
            fs::canonicalize(above).ok()
        });
        ensure!(
            !inside.zip(fs::canonicalize(from).ok()).is_some_and(|(out, from)| out.starts_with(from)),
            "{}: lies in the model's own folder {}, which is never touched\n  help: give a folder beside it",
            out.display(),
            from.display()
        );
        fs::create_dir_all(parent).with_context(|| format!("{}: cannot make it", parent.display()))?;
        let path = parent.join(format!(".{}.{}.incomplete", name.to_string_lossy(), std::process::id()));
        fs::create_dir(&path).with_context(|| format!("{}: cannot make it", path.display()))?;
        Ok(Self { path })
    }

    /// Where a file of the text encoder goes.
    fn of(&self, file: &Path) -> PathBuf {
        self.path.join(Component::TextEncoder.name()).join(file.file_name().unwrap_or_default())
    }

    fn finish(self, out: &Path) -> Result<()> {
        fs::rename(&self.path, out).with_context(|| format!("{}: cannot name it", out.display()))
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        // After the rename there is nothing to remove.
        let _ = fs::remove_dir_all(&self.path);
    }
}
