//! Files written, damaged and read; models loaded from them.
#![allow(clippy::unwrap_used)]

mod arbitrary;
mod folders;
mod loading;
mod reading;
mod sharded;

use std::path::{Path, PathBuf};

use candle_core::Tensor;

/// A safetensors file of this JSON and these bytes.
fn file_of(json: &str, data: &[u8]) -> Vec<u8> {
    [&(json.len() as u64).to_le_bytes(), json.as_bytes(), data].concat()
}

/// A file of tensors, written by candle's own writer.
pub(super) fn save(folder: &Path, name: &str, tensors: &[(&str, Tensor)]) -> PathBuf {
    let path = folder.join(name);
    let tensors = tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.clone())).collect();
    candle_core::safetensors::save(&tensors, &path).unwrap();
    path
}

/// All of `words` are in the message.
fn assert_says(message: &str, words: &[&str]) {
    for word in words {
        assert!(message.contains(word), "no {word:?} in: {message}");
    }
}
