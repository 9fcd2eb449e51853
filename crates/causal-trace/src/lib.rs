//! Causal tracing of text-to-image diffusion models: Basu, Zhao, Morariu, Feizi, Manjunatha, "Localizing and Editing Knowledge in
//! Text-to-Image Generative Models", ICLR 2024.
//!
//! ```no_run
//! use candle_core::{DType, Device};
//! use causal_trace::{Caption, Sigma, Spec, trace};
//! use sd_core::pipeline::StableDiffusion;
//!
//! # fn main() -> anyhow::Result<()> {
//! let model = StableDiffusion::open("models/sd-v1-5".as_ref(), DType::F32, &Device::Cpu)?;
//! let mut spec = Spec::default();
//! spec.corruption.sigma = Sigma::Absolute(0.1);
//! let trace = trace(&model, &Caption::new("a photo of a dog in the park", "dog"), &spec)?;
//! for (index, run) in trace.runs.iter().enumerate() {
//!     println!("{run}: {:?} from the clean picture", trace.distance(index, 0)?);
//! }
//! # Ok(())
//! # }
//! ```

pub mod caption;
pub mod components;
pub mod corruption;
mod effects;
pub mod experiment;
pub mod lockstep;
pub mod looped;
mod network;
mod paper;
pub mod probes;
mod run;
mod sets;
mod show;
pub mod text;
pub mod trace;

pub use caption::Caption;
pub use components::{Component, Part, Reading, TextPart, TextState};
pub use corruption::{Corruption, Mode, Sigma};
pub use lockstep::{Half, Settings};
pub use paper::CAUSAL_TRACE;
pub use sd_mini::scores as judge;
pub use trace::{Control, Spec, Targets, Trace, What, trace};
