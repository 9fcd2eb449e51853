//! The model that an experiment is about: what ships, a folder, or one that is known by name.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use candle_core::{DType, Device};
use sd_core::models::unet::cost;
use sd_core::pipeline::Parts;
use worlds::datasets::Hub;
use worlds::models;

use crate::shipped::{MANIFEST, Shipped};

/// The name of what ships.
pub const SHIPPED: &str = "sd-mini";

/// The folder of what plays a role: what ships, a folder, or a model that is known by name and was fetched.
///
/// # Errors
/// Where it is not there; the message says how to get it.
pub fn folder_of(role: &str, name: &str) -> Result<PathBuf> {
    if name == SHIPPED {
        return Ok(Shipped::find()?.model());
    }
    let found = Hub::from_env().map_err(anyhow::Error::from).and_then(|hub| Ok(models::resolve(name, &hub)?));
    found.with_context(|| {
        format!(
            "data.{role}: {name} (`{SHIPPED}` ships with the repository; -s data.{role}=DIR takes a folder)"
        )
    })
}

/// Whether a model and the judge of its pictures are there and go together.
///
/// # Errors
/// Where one is not there, or where one of them is `sd-mini` and the other is not.
pub fn check(model: (&str, &str), judge: (&str, &str)) -> Result<()> {
    folder_of(model.0, model.1)?;
    folder_of(judge.0, judge.1)?;
    anyhow::ensure!(
        (judge.1 == SHIPPED) == (model.1 == SHIPPED),
        "data.{}: {}: `{SHIPPED}` judges pictures of its own world and nobody else does, and data.{} is {}\n  help: name the folder of a \
         CLIP that is not the model's own, such as openai/clip-vit-base-patch32",
        judge.0,
        judge.1,
        model.0,
        model.1
    );
    Ok(())
}

/// What a model is, in a trial's key: of what ships the manifest's digest, of a folder names, sizes and beginnings of its files. A plan
/// can be made without it: a note then stands in its place.
///
/// # Errors
/// Where a file cannot be read.
pub fn digest(role: &str, name: &str) -> Result<String> {
    let Ok(folder) = folder_of(role, name) else { return Ok("absent".to_owned()) };
    if name == SHIPPED {
        let manifest = Shipped::find()?.folder.join(MANIFEST);
        return lab::digest::of_file(&manifest).with_context(|| manifest.display().to_string());
    }
    let mut open = vec![folder.clone()];
    let mut files = Vec::new();
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(&next).with_context(|| next.display().to_string())? {
            let path = entry?.path();
            if path.is_dir() { open.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    let mut all = String::new();
    for path in files {
        let beginning = beginning(&path).with_context(|| path.display().to_string())?;
        all += &format!("{} {beginning}\n", path.strip_prefix(&folder).unwrap_or(&path).display());
    }
    Ok(lab::digest::of_bytes(all.as_bytes()))
}

/// Digest of a file: of a small one whole, of a large one size and beginning, and of weights the beginning of each tensor too, so that an
/// edit of one tensor is seen without reading gigabytes.
fn beginning(path: &Path) -> Result<String> {
    const SMALL: u64 = 16 << 20;
    const PIECE: usize = 4096;
    let size = std::fs::metadata(path)?.len();
    if size <= SMALL {
        return Ok(lab::digest::of_file(path)?);
    }
    let mut file = std::fs::File::open(path)?;
    let mut seen = format!("{size} ").into_bytes();
    let mut piece = |at: u64, length: usize| -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(at))?;
        (&mut file).take(length as u64).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        let length = u64::from_le_bytes(piece(0, 8)?.as_slice().try_into()?);
        anyhow::ensure!(length < size, "a header of {length} bytes in a file of {size}");
        let header = piece(8, length as usize)?;
        let tensors: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&header)?;
        for tensor in tensors.values() {
            if let Some(begin) = tensor["data_offsets"][0].as_u64() {
                seen.extend(piece(8 + length + begin, PIECE)?);
            }
        }
        seen.extend(header);
    } else {
        seen.extend(piece(0, 1 << 20)?);
    }
    Ok(lab::digest::of_bytes(&seen))
}

/// Seconds that one row of a pass of the UNet takes on a core, for the estimate of `--dry-run` alone: about sd-mini's where the model
/// is not here.
#[must_use]
pub fn row_seconds(role: &str, name: &str) -> f64 {
    const USUAL: f64 = 0.01;
    let read = || -> Result<f64> {
        let parts = Parts::open(&folder_of(role, name)?, DType::F32, &Device::Cpu)?;
        let (config, tokens) = (parts.unet_config()?, parts.text_config()?.max_position_embeddings);
        let size = config.sample_size.unwrap_or(64);
        let macs = cost::macs(&config, [size, size], tokens)?;
        Ok(macs / cost::macs_per_second(macs))
    };
    read().unwrap_or(USUAL)
}

/// The device that a trial was given: `cpu` or `cuda:n`.
///
/// # Errors
/// Where there is no such device.
pub fn device(name: &str) -> Result<Device> {
    match name.strip_prefix("cuda:") {
        None => Ok(Device::Cpu),
        Some(index) => match index.parse() {
            Ok(index) => Ok(Device::new_cuda(index)?),
            Err(_) => bail!("device `{name}`; expected cpu or cuda:n"),
        },
    }
}
