//! What the kernels are run on, and what they must give: one list for the CPU and for a GPU.
//!
//! A case knows no executor. Inputs are rounded to the element type first; what is expected comes from the public op on the CPU
//! in double precision, gradients from its backward, so that a kernel is held against mathematics and not against another
//! kernel.

mod activation;
mod attention;
mod batch_norm;
mod conv2d;
mod copy;
mod group_norm;
mod guidance;
mod layer_norm;
mod linear;
mod optimiser;
mod optimiser_bits;
mod resize;
mod rng;
mod softmax;
mod upsample;

use candle_core::{DType, Device, Result, Tensor, Var};
use sd_core::cuda::packs::Cuts;
use sd_core::cuda::{Element, Program};
use sd_core::rng::Rng;

use crate::data::rounded;
use crate::{Data, Expected};

/// A program with inputs and what it must give.
#[derive(Debug)]
pub struct Job {
    /// What is run.
    pub program: Program,
    /// One for each `Input` and `InOut` buffer, in order.
    pub inputs: Vec<Data>,
    /// One for each `InOut` and `Output` buffer, in order.
    pub expected: Vec<Expected>,
}

/// What a large case moves and computes at least: the numbers that a measured time is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Bytes of all inputs and outputs, each once.
    pub bytes: u64,
    /// Floating-point operations; a multiply-add counts twice. 0 where memory is what limits.
    pub flop: u64,
}

type Make = Box<dyn Fn() -> Result<Job> + Send + Sync>;

/// One case.
pub struct Case {
    /// The op's name, as its `Source` has it: `softmax`.
    pub op: &'static str,
    /// What tells it from the op's other cases: `forward 31×257 f16`.
    pub name: String,
    /// Set where the case is large and for a GPU only: what to divide its time by.
    pub timed: Option<Work>,
    make: Make,
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.op, self.name)
    }
}

impl Case {
    fn new(
        op: &'static str,
        name: impl Into<String>,
        make: impl Fn() -> Result<Job> + Send + Sync + 'static,
    ) -> Self {
        Self { op, name: name.into(), timed: None, make: Box::new(make) }
    }

    /// The same, large: to be run and timed on a GPU, not on the CPU.
    fn timed(self, work: Work) -> Self {
        Self { timed: Some(work), ..self }
    }

    /// Makes inputs, program and expected values.
    ///
    /// # Errors
    /// Where the reference op on the CPU fails: a fault of the case.
    pub fn job(&self) -> Result<Job> {
        (self.make)()
    }
}

/// Every case of every op.
#[must_use]
pub fn all() -> Vec<Case> {
    [
        activation::cases(),
        attention::cases(),
        batch_norm::cases(),
        conv2d::cases(),
        copy::cases(),
        group_norm::cases(),
        guidance::cases(),
        layer_norm::cases(),
        linear::cases(),
        optimiser::cases(),
        optimiser_bits::cases(),
        resize::cases(),
        rng::cases(),
        softmax::cases(),
        upsample::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The element types that the engine's kernels are written for.
const FLOATS: [Element; 3] = [Element::F32, Element::F16, Element::Bf16];

/// `count` standard normal numbers rounded to `element`; another `stream` gives others.
fn normals(stream: u64, count: usize, element: Element) -> Vec<f64> {
    let mut rng = Rng::new(stream, "kernel case", 0);
    let values: Vec<f64> = (0..count).map(|_| rng.normal()).collect();
    rounded(element, &values)
}

/// `values` in double precision on the CPU.
fn tensor(values: &[f64], shape: &[usize]) -> Result<Tensor> {
    Tensor::from_slice(values, shape, &Device::Cpu)
}

/// The elements of a tensor in row-major order.
fn values(tensor: &Tensor) -> Result<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// As [`normals`], around 3 instead of 0: a variance computed as a difference of large sums would show.
fn shifted(stream: u64, count: usize, element: Element) -> Vec<f64> {
    let around: Vec<f64> = normals(stream, count, Element::F32).iter().map(|value| value + 3.0).collect();
    rounded(element, &around)
}

/// Mean and biased variance.
fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let count = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / count;
    (mean, values.map(|value| (value - mean).powi(2)).sum::<f64>() / count)
}

/// Every set is cut, into slices of 32 packs, a few sets at a time: the path of large tensors on small ones.
const CUT_SMALL: Cuts = Cuts { whole: 0, slice: 32, cached: 1 << 12 };

/// An op's output, and the gradients of `Σ output · dy` by each input.
struct Differentiated {
    output: Vec<f64>,
    gradients: Vec<Vec<f64>>,
}

impl Differentiated {
    /// The gradients, of which there must be `N`.
    fn gradients<const N: usize>(self) -> Result<[Vec<f64>; N]> {
        self.gradients.try_into().map_err(|found: Vec<_>| {
            candle_core::Error::Msg(format!("{} gradients, expected {N}", found.len()))
        })
    }
}

/// Runs `f` on `inputs` and differentiates it; `dy` gives as many elements as the output has.
fn differentiate(
    inputs: &[Tensor],
    dy: &[f64],
    f: impl Fn(&[Tensor]) -> Result<Tensor>,
) -> Result<Differentiated> {
    let variables = inputs.iter().map(Var::from_tensor).collect::<Result<Vec<_>>>()?;
    let leaves: Vec<Tensor> = variables.iter().map(|variable| variable.as_tensor().clone()).collect();
    let output = f(&leaves)?;
    let dy = tensor(dy, output.dims())?;
    let store = (&output * dy)?.sum_all()?.backward()?;
    let gradient = |variable: &Var| match store.get(variable) {
        Some(gradient) => values(gradient),
        None => candle_core::bail!("an input has no gradient"),
    };
    let gradients = variables.iter().map(gradient).collect::<Result<_>>()?;
    Ok(Differentiated { output: values(&output)?, gradients })
}
