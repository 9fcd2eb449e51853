//! One step of a DDIM sampler with classifier-free guidance, in one pass over the latents (Ho and Salimans 2022; Song, Meng and
//! Ermon 2021, equation 12).
//!
//! `ε = ε_u + g·(ε_c − ε_u)`, `x₀ = (x − √(1 − ᾱ)·ε)/√ᾱ`, `x' = √ᾱ'·x₀ + √(1 − ᾱ' − σ²)·ε + σ·z` with
//! `σ = η·√((1 − ᾱ')/(1 − ᾱ))·√(1 − ᾱ/ᾱ')`. That is `x' = keep·x + turn·ε + σ·z` with `keep = √(ᾱ'/ᾱ)` and
//! `turn = √(1 − ᾱ' − σ²) − keep·√(1 − ᾱ)`.

mod cpu;
pub mod cuda;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor, bail};

use super::{Operand, Real, check_operands, elements, with_elements, with_real};

/// The numbers of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DdimStep {
    /// g, how far the conditional prediction is followed: 1 is the conditional prediction itself.
    pub guidance: f64,
    /// ᾱ, the share of signal in the variance of x, in (0, 1].
    pub alpha: f64,
    /// ᾱ', that after the step.
    pub alpha_next: f64,
    /// η, the share of fresh noise: 0 is the deterministic sampler, 1 the ancestral one.
    pub eta: f64,
}

impl DdimStep {
    /// σ, the deviation of the fresh noise.
    #[must_use]
    pub fn sigma(&self) -> f64 {
        if self.eta == 0.0 || self.alpha >= 1.0 {
            return 0.0;
        }
        let share = (1.0 - self.alpha_next) / (1.0 - self.alpha);
        self.eta * (share * (1.0 - self.alpha / self.alpha_next)).max(0.0).sqrt()
    }

    /// `keep`, `turn` and σ.
    pub(crate) fn numbers(&self) -> [f64; 3] {
        let keep = (self.alpha_next / self.alpha).sqrt();
        let sigma = self.sigma();
        let direction = (1.0 - self.alpha_next - sigma * sigma).max(0.0).sqrt();
        [keep, direction - keep * (1.0 - self.alpha).sqrt(), sigma]
    }

    fn check(&self) -> Result<()> {
        let share = |x: f64| x > 0.0 && x <= 1.0;
        let eta = (0.0..=1.0).contains(&self.eta);
        if !(share(self.alpha) && share(self.alpha_next) && eta && self.guidance.is_finite()) {
            bail!(
                "guided_ddim_step: {self:?}; expected alphas in (0, 1], eta in [0, 1] and a finite guidance"
            );
        }
        Ok(())
    }
}

/// x' of `x`, the predictions `uncond` and `cond` of the noise without and with the prompt, and, where η > 0, fresh standard-normal
/// `noise`: all of one shape. The gradients of `x` and both predictions are exact; the noise is a constant.
///
/// # Errors
/// Where shapes, dtypes or devices do not fit, a tensor is empty, a number is out of range, or noise is given for η = 0 or absent
/// for η > 0.
pub fn guided_ddim_step(
    x: &Tensor,
    uncond: &Tensor,
    cond: &Tensor,
    step: &DdimStep,
    noise: Option<&Tensor>,
) -> Result<Tensor> {
    let mut operands = vec![("x", x), ("uncond", uncond), ("cond", cond)];
    operands.extend(noise.map(|noise| ("noise", noise)));
    check_operands("guided_ddim_step", &operands)?;
    step.check()?;
    if let Some((name, other)) = operands.iter().find(|(_, tensor)| tensor.dims() != x.dims()) {
        bail!("guided_ddim_step: {name} {:?} is not of the shape of x {:?}", other.dims(), x.dims());
    }
    if noise.is_some() != (step.eta > 0.0) {
        let found = if noise.is_some() { "noise" } else { "no noise" };
        bail!("guided_ddim_step: {found} for eta {}; expected noise where eta is above 0", step.eta);
    }
    let noise = noise.map(Tensor::detach);
    x.apply_op3(uncond, cond, GuidedStep { step: *step, noise })
}

/// (x, ε_u, ε_c) → x'.
pub(crate) struct GuidedStep {
    pub(crate) step: DdimStep,
    pub(crate) noise: Option<Tensor>,
}

impl GuidedStep {
    fn forward<T: Real>(&self, operands: [Operand<'_>; 3]) -> Result<CpuStorage> {
        let [x, uncond, cond] = operands;
        let [x, uncond, cond] = [elements::<T>(x)?, elements(uncond)?, elements(cond)?];
        let latents = [&*x, &*uncond, &*cond];
        let next = match &self.noise {
            None => cpu::step(latents, None, &self.step),
            Some(noise) => with_elements(noise, |noise: &[T]| cpu::step(latents, Some(noise), &self.step))?,
        };
        Ok(T::to_cpu_storage_owned(next))
    }
}

impl CustomOp3 for GuidedStep {
    fn name(&self) -> &'static str {
        "guided_ddim_step"
    }

    crate::cuda::cuda_fwd!(3, cuda::device::forward);

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        lx: &Layout,
        uncond: &CpuStorage,
        lu: &Layout,
        cond: &CpuStorage,
        lc: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let operands = [(x, lx), (uncond, lu), (cond, lc)];
        let next = with_real!("guided_ddim_step", x.dtype(), T => self.forward::<T>(operands)?);
        Ok((next, lx.shape().clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        uncond: &Tensor,
        cond: &Tensor,
        _next: &Tensor,
        gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let [keep, turn, _] = self.step.numbers();
        let scaled = |of: &Tensor, factor: f64| of.track_op().then(|| gradient * factor).transpose();
        let guidance = self.step.guidance;
        Ok((scaled(x, keep)?, scaled(uncond, turn * (1.0 - guidance))?, scaled(cond, turn * guidance)?))
    }
}

#[cfg(test)]
mod tests;
