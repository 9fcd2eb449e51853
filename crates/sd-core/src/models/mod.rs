//! Stable Diffusion's networks, with the names of diffusers and transformers.

pub mod clip;
