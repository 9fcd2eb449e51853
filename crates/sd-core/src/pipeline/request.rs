//! What is asked of a pipeline, and what is wrong with it before anything is computed.

use candle_core::Tensor;

use super::PipelineError;
use crate::sampling::SamplerKind;

/// What diffusers asks of heights and widths, whatever the autoencoder's own factor.
const MULTIPLE: usize = 8;

/// Pictures that are asked for. The defaults are diffusers'.
#[derive(Clone, Debug)]
pub struct Request {
    /// What each picture shows: one prompt a row of the batch.
    pub prompts: Vec<String>,
    /// What no picture should show.
    pub negative: String,
    /// Pixels; `None` is what the model was trained on.
    pub height: Option<usize>,
    /// Pixels; `None` is what the model was trained on.
    pub width: Option<usize>,
    /// Steps of the sampler, at least 1.
    pub steps: usize,
    /// g in `uncond + g·(cond − uncond)`; at 1 or below the prompt's half alone is computed.
    pub guidance: f64,
    /// The sampler; `None` is the one of the model's `scheduler_config.json`.
    pub sampler: Option<SamplerKind>,
    /// η of DDIM, the share of fresh noise in each step.
    pub eta: f64,
    /// Seed of all noise: PyTorch's CPU generator after `manual_seed(seed)`.
    pub seed: u64,
    /// What an inpainting model fills in.
    pub inpaint: Option<Inpaint>,
}

/// A picture with a part to be filled in.
#[derive(Clone, Debug)]
pub struct Inpaint {
    /// (1, 3, H, W) or (B, 3, H, W) in [−1, 1], of the size that is asked for.
    pub picture: Tensor,
    /// (1, 1, H, W) or (B, 1, H, W): 0.5 and above where the picture is filled in.
    pub mask: Tensor,
}

impl Request {
    /// One picture of `prompt` with every other setting at its default: 50 steps, guidance 7.5, seed 0.
    #[must_use]
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            prompts: vec![prompt.into()],
            negative: String::new(),
            height: None,
            width: None,
            steps: 50,
            guidance: 7.5,
            sampler: None,
            eta: 0.0,
            seed: 0,
            inpaint: None,
        }
    }

    /// Whether the half without the prompt is computed as well.
    #[must_use]
    pub fn is_guided(&self) -> bool {
        self.guidance > 1.0
    }

    /// What can be known to be wrong without a model.
    pub(super) fn check(&self) -> Result<(), PipelineError> {
        let refuse = |setting, expected: &str, found: String| {
            Err(PipelineError::Setting { setting, expected: expected.to_owned(), found })
        };
        if self.prompts.is_empty() {
            return refuse("prompts", "at least one", "none".to_owned());
        }
        if self.steps == 0 {
            return refuse("steps", "at least 1", "0".to_owned());
        }
        if !self.guidance.is_finite() {
            return refuse("guidance", "a finite number", self.guidance.to_string());
        }
        if !(0.0..=1.0).contains(&self.eta) {
            return refuse("eta", "a number from 0 to 1", self.eta.to_string());
        }
        Ok(())
    }
}

/// (height, width) as asked for, or `native`, where both are multiples of 8 and of the autoencoder's `factor`.
pub(super) fn size(
    request: &Request,
    native: [usize; 2],
    factor: usize,
) -> Result<[usize; 2], PipelineError> {
    let multiple = if factor.is_multiple_of(MULTIPLE) { factor } else { MULTIPLE };
    let asked =
        [("height", request.height.unwrap_or(native[0])), ("width", request.width.unwrap_or(native[1]))];
    for (side, found) in asked {
        if found == 0 || !found.is_multiple_of(multiple) {
            let below = found / multiple * multiple;
            return Err(PipelineError::Size { side, found, multiple, nearest: nearest(below, multiple) });
        }
    }
    Ok(asked.map(|(_, pixels)| pixels))
}

fn nearest(below: usize, multiple: usize) -> String {
    match below {
        0 => multiple.to_string(),
        below => format!("{below} and {}", below + multiple),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn sizes_are_the_models_own_or_multiples_of_eight() {
        let mut request = Request::new("");
        assert_eq!(size(&request, [512, 768], 8).unwrap(), [512, 768]);
        request.height = Some(72);
        assert_eq!(size(&request, [512, 768], 8).unwrap(), [72, 768]);
        request.width = Some(100);
        let said = size(&request, [512, 768], 2).unwrap_err().to_string();
        assert!(said.contains("width") && said.contains("100") && said.contains("96 and 104"), "{said}");
        (request.height, request.width) = (None, Some(3));
        let said = size(&request, [512, 768], 16).unwrap_err().to_string();
        assert!(said.contains("multiple of 16") && said.ends_with("are 16"), "{said}");
    }

    #[test]
    fn what_no_model_could_do_is_refused_by_name() {
        let refused = |change: fn(&mut Request)| {
            let mut request = Request::new("");
            change(&mut request);
            request.check().unwrap_err().to_string()
        };
        assert!(Request::new("").check().is_ok());
        assert!(refused(|request| request.steps = 0).contains("steps: expected at least 1, found 0"));
        assert!(refused(|request| request.prompts.clear()).contains("prompts"));
        assert!(refused(|request| request.guidance = f64::NAN).contains("guidance"));
        assert!(refused(|request| request.eta = 2.0).contains("eta: expected a number from 0 to 1, found 2"));
    }
}
