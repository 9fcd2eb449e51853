//! Optimiser steps on variables that lie on a CUDA device: parameters and state are updated where they are.
//!
//! candle lends a variable's storage for writing only inside an in-place operation on that variable, so, as on the CPU
//! (`lend`), the operation on one variable starts the operation on the next; in the innermost one all storages are there and
//! the program runs over all of them.

use std::cell::Cell;

use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, Device, InplaceOp1, Layout, Result, Storage, Tensor, Var, bail,
};
use sd_core::cuda::device::{self, Given};
use sd_core::cuda::lower::ALIGNMENT;
use sd_core::cuda::{Element, Program};

use super::super::config::OptimiserConfig;

/// How many variables, parameters and state together, are lent at once: each is a level of the call stack.
const TOGETHER: usize = 512;

/// A parameter that is about to do step `t`, its gradient (contiguous) and its state in the order of the rule.
pub(crate) struct Ready<'a> {
    pub(crate) theta: &'a Var,
    pub(crate) gradient: &'a Tensor,
    pub(crate) state: &'a [Var],
    pub(crate) t: u64,
}

/// What depends on the parameters' lengths alone: made when they first occur, and kept on the device.
#[derive(Debug)]
pub(crate) struct Prepared {
    lengths: Vec<usize>,
    program: Program,
    chunks: CudaStorage,
    table: CudaStorage,
}

impl Prepared {
    fn new(config: &OptimiserConfig, lengths: Vec<usize>, device: &CudaDevice) -> Result<Self> {
        let bytes = |numbers: Vec<[u8; 4]>| numbers.concat();
        let chunks = bytes(super::chunks(&lengths).into_iter().map(u32::to_le_bytes).collect());
        let table: Vec<u8> = super::lengths(&lengths).into_iter().flat_map(i64::to_le_bytes).collect();
        Ok(Self {
            program: super::step(config, &lengths)?,
            chunks: device::upload(device, Element::U32, &chunks)?,
            table: device::upload(device, Element::I64, &table)?,
            lengths,
        })
    }
}

/// One step of every parameter, all on the device of the first. `prepared` is kept from step to step.
pub(crate) fn step(
    config: &OptimiserConfig,
    ready: &[Ready<'_>],
    prepared: &mut Vec<Prepared>,
) -> Result<()> {
    let levels = 1 + config.rule.buffers().len();
    for (index, some) in ready.chunks(TOGETHER / levels).enumerate() {
        step_together(config, some, index, prepared)?;
    }
    Ok(())
}

fn step_together(
    config: &OptimiserConfig,
    ready: &[Ready<'_>],
    index: usize,
    prepared: &mut Vec<Prepared>,
) -> Result<()> {
    let Some(Device::Cuda(device)) = ready.first().map(|one| one.theta.device()) else {
        bail!("optimiser: a parameter is not on a CUDA device")
    };
    if let Some(other) = ready.iter().find(|one| !one.theta.device().same_device(ready[0].theta.device())) {
        bail!(
            "optimiser: parameters on two devices, one on {:?}; expected one device",
            other.theta.device().location()
        );
    }
    let lengths: Vec<usize> = ready.iter().map(|one| one.theta.elem_count()).collect();
    if prepared.get(index).is_none_or(|kept| kept.lengths != lengths) {
        prepared.truncate(index);
        prepared.push(Prepared::new(config, lengths, device)?);
    }
    let Some(kept) = prepared.get(index) else { bail!("optimiser: nothing was prepared") };
    let counts: Vec<u64> = ready.iter().map(|one| one.t).collect();
    let scalars: Vec<u8> = super::scalars(config, &counts).into_iter().flat_map(f32::to_le_bytes).collect();
    let scalars = device::upload(device, Element::F32, &scalars)?;
    let aligned = ready.iter().map(|one| aligned(one.gradient)).collect::<Result<Vec<_>>>()?;
    let gradients: Vec<_> = aligned.iter().map(|gradient| gradient.storage_and_layout()).collect();
    let mut given = vec![Given::Read(&kept.chunks, 0), Given::Read(&kept.table, 0), Given::Read(&scalars, 0)];
    for (storage, layout) in &gradients {
        match &**storage {
            Storage::Cuda(storage) => given.push(Given::Read(storage, layout.start_offset())),
            _ => bail!("optimiser: a gradient is not on the CUDA device of its parameter"),
        }
    }
    let buffers =
        (0..config.rule.buffers().len()).flat_map(|buffer| ready.iter().map(move |one| &one.state[buffer]));
    let updated: Vec<&Var> = ready.iter().map(|one| one.theta).chain(buffers).collect();
    descend(&updated, given, &mut |mut given| Ok(device::run(device, &kept.program, &mut given).map(drop)?))
}

/// The gradient from a start that kernels can read 16 bytes at a time from: a copy where it is a part of something larger.
fn aligned(gradient: &Tensor) -> Result<Tensor> {
    let start = (gradient.layout().start_offset() * Element::F32.bytes()) as u64;
    if start.is_multiple_of(ALIGNMENT) { Ok(gradient.clone()) } else { gradient.force_contiguous() }
}

/// What is lent so far, and what to do with all of it.
type Carried<'f, 's> = (Vec<Given<'s>>, Then<'f>);
type Then<'f> = &'f mut dyn FnMut(Vec<Given<'_>>) -> Result<()>;

fn descend(vars: &[&Var], lent: Vec<Given<'_>>, then: Then<'_>) -> Result<()> {
    match vars.split_first() {
        None => then(lent),
        Some((first, rest)) => first.inplace_op1(&Level { rest, carried: Cell::new(Some((lent, then))) }),
    }
}

struct Level<'v, 'f, 's> {
    rest: &'v [&'v Var],
    /// Taken once, by the one call that candle makes.
    carried: Cell<Option<Carried<'f, 's>>>,
}

impl InplaceOp1 for Level<'_, '_, '_> {
    fn name(&self) -> &'static str {
        "optimiser-step"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> Result<()> {
        bail!("optimiser: a parameter or its state is not on the CUDA device")
    }

    fn cuda_fwd(&self, storage: &mut CudaStorage, layout: &Layout) -> Result<()> {
        if !layout.is_contiguous() {
            bail!("optimiser: a parameter is not contiguous");
        }
        let Some((mut lent, then)) = self.carried.take() else { bail!("an in-place operation ran twice") };
        lent.push(Given::Update(storage, layout.start_offset()));
        descend(self.rest, lent, then)
    }
}
