//! difflab's engine: tensors in, tensors out.
//!
//! candle's `Tensor` is the currency. What candle differentiates wrongly, not at all or slowly is done here instead, as
//! `CustomOp`s with a tested backward. The engine knows no paper, no YAML and no experiment.

pub mod cuda;
pub mod models;
pub mod nn;
pub mod ops;
pub mod pipeline;
pub mod rng;
pub mod sampling;
pub mod taps;
pub mod train;
pub mod weights;
