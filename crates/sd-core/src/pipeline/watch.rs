//! Looking on while pictures are made: progress, taps, and stopping between steps.

use std::ops::ControlFlow;

use candle_core::Tensor;

use crate::taps::Tap;

/// A step that was just taken.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// Which, from 0.
    pub index: usize,
    /// How many there are. PNDM takes one more than was asked for.
    pub count: usize,
    /// The timestep that the model was asked about.
    pub timestep: f64,
    /// (B, C, h, w): the latents after the step.
    pub latents: &'a Tensor,
}

/// Something that looks on, and may look in. What it does not implement does nothing.
pub trait Watch {
    /// The tap of the UNet's pass in step `index`. With guidance the pass has twice the batch's rows: first those without the
    /// prompt, then those with it.
    fn tap(&mut self, index: usize) -> Option<&mut dyn Tap> {
        let _ = index;
        None
    }

    /// Called after each step; `Break` ends the work with [`super::PipelineError::Stopped`].
    fn step(&mut self, step: &Step<'_>) -> ControlFlow<()> {
        let _ = step;
        ControlFlow::Continue(())
    }
}

/// Looks on at nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {}
