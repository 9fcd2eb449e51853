//! Layers made of [`crate::ops`], with parameters kept by name.

pub(crate) mod checkpoint;
mod layers;
mod parameters;
mod scope;
#[cfg(test)]
mod tests;

pub use layers::{BatchNorm2d, Conv2d, Embedding, GroupNorm, LayerNorm, Linear};
pub use parameters::Parameters;
pub use scope::{Init, Scope, Source, Specification};
