//! What a pass costs: the plan of a trace before it is run.

use anyhow::Result;
use sd_core::models::unet::{self, UNet2DConditionModel};
use sd_core::nn::Specification;

/// Multiply-accumulates that a core is taken to do a second, for estimates alone.
pub const MACS_PER_SECOND: f64 = 40e9;

/// Multiply-accumulates of one row of a pass of the UNet over latents of `height` × `width` with `tokens` of text: every convolution and
/// linear layer by its weight and the places that it is applied at, and both products of every attention.
///
/// # Errors
/// Where the configuration makes no network.
pub fn macs(config: &unet::Config, [height, width]: [usize; 2], tokens: usize) -> Result<f64> {
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

    /// Section 4 of the specification: 401.6 G a forward pass at 512 pixels.
    #[test]
    fn stable_diffusion_costs_what_was_counted() {
        let level = |attends, channels| unet::Level {
            attends,
            channels,
            heads: 8,
            context: 768,
            layers: 2,
            transformer_layers: 1,
        };
        let config = unet::Config {
            sample_size: Some(64),
            in_channels: 4,
            out_channels: 4,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            levels: vec![level(true, 320), level(true, 640), level(true, 1280), level(false, 1280)],
            up_attends: vec![false, true, true, true],
            downsample_padding: 1,
            norm_num_groups: 32,
            norm_eps: 1e-5,
            use_linear_projection: false,
            upcast_attention: false,
        };
        let macs = macs(&config, [64, 64], 77).unwrap();
        assert!((macs / 401.6e9 - 1.0).abs() < 0.01, "{macs:e}");
    }
}
