//! How much of a picture is left at each timestep: β, ᾱ and σ.
//!
//! A diffusion process mixes a picture with noise, `x_t = √ᾱ_t·x₀ + √(1 − ᾱ_t)·ε`, `ᾱ_t = ∏_{s≤t} (1 − β_s)` (Ho, Jain and Abbeel
//! 2020, equation 4), t = 0 … T − 1 with T = 1000 for Stable Diffusion. Samplers in the notation of Karras et al. (2022) use
//! `σ_t = √((1 − ᾱ_t)/ᾱ_t)`, the deviation of the noise in `x_t/√ᾱ_t`.
//!
//! Tables in [`Precision::Single`] are those of PyTorch on a processor with AVX2, bit for bit: `linspace` counts from its nearer end
//! with one fused multiplication and addition, `cumprod` accumulates in double and stores float32.

use std::f64::consts::FRAC_PI_2;

use candle_core::{Result, Tensor, bail};

use super::ddim::mixture;
use super::error::SamplingError;
use super::scalar::{Precision, Scalar};
use super::tensor::{add, scale_rows, sub};

/// The largest β of the cosine schedule.
const LARGEST_COSINE_BETA: f64 = 0.999;
/// ᾱ that samplers in σ put in the place of 0, whose σ is infinite: float16's smallest positive number.
const SMALLEST_ALPHA: f64 = 1.0 / (1 << 24) as f64;

/// How β grows with t.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beta {
    /// `β_t = (√b₀ + t/(T − 1)·(√b₁ − √b₀))²`: that of latent diffusion (Rombach et al. 2022) and so of Stable Diffusion.
    ScaledLinear,
    /// `β_t = b₀ + t/(T − 1)·(b₁ − b₀)` (Ho, Jain and Abbeel 2020).
    Linear,
    /// `β_t = min(1 − f((t + 1)/T)/f(t/T), 0.999)` with `f(s) = cos²(π/2·(s + 0.008)/1.008)` (Nichol and Dhariwal 2021); b₀ and
    /// b₁ are not used.
    Cosine,
}

/// What determines a [`Schedule`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScheduleSettings {
    /// How β grows.
    pub beta: Beta,
    /// T, the number of timesteps in training.
    pub train_steps: usize,
    /// b₀, the first β.
    pub beta_start: f64,
    /// b₁, the last β.
    pub beta_end: f64,
    /// Whether √ᾱ is shifted and stretched so that the last ᾱ is 0 (Lin et al. 2024, algorithm 1).
    pub zero_terminal_snr: bool,
}

impl ScheduleSettings {
    /// That of every published Stable Diffusion 1.x and 2.x: scaled linear from 0.00085 to 0.012 in 1000 steps.
    #[must_use]
    pub fn stable_diffusion() -> Self {
        Self {
            beta: Beta::ScaledLinear,
            train_steps: 1000,
            beta_start: 0.00085,
            beta_end: 0.012,
            zero_terminal_snr: false,
        }
    }

    fn check(&self) -> std::result::Result<(), SamplingError> {
        let share = |beta: f64| beta > 0.0 && beta < 1.0;
        if self.train_steps < 2 {
            return Err(SamplingError::TrainSteps(self.train_steps));
        }
        if self.beta != Beta::Cosine && !(share(self.beta_start) && share(self.beta_end)) {
            return Err(SamplingError::Betas { start: self.beta_start, end: self.beta_end });
        }
        Ok(())
    }
}

/// β and ᾱ of every timestep.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    precision: Precision,
    betas: Vec<f64>,
    alphas_cumprod: Vec<f64>,
}

impl Schedule {
    /// The tables of `settings` in `precision`.
    ///
    /// # Errors
    /// Fewer than 2 timesteps, or a β outside (0, 1).
    pub fn new(
        settings: &ScheduleSettings,
        precision: Precision,
    ) -> std::result::Result<Self, SamplingError> {
        settings.check()?;
        let ScheduleSettings { beta, train_steps, beta_start, beta_end, .. } = *settings;
        let mut betas = match beta {
            Beta::Linear => linspace(beta_start, beta_end, train_steps, precision),
            Beta::ScaledLinear => {
                let roots = linspace(beta_start.sqrt(), beta_end.sqrt(), train_steps, precision);
                roots.iter().map(|&root| precision.round(root * root)).collect()
            }
            Beta::Cosine => cosine(train_steps, precision),
        };
        if settings.zero_terminal_snr {
            betas = without_signal_at_the_end(&betas, precision);
        }
        let alphas_cumprod = cumulative_product(&betas, precision);
        Ok(Self { precision, betas, alphas_cumprod })
    }

    /// In which arithmetic the tables are.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// T.
    #[must_use]
    pub fn train_steps(&self) -> usize {
        self.betas.len()
    }

    /// β of every timestep.
    #[must_use]
    pub fn betas(&self) -> &[f64] {
        &self.betas
    }

    /// ᾱ of every timestep.
    #[must_use]
    pub fn alphas_cumprod(&self) -> &[f64] {
        &self.alphas_cumprod
    }

    /// ᾱ_t.
    pub(super) fn alpha(&self, t: usize) -> Scalar {
        self.precision.scalar(self.alphas_cumprod[t])
    }

    /// The same with a last ᾱ of 0 raised to 2⁻²⁴, for samplers that divide by it.
    pub(super) fn with_finite_sigma(mut self) -> Self {
        if let Some(last) = self.alphas_cumprod.last_mut()
            && *last == 0.0
        {
            *last = SMALLEST_ALPHA;
        }
        self
    }

    /// σ of every timestep, growing.
    pub(super) fn sigmas(&self) -> Vec<f64> {
        let sigma = |t| (self.alpha(t).rest() / self.alpha(t)).sqrt().value();
        (0..self.train_steps()).map(sigma).collect()
    }

    /// `√ᾱ_t·x₀ + √(1 − ᾱ_t)·ε`: row b of the batch `x0` brought to the level of noise of `timesteps[b]` with the standard-normal
    /// `noise`. What a model is trained on.
    ///
    /// # Errors
    /// Where there is not one timestep a row, a timestep is not below T, or shapes, dtypes or devices differ.
    pub fn add_noise(&self, x0: &Tensor, noise: &Tensor, timesteps: &[usize]) -> Result<Tensor> {
        let (signal, deviation) = self.levels(x0, timesteps)?;
        add(&scale_rows(x0, &signal)?, &scale_rows(noise, &deviation)?)
    }

    /// `v = √ᾱ_t·ε − √(1 − ᾱ_t)·x₀`, what a model of v-prediction is trained to answer (Salimans and Ho 2022).
    ///
    /// # Errors
    /// As [`Schedule::add_noise`].
    pub fn velocity(&self, x0: &Tensor, noise: &Tensor, timesteps: &[usize]) -> Result<Tensor> {
        let (signal, deviation) = self.levels(x0, timesteps)?;
        sub(&scale_rows(noise, &signal)?, &scale_rows(x0, &deviation)?)
    }

    /// √ᾱ and √(1 − ᾱ) of every row.
    fn levels(&self, x0: &Tensor, timesteps: &[usize]) -> Result<(Vec<Scalar>, Vec<Scalar>)> {
        let rows = x0.dims().first().copied().unwrap_or(0);
        if timesteps.len() != rows {
            bail!("{} timesteps for {rows} rows; give one a row", timesteps.len());
        }
        if let Some(t) = timesteps.iter().find(|&&t| t >= self.train_steps()) {
            bail!("timestep {t} is not below the schedule's {}", self.train_steps());
        }
        let precision = self.precision.max(Precision::of(x0.dtype()));
        Ok(timesteps.iter().map(|&t| mixture(self.alpha(t).within(precision))).unzip())
    }
}

/// `torch.linspace`: each half counts from its own end.
fn linspace(start: f64, end: f64, count: usize, precision: Precision) -> Vec<f64> {
    let (start, end) = (precision.scalar(start), precision.scalar(end));
    let step = ((end - start) / (count - 1) as f64).value();
    let at = |index: usize| {
        if index < count / 2 {
            precision.fused(step, index as f64, start.value())
        } else {
            precision.fused(-step, (count - 1 - index) as f64, end.value())
        }
    };
    (0..count).map(at).collect()
}

fn cosine(count: usize, precision: Precision) -> Vec<f64> {
    let left = |share: f64| ((share + 0.008) / 1.008 * FRAC_PI_2).cos().powi(2);
    let at = |index: usize| left(index as f64 / count as f64);
    let beta = |index| (1.0 - at(index + 1) / at(index)).min(LARGEST_COSINE_BETA);
    (0..count).map(|index| precision.round(beta(index))).collect()
}

/// ∏ (1 − β), accumulated in double, stored in `precision`.
fn cumulative_product(betas: &[f64], precision: Precision) -> Vec<f64> {
    let factors = betas.iter().map(|&beta| precision.scalar(beta).rest().value());
    let products = factors.scan(1.0, |product, factor| {
        *product *= factor;
        Some(precision.round(*product))
    });
    products.collect()
}

/// Lin et al. 2024, algorithm 1: √ᾱ shifted so that it ends at 0, stretched so that it begins where it did.
fn without_signal_at_the_end(betas: &[f64], precision: Precision) -> Vec<f64> {
    let roots: Vec<Scalar> =
        cumulative_product(betas, precision).iter().map(|&alpha| precision.scalar(alpha).sqrt()).collect();
    let (first, last) = (roots[0], roots[roots.len() - 1]);
    let stretch = first / (first - last);
    let alphas: Vec<Scalar> = roots.iter().map(|&root| ((root - last) * stretch).square()).collect();
    let ratios = alphas.windows(2).map(|pair| pair[1] / pair[0]);
    std::iter::once(alphas[0]).chain(ratios).map(|alpha| alpha.rest().value()).collect()
}
