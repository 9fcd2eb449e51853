//! The learning rate by step.

use std::f64::consts::PI;

/// A rise over `warmup` steps, then a fall until `steps`.
///
/// With k the step, counted from 0, W = `warmup`, T = `steps` and p = (k − W)/(T − W):
///
/// ```text
/// lr(k) = peak·(k + 1)/W                          for k < W
/// lr(k) = peak·(floor + (1 − floor)·f(p))         for W ≤ k,  f(p) = 1,  (1 + cos πp)/2,  1 − p
/// ```
///
/// The fall is that of `get_cosine_schedule_with_warmup` and `get_linear_schedule_with_warmup` of transformers and diffusers, with
/// a floor. Their rise begins at 0, which makes the first step none; this one begins one step later.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The highest learning rate.
    pub peak: f64,
    /// Steps until it is reached.
    pub warmup: u64,
    /// How it falls afterwards.
    pub decay: Decay,
    /// Steps in all.
    pub steps: u64,
    /// Share of `peak` at the end; of no effect where nothing falls.
    pub floor: f64,
}

/// How a learning rate falls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decay {
    /// Not at all.
    Constant,
    /// Half a period of a cosine.
    Cosine,
    /// A straight line.
    Linear,
}

impl Decay {
    /// f(p): 1 at p = 0, and 0 at p = 1 where it falls.
    fn at(self, progress: f64) -> f64 {
        match self {
            Self::Constant => 1.0,
            Self::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
            Self::Linear => 1.0 - progress,
        }
    }
}

impl Schedule {
    /// The learning rate of step `step`, counted from 0. After the last step it stays where it fell to.
    #[must_use]
    pub fn at(&self, step: u64) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        self.peak * (self.floor + (1.0 - self.floor) * self.decay.at(self.progress(step)))
    }

    /// p, at most 1.
    fn progress(&self, step: u64) -> f64 {
        let falling = self.steps.saturating_sub(self.warmup).max(1);
        ((step - self.warmup) as f64 / falling as f64).min(1.0)
    }
}
