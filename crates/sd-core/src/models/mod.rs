//! The networks of Stable Diffusion 1.x and 2.x, with the names of diffusers and transformers for every weight and activation.
//!
//! A model is made by `Model::new(scope, &config)`, where the scope decides whether its tensors are fresh, read from a file, or
//! nowhere ([`crate::nn::Specification`]), and run by a `forward` whose last argument is a [`crate::taps::Tap`].

mod attention;
pub mod clip;
pub mod config;
mod resnet;
mod sited;
#[cfg(test)]
pub(crate) mod testing;
pub mod unet;
pub mod vae;
