//! Parts of files: some rows of a tensor, its bytes as they stand, and copies of a file in which one tensor differs.

use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Result as TensorResult, Tensor, bail};

use super::error::io;
use super::file::Mapped;
use super::header::Entry;
use super::{Owner, Weights, WeightsError, whole, write};

impl Weights {
    /// The file that holds a tensor; none where there is no such tensor, or it is in memory alone.
    #[must_use]
    pub fn file_of(&self, name: &str) -> Option<&Path> {
        self.in_file(name).map(|(part, _)| part.path.as_path())
    }

    /// A tensor's bytes as they stand in its file; none as for [`Weights::file_of`].
    #[must_use]
    pub fn bytes_of(&self, name: &str) -> Option<&[u8]> {
        self.in_file(name).map(|(part, entry)| part.bytes(entry))
    }

    /// Some rows (N, …) of a tensor (R, …), in the order asked for, converted as by [`Weights::tensor`]: of a file those alone are read.
    ///
    /// # Errors
    /// Where there is no such tensor, it has no such row, or it cannot become `dtype`.
    pub fn rows(&self, name: &str, rows: &[usize], dtype: DType, device: &Device) -> TensorResult<Tensor> {
        let Some((part, entry)) = self.in_file(name) else {
            let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
            let rows = Tensor::new(rows, device)?;
            return self.tensor(name, dtype, device)?.index_select(&rows, 0);
        };
        let Some((&count, rest)) = entry.shape.split_first() else {
            bail!("{}: tensor `{name}` is one number and has no rows", part.path.display())
        };
        if let Some(row) = rows.iter().find(|&&row| row >= count) {
            bail!("{}: tensor `{name}`: row {row} of {count}", part.path.display());
        }
        let bytes = part.bytes(entry);
        let width = bytes.len() / count.max(1);
        let picked: Vec<u8> =
            rows.iter().flat_map(|&row| &bytes[row * width..(row + 1) * width]).copied().collect();
        let shape = [&[rows.len()], rest].concat();
        entry.stored.tensor(&picked, &shape, dtype, device, &|_, _| ())
    }

    /// Writes a copy of the file that holds `name` to `to`, in which that tensor alone differs: header, order and every other byte stay.
    /// `tensor` is converted to the stored type.
    ///
    /// # Errors
    /// Where the tensor is in no file or of another shape, and where the system refuses; `to` is then as it was.
    pub fn copy_with(&self, name: &str, tensor: &Tensor, to: &Path) -> Result<(), WeightsError> {
        let at = |source| WeightsError::Tensor { path: self.place().to_owned(), source };
        let (part, entry) = self.in_file(name).ok_or_else(|| at(absent(name)))?;
        let bytes = encoded(name, entry, tensor).map_err(at)?;
        self.copy_bytes(part, entry, &bytes, to)
    }

    /// As [`Weights::copy_with`], of bytes as they stood in a file.
    ///
    /// # Errors
    /// As [`Weights::copy_with`].
    pub fn copy_with_bytes(&self, name: &str, bytes: &[u8], to: &Path) -> Result<(), WeightsError> {
        let at = |source| WeightsError::Tensor { path: self.place().to_owned(), source };
        let (part, entry) = self.in_file(name).ok_or_else(|| at(absent(name)))?;
        self.copy_bytes(part, entry, bytes, to)
    }

    fn copy_bytes(&self, part: &Mapped, entry: &Entry, bytes: &[u8], to: &Path) -> Result<(), WeightsError> {
        if bytes.len() != entry.end - entry.begin {
            let (expected, found) = (format!("{} bytes", entry.end - entry.begin), bytes.len());
            let action = "it belongs to another file";
            return Err(WeightsError::broken(
                &part.path,
                "the tensor to be replaced",
                expected,
                found,
                action,
            ));
        }
        let mut from = io(&part.path, "open it", std::fs::File::open(&part.path))?;
        whole::write(to, |file| {
            // From file to file, which the system does without our seeing the bytes.
            io(to, "write it", std::io::copy(&mut from, file.get_mut()))?;
            io(to, "write it", file.seek(SeekFrom::Start(entry.begin as u64)))?;
            io(to, "write it", file.write_all(bytes))
        })
    }

    /// Every safetensors file of the folder `path` that holds one of the tensors `names`, whatever its variant, and the name that it has
    /// there. Programs differ in which variant they take; an edit has to reach them all.
    ///
    /// # Errors
    /// Where the folder cannot be listed or such a file is broken.
    pub fn holding(path: &Path, names: &[&str]) -> Result<Vec<(Self, String)>, WeightsError> {
        let entries = io(path, "list it", std::fs::read_dir(path))?;
        let mut files: Vec<PathBuf> = Vec::new();
        for entry in entries {
            let path = io(path, "list it", entry)?.path();
            if path.extension().is_some_and(|extension| extension == "safetensors") {
                files.push(path);
            }
        }
        files.sort();
        let mut all = Vec::new();
        for file in files {
            let weights = Self::open(&file)?;
            let found = names.iter().find(|name| weights.shape(name).is_some());
            if let Some(name) = found {
                all.push((weights, (*name).to_owned()));
            }
        }
        Ok(all)
    }

    fn in_file(&self, name: &str) -> Option<(&Mapped, &Entry)> {
        let Owner::Part(part) = self.owners.get(name)? else { return None };
        let part = &self.parts[*part];
        Some((part, part.header.tensors.get(name)?))
    }
}

fn absent(name: &str) -> candle_core::Error {
    candle_core::Error::msg(format!("there is no tensor `{name}` in a file"))
}

/// A tensor's bytes in the type and shape of `entry`.
fn encoded(name: &str, entry: &Entry, tensor: &Tensor) -> TensorResult<Vec<u8>> {
    let Some(dtype) = entry.stored.dtype() else { bail!("tensor `{name}`: its type is not written") };
    if tensor.dims() != entry.shape {
        bail!("tensor `{name}`: expected {:?}, found {:?}", entry.shape, tensor.dims());
    }
    let mut bytes = Vec::new();
    // To 16 bits through single precision, as wherever tensors are converted here.
    let narrow = match dtype {
        DType::F16 | DType::BF16 => tensor.to_dtype(DType::F32)?.to_dtype(dtype)?,
        _ => tensor.to_dtype(dtype)?,
    };
    write::write_elements(&narrow.to_device(&Device::Cpu)?.contiguous()?, &mut bytes)??;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::weights::tests::save;

    fn counting(shape: (usize, usize), dtype: DType) -> Tensor {
        let count = (shape.0 * shape.1) as f32;
        Tensor::arange(0f32, count, &Device::Cpu).unwrap().reshape(shape).unwrap().to_dtype(dtype).unwrap()
    }

    #[test]
    fn rows_are_those_of_the_whole_tensor() {
        let folder = tempfile::tempdir().unwrap();
        for dtype in [DType::F16, DType::BF16, DType::F32] {
            let path = save(folder.path(), "a.safetensors", &[("a", counting((5, 3), dtype))]);
            let weights = Weights::open(&path).unwrap();
            let whole = weights.tensor("a", DType::F64, &Device::Cpu).unwrap().to_vec2::<f64>().unwrap();
            let rows = weights.rows("a", &[4, 0, 4], DType::F64, &Device::Cpu).unwrap();
            let expected = [&whole[4], &whole[0], &whole[4]].map(Clone::clone);
            assert_eq!(rows.to_vec2::<f64>().unwrap(), expected);
            let error = weights.rows("a", &[5], DType::F32, &Device::Cpu).unwrap_err().to_string();
            assert!(error.contains("row 5 of 5"), "{error}");
        }
    }

    #[test]
    fn a_copy_differs_in_one_tensor_and_a_wrong_one_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let tensors = ["a", "b", "c"].map(|name| (name, counting((2, 3), DType::F16)));
        let path = save(folder.path(), "a.safetensors", &tensors);
        let weights = Weights::open(&path).unwrap();
        let to = folder.path().join("b.safetensors");
        weights.copy_with("b", &counting((2, 3), DType::F64).affine(2.0, 1.0).unwrap(), &to).unwrap();
        let [before, after] = [&path, &to].map(|path| std::fs::read(path).unwrap());
        let differing: Vec<usize> = (0..before.len()).filter(|&at| before[at] != after[at]).collect();
        let start = before.len() - 2 * 12;
        assert!(differing.iter().all(|at| (start..start + 12).contains(at)), "{differing:?}");
        let read = Weights::open(&to).unwrap().tensor("b", DType::F32, &Device::Cpu).unwrap();
        assert_eq!(read.to_vec2::<f32>().unwrap(), [[1.0, 3.0, 5.0], [7.0, 9.0, 11.0]]);
        let error = weights.copy_with("b", &counting((3, 2), DType::F32), &to).unwrap_err().to_string();
        assert!(error.contains("expected [2, 3]"), "{error}");
        let error = weights.copy_with("d", &counting((3, 2), DType::F32), &to).unwrap_err().to_string();
        assert!(error.contains("no tensor `d`"), "{error}");
        let own = weights.bytes_of("b").unwrap().to_vec();
        Weights::open(&to).unwrap().copy_with_bytes("b", &own, &folder.path().join("c.safetensors")).unwrap();
        assert_eq!(std::fs::read(folder.path().join("c.safetensors")).unwrap(), before);
        assert!(weights.copy_with_bytes("b", &own[1..], &to).is_err());
    }

    #[test]
    fn every_variant_that_holds_a_tensor_is_found() {
        let folder = tempfile::tempdir().unwrap();
        save(folder.path(), "model.safetensors", &[("x.a", counting((1, 2), DType::F32))]);
        save(folder.path(), "model.fp16.safetensors", &[("a", counting((1, 2), DType::F16))]);
        save(folder.path(), "other.safetensors", &[("b", counting((1, 2), DType::F16))]);
        let found = Weights::holding(folder.path(), &["x.a", "a"]).unwrap();
        let names: Vec<&str> = found.iter().map(|(_, name)| name.as_str()).collect();
        assert_eq!(names, ["a", "x.a"]);
    }
}
