//! A case's program on the device: its buffers, and its outputs held against what is expected.

use anyhow::{Context as _, Result, bail};
use candle_core::{CudaDevice, CudaStorage};
use kernel_host::Data;
use kernel_host::cases::Job;
use sd_core::cuda::device::{self, Given};
use sd_core::cuda::{Element, Program, Role};

/// A program with all its buffers on the device.
pub(super) struct Prepared {
    device: CudaDevice,
    given: Vec<(Role, CudaStorage)>,
    made: Vec<(usize, CudaStorage)>,
}

impl Prepared {
    pub(super) fn new(device: &CudaDevice, job: &Job) -> Result<Self> {
        let roles = job.program.buffers.iter().map(|spec| spec.role);
        let roles = roles.filter(|role| matches!(role, Role::Input | Role::InOut));
        let upload =
            |(role, data): (Role, &Data)| Ok((role, device::upload(device, data.element(), data.bytes())?));
        let given = roles.zip(&job.inputs).map(upload).collect::<Result<_>>()?;
        let mut made = device::make(device, &job.program)?;
        // What a program reads before it writes it, or never writes, shall be seen.
        made.iter_mut().try_for_each(|(_, storage)| device::poison(storage))?;
        Ok(Self { device: device.clone(), given, made })
    }

    /// Issues the program once.
    pub(super) fn go(&mut self, program: &Program) -> Result<()> {
        let mut given: Vec<Given<'_>> = self
            .given
            .iter_mut()
            .map(|(role, storage)| match role {
                Role::InOut => Given::Update(storage, 0),
                _ => Given::Read(storage, 0),
            })
            .collect();
        Ok(device::carry_out(&self.device, program, &mut given, &mut self.made)?)
    }

    /// Runs the program and returns the largest error as a share of what is allowed.
    pub(super) fn check(&mut self, job: &Job) -> Result<f64> {
        self.go(&job.program)?;
        let results = self.results(&job.program)?;
        if results.len() != job.expected.len() {
            bail!("{} results, {} expected", results.len(), job.expected.len());
        }
        let shares = results.iter().zip(&job.expected).map(|(data, expected)| {
            expected.check(&data.to_f64()).map_err(|mismatch| anyhow::anyhow!("{mismatch}"))
        });
        shares.collect::<Result<Vec<f64>>>().map(|shares| shares.into_iter().fold(0.0, f64::max))
    }

    /// Updated buffers and outputs in the program's order.
    fn results(&self, program: &Program) -> Result<Vec<Data>> {
        let (mut given, mut made) = (self.given.iter(), self.made.iter());
        let mut results = Vec::new();
        for spec in &program.buffers {
            let storage = match spec.role {
                Role::Input | Role::InOut => given.next().map(|(_, storage)| storage),
                Role::Output | Role::Scratch => made.next().map(|(_, storage)| storage),
            };
            if matches!(spec.role, Role::InOut | Role::Output) {
                results.push(fetch(storage.context("a buffer is missing")?, spec.element, spec.len)?);
            }
        }
        Ok(results)
    }
}

/// The first `len` elements: a buffer of no size has one that means nothing.
fn fetch(storage: &CudaStorage, element: Element, len: usize) -> Result<Data> {
    let mut bytes = device::download(storage)?;
    bytes.truncate(len * element.bytes());
    Data::from_bytes(element, bytes).context("half an element came back")
}
