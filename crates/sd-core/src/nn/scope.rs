//! Where a model under construction takes its tensors from: fresh values, a file, or nowhere.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::Parameters;
use super::parameters::Start;
use crate::taps::{Kind, Site};

/// What a parameter starts from where it is not read from a file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// U(−b, b).
    Uniform(f64),
    /// N(0, s²).
    Normal(f64),
    /// One value everywhere.
    Constant(f64),
}

/// Where tensors come from.
///
/// Paths are module paths, as in PyTorch's `state_dict`: `layer1.0.conv1.weight`.
pub trait Source {
    /// A parameter: stepped by an optimiser where the model is trained.
    ///
    /// # Errors
    /// Where the tensor cannot be made.
    fn parameter(&mut self, path: &str, shape: &[usize], init: Init) -> Result<Tensor>;

    /// A buffer of equal values: saved with the model, never stepped.
    ///
    /// # Errors
    /// Where the tensor cannot be made.
    fn buffer(&mut self, path: &str, shape: &[usize], value: f64) -> Result<Var>;

    /// Where the tensors live.
    fn device(&self) -> &Device;

    /// Their element type.
    fn dtype(&self) -> DType;

    /// Told of every activation that the model under construction offers to a tap, in the order of a forward pass.
    fn site(&mut self, site: &Site) {
        let _ = site;
    }
}

/// A module's place in a model under construction: its path, and where its tensors come from.
pub struct Scope<'a> {
    source: &'a mut dyn Source,
    path: String,
}

impl<'a> Scope<'a> {
    /// The root of a model to be trained: initial values are drawn from `seed`, each parameter from a stream named after it, and
    /// all are kept in `parameters`.
    pub fn root(parameters: &'a mut Parameters, seed: u64, dtype: DType, device: &Device) -> Self {
        let start = Start { seed, dtype, device: device.clone() };
        Self { source: parameters.start_from(start), path: String::new() }
    }

    /// The root of a model whose tensors come from `source`.
    pub fn of(source: &'a mut dyn Source) -> Self {
        Self { source, path: String::new() }
    }

    /// The scope of the child module `name`, which may be a path of several.
    pub fn child(&mut self, name: impl std::fmt::Display) -> Scope<'_> {
        let path = self.join(&name.to_string());
        Scope { source: &mut *self.source, path }
    }

    /// The module's path; empty at the root.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where the tensors live.
    #[must_use]
    pub fn device(&self) -> &Device {
        self.source.device()
    }

    /// The tensors' element type.
    #[must_use]
    pub fn dtype(&self) -> DType {
        self.source.dtype()
    }

    /// Names an activation of this module that taps are offered.
    ///
    /// Called in the order in which the forward pass will come by.
    pub fn site(&mut self, kind: Kind) -> Site {
        let site = Site::new(self.path.clone(), kind);
        self.source.site(&site);
        site
    }

    /// A parameter drawn from U(−bound, bound) where it is not read from a file.
    ///
    /// # Errors
    /// Where the tensor cannot be made.
    pub fn uniform(&mut self, name: &str, shape: &[usize], bound: f64) -> Result<Tensor> {
        self.source.parameter(&self.join(name), shape, Init::Uniform(bound))
    }

    /// A parameter drawn from N(0, std²) where it is not read from a file.
    ///
    /// # Errors
    /// Where the tensor cannot be made.
    pub fn normal(&mut self, name: &str, shape: &[usize], std: f64) -> Result<Tensor> {
        self.source.parameter(&self.join(name), shape, Init::Normal(std))
    }

    /// A parameter of equal values where it is not read from a file.
    ///
    /// # Errors
    /// Where the tensor cannot be made.
    pub fn constant(&mut self, name: &str, shape: &[usize], value: f64) -> Result<Tensor> {
        self.source.parameter(&self.join(name), shape, Init::Constant(value))
    }

    /// A buffer of equal values: saved with the model, never stepped.
    ///
    /// # Errors
    /// Where the tensor cannot be made.
    pub fn buffer(&mut self, name: &str, shape: &[usize], value: f64) -> Result<Var> {
        self.source.buffer(&self.join(name), shape, value)
    }

    fn join(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// What a model consists of, found without allocating it: names, shapes, and the activations it offers.
///
/// Its tensors are one zero, broadcast: a forward pass through them would be meaningless.
#[derive(Clone, Debug)]
pub struct Specification {
    /// Parameters by path, in the order of construction.
    pub parameters: Vec<(String, Vec<usize>)>,
    /// Buffers by path, in the order of construction.
    pub buffers: Vec<(String, Vec<usize>)>,
    /// Activations, in the order of a forward pass.
    pub sites: Vec<Site>,
    device: Device,
    dtype: DType,
}

impl Specification {
    /// That of the model which `build` constructs.
    ///
    /// # Errors
    /// Where `build` fails.
    pub fn of<M>(build: impl FnOnce(&mut Scope<'_>) -> Result<M>) -> Result<Self> {
        let mut specification = Self {
            parameters: Vec::new(),
            buffers: Vec::new(),
            sites: Vec::new(),
            device: Device::Cpu,
            dtype: DType::F32,
        };
        build(&mut Scope::of(&mut specification))?;
        Ok(specification)
    }

    /// Number of scalars in the parameters (buffers not counted).
    #[must_use]
    pub fn count(&self) -> usize {
        self.parameters.iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    fn zero(&self, shape: &[usize]) -> Result<Tensor> {
        Tensor::zeros((), self.dtype, &self.device)?.broadcast_as(shape)
    }
}

impl Source for Specification {
    fn parameter(&mut self, path: &str, shape: &[usize], _: Init) -> Result<Tensor> {
        self.parameters.push((path.to_owned(), shape.to_vec()));
        self.zero(shape)
    }

    fn buffer(&mut self, path: &str, shape: &[usize], _: f64) -> Result<Var> {
        self.buffers.push((path.to_owned(), shape.to_vec()));
        Var::from_tensor(&self.zero(shape)?)
    }

    fn device(&self) -> &Device {
        &self.device
    }

    fn dtype(&self) -> DType {
        self.dtype
    }

    fn site(&mut self, site: &Site) {
        self.sites.push(site.clone());
    }
}
