//! Layers made of [`crate::ops`], with parameters kept by name.

mod layers;
mod parameters;

pub use layers::{BatchNorm2d, Conv2d, Linear};
pub use parameters::{Parameters, Scope};
