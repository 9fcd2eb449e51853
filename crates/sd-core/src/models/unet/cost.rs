//! What a pass costs, counted before it is run.

use candle_core::Result;

use super::{Config, UNet2DConditionModel};
use crate::nn::Specification;

/// Multiply-accumulates that a core is taken to do a second, for estimates alone.
pub const MACS_PER_SECOND: f64 = 40e9;

/// Multiply-accumulates of one row of a pass of the UNet over latents of `height` × `width` with `tokens` of text: every convolution and
/// linear layer by its weight and the places that it is applied at, and both products of every attention.
///
/// # Errors
/// Where the configuration makes no network.
pub fn macs(config: &Config, [height, width]: [usize; 2], tokens: usize) -> Result<f64> {
    let specification = Specification::of(|scope| UNet2DConditionModel::new(scope, config))?;
    let places = Places { levels: config.levels.len(), height, width, tokens };
    let mut sum = 0f64;
    for (path, shape) in specification.parameters.iter().filter(|(path, _)| path.ends_with(".weight")) {
        if shape.len() < 2 {
            continue;
        }
        sum += shape.iter().product::<usize>() as f64 * places.of(path);
        if path.ends_with("attn1.to_q.weight") {
            sum += 2.0 * places.of(path).powi(2) * shape[0] as f64;
        }
        if path.ends_with("attn2.to_q.weight") {
            sum += 2.0 * places.of(path) * tokens as f64 * shape[0] as f64;
        }
    }
    Ok(sum)
}

/// At how many places a weight is applied.
struct Places {
    levels: usize,
    height: usize,
    width: usize,
    tokens: usize,
}

impl Places {
    fn area(&self, level: usize) -> f64 {
        // Halved with what is left over, as strided convolutions do.
        let side = |side: usize| (0..level).fold(side, |side, _| side.div_ceil(2));
        (side(self.height) * side(self.width)) as f64
    }

    fn of(&self, path: &str) -> f64 {
        if path.starts_with("time_embedding") || path.contains("time_emb_proj") {
            return 1.0;
        }
        if path.contains("attn2.to_k") || path.contains("attn2.to_v") {
            return self.tokens as f64;
        }
        let number =
            |prefix: &str| -> Option<usize> { path.strip_prefix(prefix)?.split('.').next()?.parse().ok() };
        let last = self.levels - 1;
        let level = match (number("down_blocks."), number("up_blocks.")) {
            (Some(block), _) => block + usize::from(path.contains("downsamplers")),
            (_, Some(block)) => last - block - usize::from(path.contains("upsamplers")),
            _ if path.starts_with("mid_block") => last,
            _ => 0,
        };
        self.area(level)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Stable Diffusion 1.4's network: 401.6 G a forward pass at 512 pixels, counted by hand from its published configuration.
    #[test]
    fn stable_diffusion_costs_what_was_counted() {
        let macs = macs(&crate::pipeline::tiny::Family::FullSize.unet(), [64, 64], 77).unwrap();
        assert!((macs / 401.6e9 - 1.0).abs() < 0.01, "{macs:e}");
    }
}
