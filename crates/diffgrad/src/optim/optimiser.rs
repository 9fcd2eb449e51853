//! [`Optimiser`]: the update rules over candle variables.

use std::collections::HashSet;

use candle_core::backprop::GradStore;
use candle_core::{DType, Layout, Storage, Tensor, Var, bail};

use super::config::{ConfigFault, OptimiserConfig};
use super::fused::{self, Slices, StepFault};
use super::lend::{TOGETHER, lend};
use super::real::Real;
use super::stats::XiStats;

/// What can go wrong in building, stepping, saving or restoring an [`Optimiser`].
#[derive(Debug, thiserror::Error)]
pub enum OptimError {
    /// A value of the configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigFault),
    /// The fused pass refused its slices.
    #[error(transparent)]
    Step(#[from] StepFault),
    /// A parameter or its gradient is not what it must be.
    #[error("optimiser: parameter `{name}`: {what} must be {expected}, found {found}")]
    Parameter {
        /// The parameter's name.
        name: String,
        /// Which of its properties.
        what: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A saved state is not of this optimiser.
    #[error(
        "optimiser state: {what}: expected {expected}, found {found}; restore it into the rule and model that saved it"
    )]
    State {
        /// Entry, or set of entries.
        what: String,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// candle failed.
    #[error("optimiser: {0}")]
    Candle(#[from] candle_core::Error),
    /// The bytes of a saved state are not a safetensors file.
    #[error("optimiser state: not readable as safetensors ({0}); the file is damaged or of another kind")]
    Bytes(#[from] safetensors::SafeTensorError),
}

impl From<OptimError> for candle_core::Error {
    fn from(error: OptimError) -> Self {
        Self::wrap(error)
    }
}

/// An update rule over a set of `f32` and `f64` variables on the CPU (with the feature `cuda` also of `f32` ones on CUDA
/// devices), with state that can be saved and restored bit for bit.
///
/// It implements [`candle_nn::Optimizer`]. A variable without a gradient in a step is left alone, its state and its step count
/// too, as PyTorch does. Parameters are updated in place: whoever holds the variable sees the new values.
#[derive(Debug)]
pub struct Optimiser {
    pub(super) config: OptimiserConfig,
    pub(super) parameters: Vec<Parameter>,
    #[cfg(feature = "cuda")]
    prepared: Vec<super::cuda::device::Prepared>,
}

/// One variable with its state.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) name: String,
    pub(super) var: Var,
    /// Steps done.
    pub(super) t: u64,
    pub(super) state: State,
}

/// State buffers in the order of the rule; unused ones are empty.
#[derive(Clone, Debug)]
pub(super) enum State {
    F32([Vec<f32>; 3]),
    F64([Vec<f64>; 3]),
    /// On the parameter's device; those that are used alone.
    #[cfg(feature = "cuda")]
    Device(Vec<Var>),
}

/// An element type together with its arm of [`State`].
pub(super) trait Held: Real {
    fn of_state(state: &mut State) -> Option<&mut [Vec<Self>; 3]>;
}

impl Held for f32 {
    fn of_state(state: &mut State) -> Option<&mut [Vec<Self>; 3]> {
        if let State::F32(buffers) = state { Some(buffers) } else { None }
    }
}

impl Held for f64 {
    fn of_state(state: &mut State) -> Option<&mut [Vec<Self>; 3]> {
        if let State::F64(buffers) = state { Some(buffers) } else { None }
    }
}

impl Optimiser {
    /// An optimiser over `vars`, named `0`, `1`, … in their order.
    ///
    /// # Errors
    /// As [`Optimiser::named`].
    pub fn new(vars: Vec<Var>, config: &OptimiserConfig) -> Result<Self, OptimError> {
        Self::named(vars.into_iter().enumerate().map(|(i, var)| (i.to_string(), var)).collect(), config)
    }

    /// An optimiser over named variables; the names are those of the saved state.
    ///
    /// # Errors
    /// If the configuration is not valid, a variable is not `f32` or `f64`, not on the CPU, or a name or variable comes twice.
    pub fn named(vars: Vec<(String, Var)>, config: &OptimiserConfig) -> Result<Self, OptimError> {
        config.validate()?;
        let (mut names, mut ids) = (HashSet::new(), HashSet::new());
        let mut parameters = Vec::with_capacity(vars.len());
        for (name, var) in vars {
            if !names.insert(name.clone()) || !ids.insert(var.id()) {
                return Err(fault(&name, "it", "given once", "given twice"));
            }
            parameters.push(Parameter::new(name, var, config.rule.buffers().len())?);
        }
        Ok(Self {
            config: config.clone(),
            parameters,
            #[cfg(feature = "cuda")]
            prepared: Vec::new(),
        })
    }

    /// The configuration, with the learning rate now in use.
    #[must_use]
    pub fn config(&self) -> &OptimiserConfig {
        &self.config
    }

    /// The learning rate of the next step.
    #[must_use]
    pub fn learning_rate(&self) -> f64 {
        self.config.lr
    }

    /// Sets the learning rate from the next step on. One that is not finite or below 0 makes that step an error.
    pub fn set_learning_rate(&mut self, lr: f64) {
        self.config.lr = lr;
    }

    /// One step on every variable that has a gradient in `grads`.
    ///
    /// # Errors
    /// If a gradient differs from its variable in shape, type or device, or the learning rate is not usable; nothing is
    /// changed then.
    pub fn step(&mut self, grads: &GradStore) -> Result<(), OptimError> {
        self.advance(|var| grads.get(var), None)
    }

    /// As [`Optimiser::step`], and returns the distribution of ξ over all elements stepped; `None` where the rule has no ξ.
    /// Counting costs two to three times the step itself, so count every so many steps where the network is large.
    ///
    /// # Errors
    /// As [`Optimiser::step`].
    pub fn step_with_stats(&mut self, grads: &GradStore) -> Result<Option<XiStats>, OptimError> {
        let mut stats = self.config.rule.has_friction().then(|| XiStats::new(self.config.rule));
        self.advance(|var| grads.get(var), stats.as_mut())?;
        Ok(stats)
    }

    /// One step with one optional gradient for each variable, in the order in which the variables were given.
    ///
    /// # Errors
    /// As [`Optimiser::step`], and if the number of gradients is not that of the variables.
    pub fn step_tensors(&mut self, gradients: &[Option<Tensor>]) -> Result<(), OptimError> {
        if gradients.len() != self.parameters.len() {
            let (expected, found) = (self.parameters.len().to_string(), gradients.len().to_string());
            return Err(fault("all", "number of gradients", expected, found));
        }
        let ids = self.parameters.iter().map(|parameter| parameter.var.id());
        let by_id: std::collections::HashMap<_, _> = ids.zip(gradients).collect();
        self.advance(|var| by_id.get(&var.id()).and_then(|gradient| gradient.as_ref()), None)
    }

    fn advance<'g>(
        &mut self,
        gradient_of: impl Fn(&Var) -> Option<&'g Tensor>,
        mut stats: Option<&mut XiStats>,
    ) -> Result<(), OptimError> {
        self.config.validate()?;
        let mut ready = Vec::with_capacity(self.parameters.len());
        for parameter in &mut self.parameters {
            if let Some(gradient) = gradient_of(&parameter.var) {
                parameter.check_gradient(gradient)?;
                let gradient = gradient.contiguous()?;
                ready.push((parameter, gradient));
            }
        }
        separate(&mut ready)?;
        #[cfg(feature = "cuda")]
        let ready = step_on_devices(&self.config, ready, &mut self.prepared, stats.is_some())?;
        let (mut single, mut double): (Vec<_>, Vec<_>) =
            ready.into_iter().partition(|(p, _)| p.var.dtype() == DType::F32);
        for some in single.chunks_mut(TOGETHER) {
            step_together::<f32>(&self.config, some, stats.as_deref_mut())?;
        }
        for some in double.chunks_mut(TOGETHER) {
            step_together::<f64>(&self.config, some, stats.as_deref_mut())?;
        }
        Ok(())
    }
}

/// A gradient that lies in a variable's own storage cannot be read while the variable is written: such a one is copied.
fn separate(ready: &mut [(&mut Parameter, Tensor)]) -> Result<(), OptimError> {
    let written: HashSet<usize> = ready.iter().filter_map(|(parameter, _)| address(&parameter.var)).collect();
    for (_, gradient) in ready {
        if address(gradient).is_some_and(|address| written.contains(&address)) {
            *gradient = gradient.copy()?;
        }
    }
    Ok(())
}

/// Steps the parameters that lie on CUDA devices, and returns those that do not.
#[cfg(feature = "cuda")]
fn step_on_devices<'p>(
    config: &OptimiserConfig,
    ready: Vec<(&'p mut Parameter, Tensor)>,
    prepared: &mut Vec<super::cuda::device::Prepared>,
    counting: bool,
) -> Result<Vec<(&'p mut Parameter, Tensor)>, OptimError> {
    use super::cuda::device::{Ready, step};
    let (mut there, here): (Vec<_>, Vec<_>) = ready.into_iter().partition(|(p, _)| p.var.device().is_cuda());
    if let Some((first, _)) = there.first() {
        if counting {
            return Err(fault(&first.name, "device", "the CPU, where ξ is counted", "a CUDA device"));
        }
        let lent = there.iter().filter_map(|(parameter, gradient)| match &parameter.state {
            State::Device(state) => {
                Some(Ready { theta: &parameter.var, gradient, state, t: parameter.t + 1 })
            }
            // A variable's state lies where the variable does.
            State::F32(_) | State::F64(_) => None,
        });
        let lent: Vec<Ready<'_>> = lent.collect();
        step(config, &lent, prepared)?;
    }
    there.iter_mut().for_each(|(parameter, _)| parameter.t += 1);
    Ok(here)
}

/// Where a tensor's storage begins in memory, its own machine's or a CUDA device's.
fn address(tensor: &Tensor) -> Option<usize> {
    match &*tensor.storage_and_layout().0 {
        #[cfg(feature = "cuda")]
        Storage::Cuda(storage) => sd_core::cuda::device::address(storage),
        Storage::Cpu(candle_core::CpuStorage::F32(values)) => Some(values.as_ptr().addr()),
        Storage::Cpu(candle_core::CpuStorage::F64(values)) => Some(values.as_ptr().addr()),
        _ => None,
    }
}

fn step_together<T: Held>(
    config: &OptimiserConfig,
    ready: &mut [(&mut Parameter, Tensor)],
    mut stats: Option<&mut XiStats>,
) -> Result<(), OptimError> {
    let vars: Vec<Var> = ready.iter().map(|(parameter, _)| parameter.var.clone()).collect();
    let vars: Vec<&Var> = vars.iter().collect();
    lend::<T>(&vars, &mut |thetas| {
        let (mut locked, mut states) = (Vec::new(), Vec::new());
        for (parameter, gradient) in ready.iter_mut() {
            locked.push(gradient.storage_and_layout());
            states.push((T::of_state(&mut parameter.state), parameter.t + 1));
        }
        let mut slices = Vec::with_capacity(thetas.len());
        for ((theta, (storage, layout)), (state, t)) in thetas.into_iter().zip(&locked).zip(states) {
            let state = state.map(|buffers| buffers.each_mut().map(Vec::as_mut_slice)).unwrap_or_default();
            slices.push(Slices { theta, gradient: elements(storage, layout)?, state, t });
        }
        fused::step(config, slices, stats.as_deref_mut()).map_err(candle_core::Error::wrap)
    })?;
    ready.iter_mut().for_each(|(parameter, _)| parameter.t += 1);
    Ok(())
}

/// A contiguous CPU tensor's elements.
fn elements<'a, T: Real>(storage: &'a Storage, layout: &Layout) -> candle_core::Result<&'a [T]> {
    match (storage, layout.contiguous_offsets()) {
        (Storage::Cpu(storage), Some((start, end))) => Ok(&storage.as_slice::<T>()?[start..end]),
        _ => bail!("a gradient is not contiguous on the CPU"),
    }
}

impl Parameter {
    fn new(name: String, var: Var, buffers: usize) -> Result<Self, OptimError> {
        #[cfg(feature = "cuda")]
        if var.device().is_cuda() {
            if var.dtype() != DType::F32 {
                return Err(fault(&name, "type on a CUDA device", "f32", var.dtype().as_str()));
            }
            let zeros = (0..buffers).map(|_| Var::zeros(var.shape(), DType::F32, var.device()));
            let state = State::Device(zeros.collect::<Result<_, _>>()?);
            return Ok(Self { name, var, t: 0, state });
        }
        if !var.device().is_cpu() {
            return Err(fault(&name, "device", "the CPU", format!("{:?}", var.device().location())));
        }
        let count = |i: usize| if i < buffers { var.elem_count() } else { 0 };
        let state = match var.dtype() {
            DType::F32 => State::F32([0, 1, 2].map(|i| vec![0.0; count(i)])),
            DType::F64 => State::F64([0, 1, 2].map(|i| vec![0.0; count(i)])),
            other => return Err(fault(&name, "type", "f32 or f64", other.as_str())),
        };
        Ok(Self { name, var, t: 0, state })
    }

    fn check_gradient(&self, gradient: &Tensor) -> Result<(), OptimError> {
        let var = &self.var;
        if gradient.shape() != var.shape() {
            let (expected, found) = (format!("{:?}", var.dims()), format!("{:?}", gradient.dims()));
            return Err(fault(&self.name, "gradient's shape", expected, found));
        }
        if gradient.dtype() != var.dtype() {
            return Err(fault(
                &self.name,
                "gradient's type",
                var.dtype().as_str(),
                gradient.dtype().as_str(),
            ));
        }
        if !gradient.device().same_device(var.device()) {
            return Err(fault(
                &self.name,
                "gradient's device",
                format!("{:?}", var.device().location()),
                format!("{:?}", gradient.device().location()),
            ));
        }
        Ok(())
    }
}

fn fault(
    name: &str,
    what: &'static str,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> OptimError {
    OptimError::Parameter { name: name.to_owned(), what, expected: expected.into(), found: found.into() }
}

impl candle_nn::Optimizer for Optimiser {
    type Config = OptimiserConfig;

    fn new(vars: Vec<Var>, config: OptimiserConfig) -> candle_core::Result<Self> {
        Ok(Self::new(vars, &config)?)
    }

    fn step(&mut self, grads: &GradStore) -> candle_core::Result<()> {
        Ok(self.step(grads)?)
    }

    fn learning_rate(&self) -> f64 {
        self.config.lr
    }

    fn set_learning_rate(&mut self, lr: f64) {
        self.config.lr = lr;
    }
}
