//! CLIP: the tokenizer, the text encoders of Stable Diffusion 1.x and 2.x, the image encoder.

pub mod tokenizer;
