//! Weights averaged over the steps of a run.

use std::collections::BTreeMap;

use candle_core::{CpuStorage, DType, InplaceOp2, Layout, Result, Tensor, Var, bail};
use rayon::prelude::*;

use crate::nn::Parameters;

/// Elements that one thread averages at a time.
const PIECE: usize = 1 << 15;

/// An exponential moving average θ̄ of parameters θ. Update number n, counted from 0:
///
/// ```text
/// θ̄ ← θ̄ − (1 − d)·(θ̄ − θ),    d = 0 for n = 0,    d = min(decay, (1 + n)/(10 + n)) for n ≥ 1
/// ```
///
/// That is `EMAModel` of diffusers (`training_utils.py`) with `use_ema_warmup=False`, its order of operations included. The first
/// update forgets where the average started; the early ones weigh more, so that the initial values do not linger.
#[derive(Debug)]
pub struct Ema {
    decay: f64,
    updates: u64,
    averages: Vec<(String, Var)>,
    /// Shares the model's tensors: where its buffers are.
    model: Parameters,
}

impl Ema {
    /// An average that starts at the parameters.
    ///
    /// # Errors
    /// Where a tensor cannot be copied.
    pub fn new(parameters: &Parameters, decay: f64) -> Result<Self> {
        let copy = |(name, var): (&str, &Var)| {
            Ok((name.to_owned(), Var::from_tensor(&var.as_detached_tensor().copy()?)?))
        };
        let averages = parameters.named().map(copy).collect::<Result<_>>()?;
        Ok(Self { decay, updates: 0, averages, model: parameters.clone() })
    }

    /// Moves the average towards the parameters, which must be those it was made of.
    ///
    /// # Errors
    /// Where they are not, by name, shape or type.
    pub fn update(&mut self, parameters: &Parameters) -> Result<()> {
        let weight = 1.0 - self.decay_of_next();
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            self.pairs(parameters)?.into_iter().partition(|(average, _)| is_fused(average));
        here.into_par_iter().try_for_each(|(average, value)| fused(average, value, weight))?;
        elsewhere.into_iter().try_for_each(|(average, value)| plain(average, value, weight))?;
        self.updates += 1;
        Ok(())
    }

    /// The averaged parameters by name, and the model's buffers as they are now; all copied, and no part of any graph.
    ///
    /// # Errors
    /// Where a tensor cannot be copied.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = self.model.state()?;
        state.values_mut().for_each(|tensor| *tensor = tensor.detach());
        for (name, average) in &self.averages {
            state.insert(name.clone(), average.as_detached_tensor().copy()?);
        }
        Ok(state)
    }

    /// Updates done.
    #[must_use]
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// The averages themselves: they change with the next update.
    pub(super) fn averages(&self) -> impl Iterator<Item = (&str, Tensor)> {
        self.averages.iter().map(|(name, average)| (name.as_str(), average.as_detached_tensor()))
    }

    /// Goes on from averages that were saved after `updates` updates.
    pub(super) fn restore(&mut self, saved: &BTreeMap<String, Tensor>, updates: u64) -> Result<()> {
        if saved.len() != self.averages.len() {
            bail!("averaged weights: expected {} tensors, found {}", self.averages.len(), saved.len());
        }
        for (name, average) in &self.averages {
            match saved.get(name) {
                Some(saved) if saved.dims() == average.dims() && saved.dtype() == average.dtype() => {
                    average.set(saved)?;
                }
                _ => {
                    bail!("averaged weights: `{name}`: expected {:?} {:?}", average.dtype(), average.dims())
                }
            }
        }
        self.updates = updates;
        Ok(())
    }

    fn decay_of_next(&self) -> f64 {
        let n = self.updates as f64;
        if self.updates == 0 { 0.0 } else { self.decay.min((1.0 + n) / (10.0 + n)) }
    }

    fn pairs<'a>(&'a self, parameters: &'a Parameters) -> Result<Vec<(&'a Var, &'a Var)>> {
        let mut values = parameters.named();
        let pair = |(name, average): &'a (String, Var)| match values.next() {
            Some((found, value)) if found == name => Ok((average, value)),
            found => {
                bail!("averaged weights: expected the parameter `{name}`, found {:?}", found.map(|(n, _)| n))
            }
        };
        self.averages.iter().map(pair).collect()
    }
}

fn is_fused(average: &Tensor) -> bool {
    average.device().is_cpu() && average.dtype() == DType::F32
}

/// One pass over both tensors, nothing allocated.
fn fused(average: &Var, value: &Var, weight: f64) -> Result<()> {
    if value.dtype() != DType::F32 || value.dims() != average.dims() {
        bail!(
            "averaged weights: expected f32 {:?}, found {:?} {:?}",
            average.dims(),
            value.dtype(),
            value.dims()
        );
    }
    average.inplace_op2(value.as_tensor(), &Blend { weight: weight as f32 })
}

/// The same by candle's operations, for any type and device.
pub(super) fn plain(average: &Var, value: &Var, weight: f64) -> Result<()> {
    let (average_now, value) = (average.as_detached_tensor(), value.as_detached_tensor());
    average.set(&(&average_now - ((&average_now - value)? * weight)?)?)
}

/// θ̄ ← θ̄ − w·(θ̄ − θ).
struct Blend {
    weight: f32,
}

impl Blend {
    fn piece(&self, averages: &mut [f32], values: &[f32]) {
        for (average, value) in averages.iter_mut().zip(values) {
            *average -= self.weight * (*average - *value);
        }
    }
}

impl InplaceOp2 for Blend {
    fn name(&self) -> &'static str {
        "ema"
    }

    fn cpu_fwd(
        &self,
        to: &mut CpuStorage,
        to_at: &Layout,
        from: &CpuStorage,
        from_at: &Layout,
    ) -> Result<()> {
        let (CpuStorage::F32(to), CpuStorage::F32(from)) = (to, from) else {
            bail!("averaged weights: a tensor is not f32")
        };
        let (Some((a, b)), Some((c, d))) = (to_at.contiguous_offsets(), from_at.contiguous_offsets()) else {
            bail!("averaged weights: a tensor is not contiguous")
        };
        let (to, from) = (&mut to[a..b], &from[c..d]);
        if to.len() <= PIECE {
            self.piece(to, from);
        } else {
            let pieces = to.par_chunks_mut(PIECE).zip(from.par_chunks(PIECE));
            pieces.for_each(|(to, from)| self.piece(to, from));
        }
        Ok(())
    }
}
