//! Fills a model under construction from weights, and says all that does not fit at once.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use candle_core::{DType, Device, Result as TensorResult, Tensor, Var};

use super::error::listed;
use super::{Rules, Weights, WeightsError};
use crate::nn::{Init, Scope, Source};

/// Names of a kind that a message lists.
const LISTED: usize = 20;

/// A tensor of another shape than the model's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MisshapedTensor {
    /// Its name in the file.
    pub name: String,
    /// The model's shape.
    pub expected: Vec<usize>,
    /// The file's shape.
    pub found: Vec<usize>,
}

impl fmt::Display for MisshapedTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (expected {:?}, found {:?})", self.name, self.expected, self.found)
    }
}

/// All that does not fit between a model and its weights.
#[derive(Clone, Debug, Default, PartialEq, Eq, thiserror::Error)]
pub struct Misfit {
    /// The file or folder.
    pub path: PathBuf,
    /// Tensors of the model.
    pub wanted: usize,
    /// Names that the model has and the file has not.
    pub missing: Vec<String>,
    /// Names that the file has and the model has not.
    pub unexpected: Vec<String>,
    /// Tensors of another shape.
    pub misshaped: Vec<MisshapedTensor>,
    /// Tensors that could not be read, and why.
    pub unreadable: Vec<String>,
}

impl Misfit {
    fn is_fit(&self) -> bool {
        self.missing.is_empty()
            && self.unexpected.is_empty()
            && self.misshaped.is_empty()
            && self.unreadable.is_empty()
    }

    fn advice(&self) -> &'static str {
        if self.missing.len() == self.wanted {
            "not one name is the model's: is this the file of another component or of another program?"
        } else if self.missing.is_empty() && !self.unexpected.is_empty() && self.misshaped.is_empty() {
            "the file holds more than the model: does config.json belong to it?"
        } else {
            "does config.json belong to this file? Fetch both from the same place and revision"
        }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: expected the model's {} tensors, found others:", self.path.display(), self.wanted)?;
        let mut kind = |what: &str, names: String, count: usize| match count {
            0 => Ok(()),
            count => write!(f, "\n  {what} ({count}): {names}"),
        };
        kind("missing", listed(&self.missing, LISTED), self.missing.len())?;
        kind("unexpected", listed(&self.unexpected, LISTED), self.unexpected.len())?;
        kind("mis-shaped", listed(&self.misshaped, LISTED), self.misshaped.len())?;
        kind("unreadable", listed(&self.unreadable, LISTED), self.unreadable.len())?;
        write!(f, "\n{}", self.advice())
    }
}

/// Hands a model under construction its tensors out of weights.
///
/// It never fails at a tensor that does not fit: it notes the fault and hands out zeros, so that [`Loader::finish`] can tell all
/// faults at once. After the first fault nothing more is read from the file.
pub struct Loader<'a> {
    weights: &'a Weights,
    rules: Rules,
    dtype: DType,
    device: Device,
    taken: BTreeSet<String>,
    misfit: Misfit,
}

impl<'a> Loader<'a> {
    /// Tensors of `weights` as `dtype` on `device`, under the model's own names; [`Loader::rules`] allows others.
    #[must_use]
    pub fn new(weights: &'a Weights, dtype: DType, device: &Device) -> Self {
        let misfit = Misfit { path: weights.place().to_owned(), ..Misfit::default() };
        Self {
            weights,
            rules: Rules::strict(),
            dtype,
            device: device.clone(),
            taken: BTreeSet::new(),
            misfit,
        }
    }

    /// Allows other names and left-over tensors.
    #[must_use]
    pub fn rules(mut self, rules: &Rules) -> Self {
        self.rules = rules.clone();
        self
    }

    /// The tensor `path` of the model, or zeros and a note.
    fn take(&mut self, path: &str, shape: &[usize]) -> TensorResult<Tensor> {
        self.misfit.wanted += 1;
        let names = self.rules.names(path);
        let held = names.into_iter().find_map(|name| Some((self.weights.shape(&name)?.to_vec(), name)));
        let Some((found, name)) = held else {
            self.misfit.missing.push(path.to_owned());
            return self.zeros(shape);
        };
        self.taken.insert(name.clone());
        if !self.rules.takes(&found, shape) {
            self.misfit.misshaped.push(MisshapedTensor { name, expected: shape.to_vec(), found });
            return self.zeros(shape);
        }
        if !self.misfit.is_fit() {
            return self.zeros(shape);
        }
        match self.weights.tensor(&name, self.dtype, &self.device) {
            Ok(tensor) => tensor.reshape(shape),
            Err(error) => {
                self.misfit.unreadable.push(error.to_string());
                self.zeros(shape)
            }
        }
    }

    /// Zeros that need no memory.
    fn zeros(&self, shape: &[usize]) -> TensorResult<Tensor> {
        Tensor::zeros((), self.dtype, &self.device)?.broadcast_as(shape)
    }

    /// Whether every tensor of the model was found, fits and was read, and none is left over.
    ///
    /// # Errors
    /// [`WeightsError::Misfit`] with all that is not so.
    pub fn finish(mut self) -> Result<(), WeightsError> {
        let is_left = |name: &&str| !self.taken.contains(*name) && !self.rules.may_be_left(name);
        self.misfit.unexpected = self.weights.names().filter(is_left).map(str::to_owned).collect();
        self.verdict()
    }

    /// As [`Self::finish`] of a model that was not finished: what is left over says nothing then.
    fn verdict(self) -> Result<(), WeightsError> {
        if self.misfit.is_fit() { Ok(()) } else { Err(WeightsError::Misfit(Box::new(self.misfit))) }
    }
}

/// Frozen tensors: nothing is a `Var` but the buffers.
impl Source for Loader<'_> {
    fn parameter(&mut self, path: &str, shape: &[usize], _: Init) -> TensorResult<Tensor> {
        self.take(path, shape)
    }

    fn buffer(&mut self, path: &str, shape: &[usize], _: f64) -> TensorResult<Var> {
        Var::from_tensor(&self.take(path, shape)?)
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn dtype(&self) -> DType {
        self.dtype
    }
}

/// Builds a model out of `weights`, its tensors frozen.
///
/// # Errors
/// [`WeightsError::Misfit`] with every missing, unexpected, mis-shaped and unreadable tensor; else why `build` failed.
pub fn load<M>(
    weights: &Weights,
    dtype: DType,
    device: &Device,
    rules: &Rules,
    build: impl FnOnce(&mut Scope<'_>) -> TensorResult<M>,
) -> Result<M, WeightsError> {
    let mut loader = Loader::new(weights, dtype, device).rules(rules);
    match build(&mut Scope::of(&mut loader)) {
        Ok(model) => loader.finish().map(|()| model),
        Err(source) => {
            loader.verdict()?;
            Err(WeightsError::Tensor { path: weights.place().to_owned(), source })
        }
    }
}
