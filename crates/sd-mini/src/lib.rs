//! The small Stable Diffusion that ships with the repository: its recipe, its training, its judges, its gates.
//!
//! It has Stable Diffusion 1.x's architecture at a thousandth of its size, and is trained from nothing on the world of
//! [`worlds::scenes`], where every attribute of every picture is known.

pub mod classifier;
pub mod clip;
pub mod cnn;
pub mod data;
pub mod digest;
pub mod judges;
pub mod landmarks;
pub mod losses;
pub mod networks;
pub mod recipe;
pub mod scores;
pub mod shipped;
pub mod stages;
pub mod subject;
pub mod tokenizer;
mod workshop;

pub use judges::Judges;
pub use recipe::Recipe;
pub use shipped::Shipped;
pub use workshop::{Interrupted, State, Taken, Workshop};
