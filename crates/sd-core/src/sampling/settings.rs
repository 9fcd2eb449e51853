//! Everything that determines a sampler but the number of steps.

use super::schedule::ScheduleSettings;
use super::spacing::Spacing;

/// What the model was trained to answer, given `x_t = √ᾱ·x₀ + √(1 − ᾱ)·ε`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prediction {
    /// ε, the noise (Ho, Jain and Abbeel 2020). Stable Diffusion 1.x and the 512-pixel models of 2.x.
    Epsilon,
    /// `v = √ᾱ·ε − √(1 − ᾱ)·x₀` (Salimans and Ho 2022). The 768-pixel models of Stable Diffusion 2.x.
    V,
    /// x₀, the clean sample.
    Sample,
}

/// The variance of DDPM's fresh noise (Ho, Jain and Abbeel 2020, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Variance {
    /// `(1 − ᾱ')/(1 − ᾱ)·β`, the posterior's, at least 1e-20.
    FixedSmall,
    /// β.
    FixedLarge,
}

/// σ after the last step of a sampler in σ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastSigma {
    /// 0: a sample without noise.
    Zero,
    /// That of timestep 0.
    SigmaMin,
}

/// How DPM-Solver++ of second order weighs the difference of two predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Solver {
    /// Half of `1 − e^{−h}` (Lu et al. 2022b, the default).
    Midpoint,
    /// `(e^{−h} − 1)/h + 1`.
    Heun,
}

/// DPM-Solver++ (Lu et al. 2022b).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dpm {
    /// 1 (which is DDIM) or 2 (2M).
    pub order: usize,
    /// How the second order is made.
    pub solver: Solver,
    /// Whether the last step is of first order where there are fewer than 15.
    pub lower_order_final: bool,
    /// Whether the last step is of first order.
    pub euler_at_final: bool,
    /// Whether σ follows Karras et al. 2022, equation 5 (ρ = 7).
    pub karras: bool,
    /// σ after the last step. With zero the last step is of first order.
    pub last: LastSigma,
    /// The least `λ = ln(√ᾱ/√(1 − ᾱ))` that is visited; −∞ for all.
    pub lambda_min: f64,
}

impl Default for Dpm {
    fn default() -> Self {
        Self {
            order: 2,
            solver: Solver::Midpoint,
            lower_order_final: true,
            euler_at_final: false,
            karras: false,
            last: LastSigma::Zero,
            lambda_min: f64::NEG_INFINITY,
        }
    }
}

/// The sampler and what only it has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Denoising diffusion implicit models (Song, Meng and Ermon 2021).
    Ddim {
        /// The largest magnitude that x₀ may have, where it is clipped. Never so for latents.
        clip: Option<f64>,
        /// Whether ᾱ after the last step is 1, or that of timestep 0.
        last_alpha_is_one: bool,
    },
    /// DDIM run from a sample to its noise.
    DdimInverse {
        /// As for [`Method::Ddim`].
        clip: Option<f64>,
        /// Whether ᾱ before the first step is 1, or that of timestep 0.
        first_alpha_is_one: bool,
    },
    /// Ancestral sampling (Ho, Jain and Abbeel 2020).
    Ddpm {
        /// As for [`Method::Ddim`].
        clip: Option<f64>,
        /// Variance of the fresh noise.
        variance: Variance,
    },
    /// Pseudo numerical methods (Liu et al. 2022): PLMS, after Runge and Kutta's steps where they are not skipped.
    Pndm {
        /// Whether PLMS starts at once, with its first timestep but one repeated. So in Stable Diffusion.
        skip_prk_steps: bool,
        /// As for [`Method::Ddim`].
        last_alpha_is_one: bool,
    },
    /// Euler's method in σ (Karras et al. 2022, algorithm 1 without churn).
    Euler {
        /// Whether σ follows Karras et al. 2022, equation 5 (ρ = 7).
        karras: bool,
        /// σ after the last step.
        last: LastSigma,
    },
    /// Euler's method to a lower σ, and fresh noise up to the next one.
    EulerAncestral,
    /// DPM-Solver++.
    Dpm(Dpm),
}

/// Everything that determines a sampler but the number of steps.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// β.
    pub schedule: ScheduleSettings,
    /// What the model answers.
    pub prediction: Prediction,
    /// Which timesteps are visited.
    pub spacing: Spacing,
    /// What is added to every timestep of [`Spacing::Leading`].
    pub steps_offset: usize,
    /// The sampler.
    pub method: Method,
}

impl Settings {
    /// Stable Diffusion 1.x's schedule, spacing and prediction with `method`.
    #[must_use]
    pub fn stable_diffusion(method: Method) -> Self {
        Self {
            schedule: ScheduleSettings::stable_diffusion(),
            prediction: Prediction::Epsilon,
            spacing: Spacing::Leading,
            steps_offset: 1,
            method,
        }
    }

    /// Deterministic DDIM as Stable Diffusion's configurations give it: not clipped, ending at ᾱ of timestep 0.
    #[must_use]
    pub fn stable_diffusion_ddim() -> Self {
        Self::stable_diffusion(Method::Ddim { clip: None, last_alpha_is_one: false })
    }
}
