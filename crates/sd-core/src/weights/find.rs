//! Which file of a folder holds the weights: the names that diffusers and transformers give, variants among them.

use std::path::{Path, PathBuf};

use candle_core::DType;

use super::error::{WeightsError, names_in};
use super::foreign;

/// Names without extension, diffusers' and transformers'.
const STEMS: [&str; 2] = ["diffusion_pytorch_model", "model"];
/// The variant in half precision.
const HALF: &str = "fp16";

/// What holds a component's weights.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// One file.
    Whole(PathBuf),
    /// An index of several files.
    Sharded(PathBuf),
}

/// The weights in `folder`: the half-precision variant where `dtype` is `f16` and there is one, or where there is no other.
pub(super) fn weights(folder: &Path, dtype: Option<DType>) -> Result<Found, WeightsError> {
    let variants = match dtype {
        Some(DType::F16) => [Some(HALF), None],
        _ => [None, Some(HALF)],
    };
    let candidates = variants.iter().flat_map(|variant| STEMS.map(|stem| (stem, *variant)));
    for (stem, variant) in candidates {
        let [whole, sharded] = names(stem, variant).map(|name| folder.join(name));
        if whole.exists() {
            return Ok(Found::Whole(whole));
        }
        if sharded.exists() {
            return Ok(Found::Sharded(sharded));
        }
    }
    Err(none(folder))
}

fn names(stem: &str, variant: Option<&str>) -> [String; 2] {
    match variant {
        None => [format!("{stem}.safetensors"), format!("{stem}.safetensors.index.json")],
        Some(variant) => {
            [format!("{stem}.{variant}.safetensors"), format!("{stem}.safetensors.index.{variant}.json")]
        }
    }
}

fn none(folder: &Path) -> WeightsError {
    let expected = format!("{}.safetensors or {}.safetensors (or an index of shards)", STEMS[0], STEMS[1]);
    let action = match pickled_in(folder) {
        Some(pickle) => foreign::convert(&pickle),
        None => "fetch the .safetensors file of this component from the Hub".to_owned(),
    };
    WeightsError::absent(folder, expected, names_in(folder), action)
}

/// A checkpoint that other programs would take in place of the absent one.
fn pickled_in(folder: &Path) -> Option<PathBuf> {
    let is_pickled = |path: &PathBuf| {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
        matches!(extension.as_str(), "bin" | "ckpt" | "pt" | "pth")
    };
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(is_pickled)
        .collect();
    paths.sort();
    paths.into_iter().next()
}
