//! A run in the middle: one safetensors file, written whole or not at all.
//!
//! | tensor | holds |
//! |---|---|
//! | `model.<name>` | parameters and buffers |
//! | `ema.<name>` | averaged parameters |
//! | `optimiser.<name>` | the optimiser's state |
//! | `run` | [`Record`] as JSON, its bytes |
//!
//! Nothing else is state: what a step computes is a function of its number.

use std::collections::BTreeMap;
use std::path::Path;

use candle_core::{DType, Device, Result as TensorResult, Tensor, bail};
use serde::{Deserialize, Serialize};

use super::{Ema, LogRow, Run, TrainError};
use crate::weights::{Weights, WeightsError, write_tensors};

const MODEL: &str = "model.";
const EMA: &str = "ema.";
const OPTIMISER: &str = "optimiser.";
const RECORD: &str = "run";

/// What has happened in a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct History {
    /// Steps done.
    pub(super) step: u64,
    pub(super) log: Vec<LogRow>,
    /// Since the last row of the log.
    pub(super) since: Sums,
}

/// Sums over steps that have no row yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sums {
    pub(super) steps: u64,
    pub(super) loss: f64,
    pub(super) gradient_norm: f64,
}

/// What of a run is not a tensor. JSON keeps every bit of a finite f64.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    configuration: String,
    ema_updates: Option<u64>,
    history: History,
}

/// Writes the checkpoint in place of the one before.
pub(super) fn save(run: &Run<'_>, ema: Option<&Ema>, history: &History) -> Result<(), TrainError> {
    let record = Record {
        configuration: run.configuration.clone(),
        ema_updates: ema.map(Ema::updates),
        history: history.clone(),
    };
    let gathered = gather(run, ema, &record);
    let tensors = gathered.map_err(|source| TrainError::Gather { path: run.checkpoint.clone(), source })?;
    Ok(write_tensors(&run.checkpoint, &tensors)?)
}

fn gather(run: &Run<'_>, ema: Option<&Ema>, record: &Record) -> TensorResult<BTreeMap<String, Tensor>> {
    let json = serde_json::to_vec(record).map_err(candle_core::Error::wrap)?;
    let length = json.len();
    let mut tensors = BTreeMap::from([(RECORD.to_owned(), Tensor::from_vec(json, length, &Device::Cpu)?)]);
    let named = |prefix: &'static str| move |(name, tensor)| (format!("{prefix}{name}"), tensor);
    tensors.extend(run.parameters.state()?.into_iter().map(named(MODEL)));
    tensors.extend(run.optimiser.state()?.into_iter().map(named(OPTIMISER)));
    let averages = ema.into_iter().flat_map(Ema::averages);
    tensors.extend(averages.map(|(name, tensor)| (format!("{EMA}{name}"), tensor)));
    Ok(tensors)
}

/// Brings the run to where its checkpoint is, if there is one.
pub(super) fn restore(run: &mut Run<'_>, ema: Option<&mut Ema>) -> Result<Option<History>, TrainError> {
    let path = run.checkpoint.clone();
    let there = path.try_exists().map_err(|source| TrainError::Io {
        path: path.clone(),
        action: "look for a checkpoint",
        source,
    })?;
    if !there {
        return Ok(None);
    }
    let damaged = |why: String| TrainError::Checkpoint { path: path.clone(), why };
    let weights = Weights::open(&path).map_err(|error| unreadable(&path, error))?;
    let record = record_of(&weights).map_err(|error| damaged(error.to_string()))?;
    same_configuration(&path, &run.configuration, &record.configuration)?;
    let restored = fill(run, ema, &weights, &record);
    restored.map_err(|error| damaged(error.to_string()))?;
    Ok(Some(record.history))
}

/// The advice of [`WeightsError`] is for files that can be fetched again.
fn unreadable(path: &Path, error: WeightsError) -> TrainError {
    let why = match error {
        WeightsError::Broken { place, expected, found, .. } => {
            format!("{place}: expected {expected}, found {found}")
        }
        WeightsError::Foreign { found, .. } => format!("expected a safetensors file, found {found}"),
        other => return other.into(),
    };
    TrainError::Checkpoint { path: path.to_owned(), why }
}

fn record_of(weights: &Weights) -> TensorResult<Record> {
    let bytes = weights.tensor(RECORD, DType::U8, &Device::Cpu)?.flatten_all()?.to_vec1::<u8>()?;
    serde_json::from_slice(&bytes)
        .map_err(|error| candle_core::Error::wrap(error).context("its tensor `run`"))
}

/// One part after another, so that no more than one lies in memory twice.
fn fill(run: &mut Run<'_>, ema: Option<&mut Ema>, weights: &Weights, record: &Record) -> TensorResult<()> {
    let steps = run.schedule.steps;
    if record.history.step > steps {
        bail!("expected at most {steps} steps, found {}", record.history.step);
    }
    let device = run.parameters.named().next().map_or(Device::Cpu, |(_, var)| var.device().clone());
    run.parameters.load(&part(weights, MODEL, &device)?)?;
    match (ema, record.ema_updates) {
        (Some(ema), Some(updates)) => ema.restore(&part(weights, EMA, &device)?, updates)?,
        (None, None) => {}
        (Some(_), None) => bail!("expected averaged weights, found none"),
        (None, Some(_)) => bail!("expected no averaged weights, found some"),
    }
    run.optimiser.restore(part(weights, OPTIMISER, &Device::Cpu)?)
}

fn part(weights: &Weights, prefix: &str, device: &Device) -> TensorResult<BTreeMap<String, Tensor>> {
    let names = weights.names().filter_map(|whole| Some((whole, whole.strip_prefix(prefix)?)));
    let read = |(whole, name): (&str, &str)| {
        let Some(dtype) = weights.dtype(whole) else {
            bail!("tensor `{whole}` is of a type that is not read")
        };
        Ok((name.to_owned(), weights.tensor(whole, dtype, device)?))
    };
    names.map(read).collect()
}

fn same_configuration(path: &Path, expected: &str, found: &str) -> Result<(), TrainError> {
    if expected == found {
        return Ok(());
    }
    let same = expected.chars().zip(found.chars()).take_while(|(a, b)| a == b).count();
    Err(TrainError::Configuration {
        path: path.to_owned(),
        expected: around(expected, same),
        found: around(found, same),
    })
}

/// The text around character `place`: what stands on its line, where that is short.
fn around(text: &str, place: usize) -> String {
    const BEFORE: usize = 40;
    const AFTER: usize = 60;
    let before: Vec<char> = text.chars().take(place).collect();
    let line = before.iter().rposition(|c| *c == '\n').map_or(0, |newline| newline + 1);
    let begin = line.max(place.saturating_sub(BEFORE));
    let after = text.chars().skip(place).take_while(|c| *c != '\n').take(AFTER);
    before[begin..].iter().copied().chain(after).collect()
}
