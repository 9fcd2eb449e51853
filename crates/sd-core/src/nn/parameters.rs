//! Named parameters and buffers: what an optimiser steps, and what a checkpoint holds.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Result, Tensor, Var, bail};

use crate::rng::Rng;

/// The tensors of a model by name: parameters (stepped by an optimiser) and buffers (state that is not).
///
/// Names are module paths, as in PyTorch's `state_dict`: `layer1.0.conv1.weight`.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    parameters: Vec<(String, Var)>,
    buffers: Vec<(String, Var)>,
}

impl Parameters {
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

/// Where a model under construction puts its tensors: a path, a seed for what is drawn, a dtype and a device.
pub struct Scope<'a> {
    parameters: &'a mut Parameters,
    path: String,
    seed: u64,
    dtype: DType,
    device: Device,
}

impl<'a> Scope<'a> {
    /// The root of a model whose initial values are drawn from `seed`, each parameter from a stream named after it.
    pub fn root(parameters: &'a mut Parameters, seed: u64, dtype: DType, device: &Device) -> Self {
        Self { parameters, path: String::new(), seed, dtype, device: device.clone() }
    }

    /// The scope of the child module `name`.
    pub fn child(&mut self, name: impl std::fmt::Display) -> Scope<'_> {
        let path = self.join(&name.to_string());
        Scope {
            parameters: self.parameters,
            path,
            seed: self.seed,
            dtype: self.dtype,
            device: self.device.clone(),
        }
    }

    /// A parameter drawn from U(−bound, bound).
    ///
    /// # Errors
    /// Where the tensor cannot be made.
    pub fn uniform(&mut self, name: &str, shape: &[usize], bound: f64) -> Result<Var> {
        let path = self.join(name);
        let mut rng = Rng::new(self.seed, &format!("init/{path}"), 0);
        let values: Vec<f64> =
            (0..shape.iter().product()).map(|_| (2.0 * rng.uniform() - 1.0) * bound).collect();
        let var = self.var(values, shape)?;
        self.parameters.parameters.push((path, var.clone()));
        Ok(var)
    }

    /// A parameter of equal values.
    ///
    /// # Errors
    /// Where the tensor cannot be made.
    pub fn constant(&mut self, name: &str, shape: &[usize], value: f64) -> Result<Var> {
        let var = self.var(vec![value; shape.iter().product()], shape)?;
        self.parameters.parameters.push((self.join(name), var.clone()));
        Ok(var)
    }

    /// A buffer of equal values: saved with the model, never stepped.
    ///
    /// # Errors
    /// Where the tensor cannot be made.
    pub fn buffer(&mut self, name: &str, shape: &[usize], value: f64) -> Result<Var> {
        let var = self.var(vec![value; shape.iter().product()], shape)?;
        self.parameters.buffers.push((self.join(name), var.clone()));
        Ok(var)
    }

    fn var(&self, values: Vec<f64>, shape: &[usize]) -> Result<Var> {
        Var::from_tensor(&Tensor::from_vec(values, shape, &self.device)?.to_dtype(self.dtype)?)
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}
