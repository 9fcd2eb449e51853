//! Layers made of [`crate::ops`], with parameters kept by name.

mod layers;
mod parameters;
#[cfg(test)]
mod tests;

pub use layers::{BatchNorm2d, Conv2d, GroupNorm, LayerNorm, Linear};
pub use parameters::{Parameters, Scope};
