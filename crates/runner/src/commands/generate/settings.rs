//! What a picture was made from, as it is kept in its file.

use std::collections::BTreeMap;

use anyhow::Result;
use sd_core::pipeline::{Request, StableDiffusion};
use sd_core::sampling::SamplerKind;
use serde_json::{Value, json};

use crate::commands::machine;
use crate::commands::model::Model;

/// The sampler as the engine knows it.
pub(crate) fn kind(typed: cli::Sampler) -> SamplerKind {
    match typed {
        cli::Sampler::Ddim => SamplerKind::Ddim,
        cli::Sampler::Ddpm => SamplerKind::Ddpm,
        cli::Sampler::Pndm => SamplerKind::Pndm,
        cli::Sampler::Euler => SamplerKind::Euler,
        cli::Sampler::EulerAncestral => SamplerKind::EulerAncestral,
        cli::Sampler::Dpm => SamplerKind::DpmSolver,
    }
}

/// The settings that all pictures of a batch share.
pub(super) struct Settings(Value);

impl Settings {
    pub(super) fn new(
        model: &Model,
        pipeline: &StableDiffusion,
        request: &Request,
        weights: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let [height, width] = pipeline.size(request)?;
        let sampler = request.sampler.unwrap_or(pipeline.scheduler.kind());
        Ok(Self(json!({
            "prompt": request.prompts.first(),
            "negative": request.negative,
            "model": model.label,
            "revision": model.revision,
            "weights": weights,
            "seed": request.seed,
            "batch": request.prompts.len(),
            "sampler": sampler.name(),
            "steps": request.steps,
            "eta": request.eta,
            "guidance": request.guidance,
            "width": width,
            "height": height,
            "inpainting": request.inpaint.is_some(),
            "dtype": pipeline.dtype.as_str(),
            "device": machine::name(&pipeline.device),
            "difflab": env!("CARGO_PKG_VERSION"),
        })))
    }

    /// Those of picture `index` of the batch, counted from 0.
    pub(super) fn of_picture(&self, index: usize) -> Value {
        let mut all = self.0.clone();
        all["picture"] = json!(index + 1);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::ValueEnum as _;

    #[test]
    fn a_sampler_is_called_the_same_on_the_command_line_and_in_the_engine() {
        for typed in cli::Sampler::value_variants() {
            assert_eq!(typed.name(), kind(*typed).name());
        }
    }
}
