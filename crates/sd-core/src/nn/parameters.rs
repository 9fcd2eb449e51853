//! Named parameters and buffers: what an optimiser steps, and what a checkpoint holds.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var, bail};

use super::{Init, Source};
use crate::rng::Rng;

/// The tensors of a model by name: parameters (stepped by an optimiser) and buffers (state that is not).
///
/// Names are module paths, as in PyTorch's `state_dict`: `layer1.0.conv1.weight`.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    parameters: Vec<(String, Var)>,
    buffers: Vec<(String, Var)>,
    start: Start,
}

impl Parameters {
    /// What fresh tensors start from.
    pub(super) fn start_from(&mut self, start: Start) -> &mut Self {
        self.start = start;
        self
    }

    /// The parameters in the order in which the model made them.
    #[must_use]
    pub fn vars(&self) -> Vec<Var> {
        self.parameters.iter().map(|(_, var)| var.clone()).collect()
    }

    /// The parameters with their names, in the order in which the model made them.
    pub fn named(&self) -> impl Iterator<Item = (&str, &Var)> {
        self.parameters.iter().map(|(name, var)| (name.as_str(), var))
    }

    /// Number of scalars in the parameters (buffers not counted).
    #[must_use]
    pub fn count(&self) -> usize {
        self.parameters.iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// Every parameter and buffer by name, copied: later steps do not change it.
    ///
    /// # Errors
    /// Where a tensor cannot be copied.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let all = self.parameters.iter().chain(&self.buffers);
        all.map(|(name, var)| Ok((name.clone(), var.as_tensor().copy()?))).collect()
    }

    /// Sets every parameter and buffer.
    ///
    /// # Errors
    /// Lists every name that is missing, unexpected or of another shape or dtype; nothing is changed then.
    pub fn load(&self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let own: BTreeMap<&str, &Var> =
            self.parameters.iter().chain(&self.buffers).map(|(name, var)| (name.as_str(), var)).collect();
        let mut faults: Vec<String> = state
            .keys()
            .filter(|name| !own.contains_key(name.as_str()))
            .map(|name| format!("{name}: unexpected"))
            .collect();
        faults.extend(own.iter().filter_map(|(name, var)| fault(name, var, state.get(*name))));
        if !faults.is_empty() {
            bail!("the tensors do not fit the model:\n  {}", faults.join("\n  "));
        }
        own.iter().try_for_each(|(name, var)| var.set(&state[*name]))
    }
}

fn fault(name: &str, var: &Var, given: Option<&Tensor>) -> Option<String> {
    let describe = |tensor: &Tensor| format!("{:?} {:?}", tensor.dtype(), tensor.dims());
    match given {
        None => Some(format!("{name}: missing")),
        Some(given) if given.dims() != var.dims() || given.dtype() != var.dtype() => {
            Some(format!("{name}: expected {}, found {}", describe(var), describe(given)))
        }
        Some(_) => None,
    }
}

/// How a model about to be trained starts.
#[derive(Clone, Debug)]
pub(super) struct Start {
    pub(super) seed: u64,
    pub(super) dtype: DType,
    pub(super) device: Device,
}

impl Default for Start {
    fn default() -> Self {
        Self { seed: 0, dtype: DType::F32, device: Device::Cpu }
    }
}

impl Start {
    /// Each parameter has a stream of its own, named after it.
    fn draw(&self, path: &str, count: usize, init: Init) -> Vec<f64> {
        let mut rng = Rng::new(self.seed, &format!("init/{path}"), 0);
        let mut next = || match init {
            Init::Uniform(bound) => (2.0 * rng.uniform() - 1.0) * bound,
            Init::Normal(std) => rng.normal() * std,
            Init::Constant(value) => value,
        };
        (0..count).map(|_| next()).collect()
    }

    fn var(&self, values: Vec<f64>, shape: &[usize]) -> Result<Var> {
        Var::from_tensor(&Tensor::from_vec(values, shape, &self.device)?.to_dtype(self.dtype)?)
    }
}

/// Fresh, trainable tensors: the source of a model that is about to be trained.
impl Source for Parameters {
    fn parameter(&mut self, path: &str, shape: &[usize], init: Init) -> Result<Tensor> {
        let values = self.start.draw(path, shape.iter().product(), init);
        let var = self.start.var(values, shape)?;
        self.parameters.push((path.to_owned(), var.clone()));
        Ok(var.as_tensor().clone())
    }

    fn buffer(&mut self, path: &str, shape: &[usize], value: f64) -> Result<Var> {
        let var = self.start.var(vec![value; shape.iter().product()], shape)?;
        self.buffers.push((path.to_owned(), var.clone()));
        Ok(var)
    }

    fn device(&self) -> &Device {
        &self.start.device
    }

    fn dtype(&self) -> DType {
        self.start.dtype
    }
}
