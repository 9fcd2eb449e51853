//! Activation checkpointing: a piece of a network that keeps its inputs alone, and is run again when its gradient is asked for.
//!
//! Chen et al. 2016, "Training deep nets with sublinear memory cost": memory for time, a second forward pass in the backward.

use std::sync::Mutex;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Storage, Tensor, Var, bail};

/// A function that can be run again.
pub(crate) trait Again: Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static {}

impl<F: Fn(&[Tensor]) -> Result<Tensor> + Send + Sync + 'static> Again for F {}

/// `function(x, y)`, whose inner activations are not kept. Gradients flow to x and y alone: the weights inside must be frozen.
///
/// # Errors
/// Those of `function`; and where it depends on a trainable tensor that is no input, whose gradient would be lost.
pub(crate) fn checkpoint(x: &Tensor, y: &Tensor, function: impl Again) -> Result<Tensor> {
    let inputs = [x.detach(), y.detach()];
    if !x.track_op() && !y.track_op() {
        return function(&inputs);
    }
    let output = function(&inputs)?;
    if output.track_op() {
        bail!(
            "activation checkpointing: a weight inside is trainable, and its gradient would be lost; freeze it or turn checkpointing off"
        );
    }
    let op = Checkpoint { output: Mutex::new(Some(output)), function };
    match (x.track_op(), y.track_op()) {
        (true, false) => x.apply_op1(One { op, other: inputs[1].clone(), first: true }),
        (false, true) => y.apply_op1(One { op, other: inputs[0].clone(), first: false }),
        _ => x.apply_op2(y, op),
    }
}

/// (x, y) → output, known already.
struct Checkpoint<F> {
    /// Until it was handed over: the graph then holds it once.
    output: Mutex<Option<Tensor>>,
    function: F,
}

impl<F: Again> Checkpoint<F> {
    /// The output that is known, copied, since a tensor does not give its storage away.
    fn storage(&self) -> Result<(Storage, Shape)> {
        let known = self.output.lock().ok().and_then(|mut output| output.take());
        let Some(output) = known else {
            bail!("activation checkpointing: a piece was asked for its output twice")
        };
        let output = crate::ops::copy::contiguous(&output)?;
        let (storage, layout) = output.storage_and_layout();
        Ok((storage.try_clone(layout)?, layout.shape().clone()))
    }

    fn cpu(&self) -> Result<(CpuStorage, Shape)> {
        match self.storage()? {
            (Storage::Cpu(storage), shape) => Ok((storage, shape)),
            _ => bail!("activation checkpointing: the inputs are on the CPU and the output is not"),
        }
    }

    /// Gradients of those `inputs` that are variables: the pass once more, this time with its graph.
    fn gradients(&self, inputs: &[Tensor; 2], dy: &Tensor) -> Result<GradStore> {
        ((self.function)(inputs)? * dy)?.sum_all()?.backward()
    }
}

impl<F: Again> CustomOp2 for Checkpoint<F> {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.cpu()
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        _: &candle_core::CudaStorage,
        _: &Layout,
        _: &candle_core::CudaStorage,
        _: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        self.cuda()
    }

    fn bwd(
        &self,
        x: &Tensor,
        y: &Tensor,
        _: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (x, y) = (Var::from_tensor(x)?, Var::from_tensor(y)?);
        let gradients = self.gradients(&[x.as_tensor().clone(), y.as_tensor().clone()], dy)?;
        Ok((gradients.get(&x).cloned(), gradients.get(&y).cloned()))
    }
}

#[cfg(feature = "cuda")]
impl<F: Again> Checkpoint<F> {
    fn cuda(&self) -> Result<(candle_core::CudaStorage, Shape)> {
        match self.storage()? {
            (Storage::Cuda(storage), shape) => Ok((storage, shape)),
            _ => bail!("activation checkpointing: the inputs are on a GPU and the output is not"),
        }
    }
}

/// The same where one input alone is differentiated: the other is a constant.
struct One<F> {
    op: Checkpoint<F>,
    other: Tensor,
    /// Whether the input is the first argument.
    first: bool,
}

impl<F: Again> CustomOp1 for One<F> {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn cpu_fwd(&self, _: &CpuStorage, _: &Layout) -> Result<(CpuStorage, Shape)> {
        self.op.cpu()
    }

    #[cfg(feature = "cuda")]
    fn cuda_fwd(
        &self,
        _: &candle_core::CudaStorage,
        _: &Layout,
    ) -> Result<(candle_core::CudaStorage, Shape)> {
        self.op.cuda()
    }

    fn bwd(&self, x: &Tensor, _: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let var = Var::from_tensor(x)?;
        let (x, other) = (var.as_tensor().clone(), self.other.clone());
        let inputs = if self.first { [x, other] } else { [other, x] };
        Ok(self.op.gradients(&inputs, dy)?.get(&var).cloned())
    }
}
