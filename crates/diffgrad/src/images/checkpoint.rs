//! A training run in the middle: model, optimiser, rows and epoch in one safetensors file, written whole or not at all.
//!
//! Nothing else is state: order, augmentation and initial values are functions of the seed and the epoch.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, ensure};
use candle_core::Tensor;
use lab::row::Row;

use super::resnet::ResNet;
use crate::optim::Optimiser;

const FILE: &str = "training.safetensors";
const MODEL: &str = "model.";
const OPTIMISER: &str = "optimiser.";

/// Saves the run after `epochs` epochs.
pub(super) fn save(
    folder: &Path,
    model: &ResNet,
    optimiser: &Optimiser,
    epochs: usize,
    rows: &[Row],
) -> anyhow::Result<()> {
    let model =
        model.parameters.state()?.into_iter().map(|(name, tensor)| (format!("{MODEL}{name}"), tensor));
    let state = optimiser.state()?.into_iter().map(|(name, tensor)| (format!("{OPTIMISER}{name}"), tensor));
    let metadata = HashMap::from([
        ("epochs".to_owned(), epochs.to_string()),
        ("rows".to_owned(), serde_json::to_string(rows)?),
    ]);
    let tensors: Vec<(String, Tensor)> = model.chain(state).collect();
    lab::atomic::write_bytes(folder.join(FILE), &safetensors::serialize(tensors, Some(metadata))?)?;
    Ok(())
}

/// Brings `model` and `optimiser` to where the run in `folder` was, if there is one; returns epochs done and rows.
pub(super) fn restore(
    folder: &Path,
    model: &ResNet,
    optimiser: &mut Optimiser,
) -> anyhow::Result<Option<(usize, Vec<Row>)>> {
    let path = folder.join(FILE);
    if !path.exists() {
        return Ok(None);
    }
    read(&path, model, optimiser).map(Some).with_context(|| {
        format!("{}: not a checkpoint of this trial; delete it to start the trial anew", path.display())
    })
}

fn read(path: &Path, model: &ResNet, optimiser: &mut Optimiser) -> anyhow::Result<(usize, Vec<Row>)> {
    let bytes = std::fs::read(path)?;
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes)?;
    let metadata = header.metadata().clone().unwrap_or_default();
    let tensors = candle_core::safetensors::load_buffer(&bytes, &candle_core::Device::Cpu)?;
    let part = |prefix: &'static str| {
        tensors
            .iter()
            .filter_map(move |(name, tensor)| Some((name.strip_prefix(prefix)?.to_owned(), tensor.clone())))
    };
    ensure!(
        metadata.contains_key("epochs") && metadata.contains_key("rows"),
        "its header names no epochs or rows"
    );
    let (epochs, rows) = (metadata["epochs"].parse()?, serde_json::from_str(&metadata["rows"])?);
    model.parameters.load(&part(MODEL).collect())?;
    optimiser.restore(&part(OPTIMISER).collect())?;
    Ok((epochs, rows))
}
