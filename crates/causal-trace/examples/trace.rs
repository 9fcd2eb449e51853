//! Causal tracing of a caption on any Stable Diffusion in ten lines:
//! `cargo run --release -p causal-trace --example trace -- models/sd-v1-5 "a photo of a dog in the park" dog`.
#![allow(clippy::print_stdout)]

use candle_core::{DType, Device};
use causal_trace::{Caption, Sigma, Spec, trace};
use sd_core::pipeline::StableDiffusion;

fn main() -> anyhow::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [folder, caption, subject] = words.as_slice() else {
        anyhow::bail!("usage: trace FOLDER CAPTION SUBJECT")
    };
    let model = StableDiffusion::open(folder.as_ref(), DType::F32, &Device::Cpu)?;
    let mut spec = Spec::default();
    (spec.settings.steps, spec.corruption.sigma) = (10, Sigma::Absolute(0.1));
    let trace = trace(&model, &Caption::new(caption, subject), &spec)?;
    for (index, run) in trace.runs.iter().enumerate() {
        println!("{:.3} from the clean picture: {run}", trace.distance(index, 0)?.unwrap_or(0.0));
    }
    Ok(())
}
