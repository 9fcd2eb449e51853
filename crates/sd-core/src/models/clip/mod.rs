//! CLIP: the text encoders of Stable Diffusion 1.x and 2.x, the image encoder, both together, and what stands in front of them.
//!
//! [`Tokenizer`] turns a prompt into ids, [`TextModel`] these into the vectors that the UNet attends to; [`Preprocessor`] turns a picture
//! into pixels, [`VisionModel`] these into a vector; [`Clip`] compares the two (CLIP-Score). Weights carry the names of transformers'
//! state dicts as they are on disk: `text_model.encoder.layers.0.self_attn.q_proj.weight`. Buffers of position ids, which older
//! files hold, are no weights.
//!
//! A forward pass offers its [`crate::taps::Tap`] the embeddings; of every layer queries, keys, values, map, output and stream of
//! `self_attn`, the output of `mlp`, and the layer's own; then the final norm and the projection.

mod clip_model;
mod config;
mod encoder;
mod pillow;
mod preprocess;
#[cfg(test)]
mod tests;
mod text;
pub mod tokenizer;
mod vision;

pub use clip_model::{Clip, Compared};
pub use config::{ClipConfig, TextConfig, VisionConfig};
pub use preprocess::{PREPROCESSOR_CLASSES, Preprocessor};
pub use text::{TextModel, TextOutput};
pub use tokenizer::Tokenizer;
pub use vision::{VisionModel, VisionOutput};
