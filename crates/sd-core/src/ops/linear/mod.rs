//! A linear layer with bias and activation.

pub mod cuda;
