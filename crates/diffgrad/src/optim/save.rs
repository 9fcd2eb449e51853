//! Saving an optimiser's state and restoring it, bit for bit.
//!
//! Entries: `<rule>.lr`, the learning rate in use, and for every parameter `<rule>.<name>.t`, its step count, and
//! `<rule>.<name>.<buffer>` for each of [`RuleName::buffers`](super::RuleName::buffers), of the parameter's shape and type.
//! The rule stands in the names, so that a state cannot be restored into another rule. Parameters are not part of it: they are
//! saved with the model.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;

use super::optimiser::{OptimError, Optimiser, Parameter, State};

impl Optimiser {
    /// The state as named tensors on the CPU; see the module's text for the names.
    ///
    /// # Errors
    /// If candle fails to make a tensor.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>, OptimError> {
        let rule = self.config.rule.name();
        let mut entries = BTreeMap::new();
        entries.insert(format!("{rule}.lr"), Tensor::from_slice(&[self.config.lr], 1, &Device::Cpu)?);
        for parameter in &self.parameters {
            let prefix = format!("{rule}.{}", parameter.name);
            entries
                .insert(format!("{prefix}.t"), Tensor::from_slice(&[parameter.t as i64], 1, &Device::Cpu)?);
            for (i, buffer) in self.config.rule.buffers().iter().enumerate() {
                entries.insert(format!("{prefix}.{buffer}"), parameter.buffer(i)?);
            }
        }
        Ok(entries)
    }

    /// Takes over a state that [`Optimiser::state`] gave.
    ///
    /// # Errors
    /// If entries are missing or left over, or one differs in type or shape; nothing is changed then.
    pub fn restore(&mut self, entries: &HashMap<String, Tensor>) -> Result<(), OptimError> {
        self.check_names(entries)?;
        let rule = self.config.rule;
        let prefix = |parameter: &Parameter| format!("{}.{}", rule.name(), parameter.name);
        let lr = scalar::<f64>(entries, &format!("{}.lr", rule.name()))?;
        let mut restored = Vec::with_capacity(self.parameters.len());
        for parameter in &self.parameters {
            let prefix = prefix(parameter);
            let t = scalar::<i64>(entries, &format!("{prefix}.t"))?;
            let t = u64::try_from(t).map_err(|_| fault(format!("{prefix}.t"), "a count of steps", t))?;
            let mut state = parameter.state.clone();
            for (i, buffer) in rule.buffers().iter().enumerate() {
                fill(parameter, &mut state, i, &format!("{prefix}.{buffer}"), entries)?;
            }
            restored.push((t, state));
        }
        self.config.lr = lr;
        for (parameter, (t, state)) in self.parameters.iter_mut().zip(restored) {
            (parameter.t, parameter.state) = (t, state);
        }
        Ok(())
    }

    /// The state as the bytes of a safetensors file. Equal states give equal bytes.
    ///
    /// # Errors
    /// If candle or safetensors fail.
    pub fn to_bytes(&self) -> Result<Vec<u8>, OptimError> {
        Ok(safetensors::serialize(self.state()?, None)?)
    }

    /// Takes over a state that [`Optimiser::to_bytes`] gave.
    ///
    /// # Errors
    /// If the bytes are not a safetensors file, or as [`Optimiser::restore`].
    pub fn restore_bytes(&mut self, bytes: &[u8]) -> Result<(), OptimError> {
        SafeTensors::deserialize(bytes)?;
        self.restore(&candle_core::safetensors::load_buffer(bytes, &Device::Cpu)?)
    }

    fn check_names(&self, entries: &HashMap<String, Tensor>) -> Result<(), OptimError> {
        let rule = self.config.rule.name();
        let parameters = self.parameters.iter().map(|parameter| format!("{rule}.{}", parameter.name));
        let of_parameter = |prefix: String| {
            let buffers = self.config.rule.buffers().iter().copied().chain(["t"]);
            buffers.map(|name| format!("{prefix}.{name}")).collect::<Vec<_>>()
        };
        let expected: BTreeSet<String> =
            parameters.flat_map(of_parameter).chain([format!("{rule}.lr")]).collect();
        let found: BTreeSet<String> = entries.keys().cloned().collect();
        if expected == found {
            return Ok(());
        }
        let missing = some_of(expected.difference(&found));
        let left_over = some_of(found.difference(&expected));
        Err(fault(
            "its entries".to_owned(),
            &format!("also {missing}"),
            format!("in their place {left_over}"),
        ))
    }
}

impl Parameter {
    fn buffer(&self, i: usize) -> Result<Tensor, OptimError> {
        let shape = self.var.shape();
        Ok(match &self.state {
            State::F32(buffers) => Tensor::from_slice(&buffers[i], shape, &Device::Cpu)?,
            State::F64(buffers) => Tensor::from_slice(&buffers[i], shape, &Device::Cpu)?,
            #[cfg(feature = "cuda")]
            State::Device(buffers) => buffers[i].to_device(&Device::Cpu)?,
        })
    }
}

/// The first few of a set of names.
fn some_of<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<&str> = names.map(String::as_str).collect();
    match names.len() {
        0 => "nothing".to_owned(),
        1..=4 => names.join(", "),
        more => format!("{}, and {} more", names[..4].join(", "), more - 4),
    }
}

fn entry<'e>(entries: &'e HashMap<String, Tensor>, name: &str) -> Result<&'e Tensor, OptimError> {
    entries.get(name).ok_or_else(|| fault(name.to_owned(), "an entry", "none"))
}

fn scalar<T: candle_core::WithDType>(entries: &HashMap<String, Tensor>, name: &str) -> Result<T, OptimError> {
    let tensor = entry(entries, name)?;
    match tensor.dims() {
        [1] if tensor.dtype() == T::DTYPE => Ok(tensor.to_vec1::<T>()?[0]),
        dims => {
            let found = format!("{} {dims:?}", tensor.dtype().as_str());
            Err(fault(name.to_owned(), &format!("{} [1]", T::DTYPE.as_str()), found))
        }
    }
}

/// Copies buffer `i` of a parameter from its entry.
fn fill(
    parameter: &Parameter,
    state: &mut State,
    i: usize,
    name: &str,
    entries: &HashMap<String, Tensor>,
) -> Result<(), OptimError> {
    let tensor = entry(entries, name)?;
    let var = &parameter.var;
    if tensor.shape() != var.shape() || tensor.dtype() != var.dtype() {
        let of = |dtype: DType, dims: &[usize]| format!("{} {dims:?}", dtype.as_str());
        return Err(fault(name.to_owned(), &of(var.dtype(), var.dims()), of(tensor.dtype(), tensor.dims())));
    }
    let flat = tensor.flatten_all()?;
    match state {
        State::F32(buffers) => buffers[i] = flat.to_vec1()?,
        State::F64(buffers) => buffers[i] = flat.to_vec1()?,
        #[cfg(feature = "cuda")]
        State::Device(buffers) => {
            buffers[i] = candle_core::Var::from_tensor(&tensor.to_device(var.device())?)?
        }
    }
    Ok(())
}

fn fault(what: String, expected: &str, found: impl ToString) -> OptimError {
    OptimError::State { what, expected: expected.to_owned(), found: found.to_string() }
}
