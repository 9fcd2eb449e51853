//! `forward`: tensors through one component of a model, to hold the engine against any other implementation.

mod component;
mod inputs;
mod pattern;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail};
use candle_core::{DType, Device, Tensor, Var};
use sd_core::taps::{NoTap, Record, Tap};
use sd_core::weights::{Weights, write_tensors};

use super::{machine, model};
use component::Network;
use inputs::{Has, Numbers, Takes};

/// The input that `--grad` multiplies the output by.
const COTANGENT: &str = "cotangent";

/// Reads the tensors, runs the component, writes what comes out.
pub(crate) fn run(typed: &cli::Forward) -> Result<u8> {
    let device = machine::device(typed.device)?;
    let dtype = machine::forward_dtype(typed.dtype, &device)?;
    let model = model::find(&typed.model)?;
    machine::threads(typed.threads)?;
    let weights = Weights::open(&typed.inputs)?;
    let network = Network::open(typed.component, &model.folder, dtype, &device)?;
    let takes = takes(&network, typed.grad.as_deref())?;
    inputs::check(network.name(), &takes, &has(&weights))
        .with_context(|| format!("{}: not what {} takes", typed.inputs.display(), network.name()))?;
    let given = read(&weights, &takes, dtype, &device)?;
    write_tensors(&typed.output, &pass(&network, given, typed)?)?;
    Ok(cli::exit::DONE)
}

/// The component's own inputs, and the cotangent where a gradient is asked for.
fn takes(network: &Network, grad: Option<&str>) -> Result<Vec<Takes>> {
    let mut takes = network.takes();
    let Some(name) = grad else { return Ok(takes) };
    let real: Vec<&str> =
        takes.iter().filter(|one| one.numbers == Numbers::Real).map(|one| one.name.as_str()).collect();
    if !real.contains(&name) {
        let expected =
            if real.is_empty() { "no --grad: it takes whole numbers".to_owned() } else { real.join(" or ") };
        bail!("--grad {name}: {} has no gradient with respect to it\n  expected: {expected}", network.name());
    }
    takes.push(Takes::new(COTANGENT, &network.gives(), Numbers::Real));
    Ok(takes)
}

fn has(weights: &Weights) -> BTreeMap<String, Has> {
    let has = |name: &str| {
        let shape = weights.shape(name).unwrap_or_default().to_vec();
        (name.to_owned(), Has { shape, dtype: weights.dtype(name) })
    };
    weights.names().map(has).collect()
}

/// Real numbers in the component's dtype, whole ones and those that may be either as they are.
fn read(
    weights: &Weights,
    takes: &[Takes],
    dtype: DType,
    device: &Device,
) -> Result<BTreeMap<String, Tensor>> {
    let read = |one: &Takes| {
        let dtype = match one.numbers {
            Numbers::Real => dtype,
            Numbers::Whole => DType::U32,
            Numbers::Any => DType::F64,
        };
        Ok((one.name.clone(), weights.tensor(&one.name, dtype, device)?))
    };
    takes.iter().map(read).collect()
}

/// Outputs by name, beside them activations and the gradient that were asked for.
fn pass(
    network: &Network,
    mut given: BTreeMap<String, Tensor>,
    typed: &cli::Forward,
) -> Result<BTreeMap<String, Tensor>> {
    let cotangent = given.remove(COTANGENT);
    let with_respect_to = typed.grad.as_ref().map(|name| variable(&mut given, name)).transpose()?;
    let choice = match &typed.taps {
        Some(wanted) => Some(pattern::choose(network.name(), wanted, &network.sites()?)?),
        None => None,
    };
    let mut record = choice.map(Record::new);
    let tap: &mut dyn Tap = match &mut record {
        Some(record) => record,
        None => &mut NoTap,
    };
    let outputs = network.forward(&given, tap)?;
    let mut all: BTreeMap<String, Tensor> = record
        .into_iter()
        .flat_map(|record| record.seen)
        .map(|(site, value)| (site.to_string(), value))
        .collect();
    if let (Some(var), Some(cotangent), Some(name)) = (with_respect_to, cotangent, &typed.grad) {
        all.insert(format!("grad.{name}"), gradient(&outputs[0].1, &cotangent, &var)?);
    }
    all.extend(outputs.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Ok(all)
}

/// Makes the input `name` something that is differentiated with respect to.
fn variable(given: &mut BTreeMap<String, Tensor>, name: &str) -> Result<Var> {
    let tensor = given.get(name).with_context(|| format!("there is no input {name}"))?;
    let var = Var::from_tensor(tensor)?;
    given.insert(name.to_owned(), var.as_tensor().clone());
    Ok(var)
}

/// That of Σ output·cotangent.
fn gradient(output: &Tensor, cotangent: &Tensor, var: &Var) -> Result<Tensor> {
    let gradients = (output * cotangent)?.sum_all()?.backward()?;
    gradients.get(var).cloned().context("the output does not depend on this input")
}
