//! Writes a pipeline's folder anew in another dtype: `convert FROM TO f32|f16|bf16`.
//!
//! One tensor is in memory at a time, whatever the size of the model.

use std::path::Path;

use anyhow::{Result, bail};
use candle_core::{DType, Device};
use sd_core::weights::{Component, Folder, FolderWriter, Planned, Weights};

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, dtype] = arguments.as_slice() else { bail!("usage: convert FROM TO f32|f16|bf16") };
    let dtype = match dtype.as_str() {
        "f32" => DType::F32,
        "f16" => DType::F16,
        "bf16" => DType::BF16,
        other => bail!("dtype: expected f32, f16 or bf16, found {other}"),
    };
    convert(Path::new(from), Path::new(to), dtype)
}

fn convert(from: &Path, to: &Path, dtype: DType) -> Result<()> {
    let folder = Folder::open(from)?;
    folder.require(&Component::ALL)?;
    let mut writer = FolderWriter::create(to, folder.pipeline())?;
    for component in [Component::Unet, Component::Vae, Component::TextEncoder] {
        let weights = folder.weights(component, dtype)?;
        let config = serde_json::from_str(&folder.config(component)?)?;
        let tensor = |name: &str| weights.tensor(name, kept(&weights, name, dtype), &Device::Cpu);
        writer.model_streamed(component, &config, plan(&weights, dtype), tensor)?;
    }
    writer.scheduler(&serde_json::from_str(&folder.config(Component::Scheduler)?)?)?;
    let files = files(&folder.folder_of(Component::Tokenizer)?)?;
    let class = folder.class_of(Component::Tokenizer).unwrap_or("CLIPTokenizer");
    writer.tokenizer(class, files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())))?;
    Ok(writer.finish()?)
}

/// Whole numbers stay what they are.
fn kept(weights: &Weights, name: &str, dtype: DType) -> DType {
    weights.dtype(name).filter(|own| !own.is_float()).unwrap_or(dtype)
}

fn plan(weights: &Weights, dtype: DType) -> Vec<Planned> {
    let planned = |name: &str| Planned {
        name: name.to_owned(),
        dtype: kept(weights, name, dtype),
        shape: weights.shape(name).unwrap_or_default().to_vec(),
    };
    weights.names().map(planned).collect()
}

fn files(folder: &Path) -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry?;
        Ok((entry.file_name().to_string_lossy().into_owned(), std::fs::read(entry.path())?))
    };
    std::fs::read_dir(folder)?.map(read).collect()
}
