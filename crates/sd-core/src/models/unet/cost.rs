//! What a pass costs, counted before it is run.

use candle_core::{Result, bail};

use super::{Config, UNet2DConditionModel};
use crate::nn::Specification;
use crate::taps::{Kind, Site};

/// Multiply-accumulates that a core is taken to do a second where a row of a pass has `row` of them, for estimates alone. Measured: sd-mini, whose
/// tensors are small, 22·10⁹ with AVX2 and, beside other work, about 27·10⁹ with AVX-512; Stable Diffusion 1.x 80·10⁹ with AVX-512.
#[must_use]
pub fn macs_per_second(row: f64) -> f64 {
    const SMALL: f64 = 1e9;
    if row < SMALL { 25e9 } else { 40e9 }
}

/// Multiply-accumulates of one row of a pass of the UNet over latents of `height` × `width` with `tokens` of text: every convolution and
/// linear layer by its weight and the places that it is applied at, and both products of every attention.
///
/// # Errors
/// Where the configuration makes no network.
pub fn macs(config: &Config, size: [usize; 2], tokens: usize) -> Result<f64> {
    let specification = Specification::of(|scope| UNet2DConditionModel::new(scope, config))?;
    Ok(of_weights(&specification, config, size, tokens).map(|(_, macs)| macs).sum())
}

/// The share of a pass's [`macs`] that is done behind each site, in the order of a pass: of the weights whose module, or the innermost module
/// with a site around it, gives its own site later.
///
/// # Errors
/// As [`macs`].
pub fn behind(config: &Config, size: [usize; 2], tokens: usize) -> Result<Vec<(Site, f64)>> {
    let specification = Specification::of(|scope| UNet2DConditionModel::new(scope, config))?;
    let sites = &specification.sites;
    let holds = |site: &Site, weight: &str| {
        weight.strip_prefix(site.path()).is_some_and(|rest| rest.starts_with('.'))
    };
    let mut at = vec![0f64; sites.len()];
    for (weight, macs) in of_weights(&specification, config, size, tokens) {
        // Of the sites of the innermost module (queries, keys, its output) the last but for the stream behind it; of a residual block, whose
        // stream comes behind all of its weights, that of its last convolution.
        let holding = (0..sites.len())
            .filter(|&index| sites[index].kind() != Kind::After && holds(&sites[index], weight));
        let innermost = holding.max_by_key(|&index| (sites[index].path().len(), index));
        let inner = innermost.map(|index| Site::new(format!("{}.conv2", sites[index].path()), Kind::Branch));
        let branch = inner.and_then(|inner| sites.iter().position(|site| *site == inner));
        let is_shortcut = weight.ends_with("conv_shortcut.weight");
        let Some(last) = branch.filter(|_| !is_shortcut).or(innermost) else {
            bail!("{weight}: no site around it");
        };
        at[last] += macs;
    }
    let all: f64 = at.iter().sum();
    let mut left = all;
    let behind = at.iter().map(|macs| {
        left -= macs;
        left.max(0.0) / all
    });
    Ok(sites.iter().cloned().zip(behind.collect::<Vec<f64>>()).collect())
}

/// Multiply-accumulates of one row by each weight of a convolution or linear layer; those of an attention's products stand with its queries.
fn of_weights<'a>(
    specification: &'a Specification,
    config: &Config,
    [height, width]: [usize; 2],
    tokens: usize,
) -> impl Iterator<Item = (&'a str, f64)> {
    let places = Places { levels: config.levels.len(), height, width, tokens };
    let weights = specification.parameters.iter();
    weights.filter(|(path, shape)| path.ends_with(".weight") && shape.len() >= 2).map(move |(path, shape)| {
        let places_of = places.of(path);
        let seen = match path {
            path if path.ends_with("attn1.to_q.weight") => places_of,
            path if path.ends_with("attn2.to_q.weight") => tokens as f64,
            _ => 0.0,
        };
        let product = shape.iter().product::<usize>() as f64 * places_of;
        (path.as_str(), product + 2.0 * places_of * seen * shape[0] as f64)
    })
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

    /// Before the text is seen the whole pass lies ahead, but for the first convolution; behind the last, nothing. The specification of causal
    /// tracing (section 7, T4) puts 4.8 % of Stable Diffusion's pass behind the last residual block.
    #[test]
    fn what_lies_behind_falls_along_the_pass() {
        let config = crate::pipeline::tiny::Family::FullSize.unet();
        let all = behind(&config, [64, 64], 77).unwrap();
        let of = |path: &str, kind| {
            all.iter().find(|(site, _)| *site == Site::new(path, kind)).map(|(_, share)| *share).unwrap()
        };
        assert!(all.windows(2).all(|pair| pair[0].1 >= pair[1].1));
        assert!(of("conv_in", Kind::Stream) > 0.999);
        // No weight lies between an attention's output and the stream behind it, nor between a last convolution and its block without a shortcut.
        let attention = "up_blocks.1.attentions.0.transformer_blocks.0.attn2";
        assert_eq!(of(attention, Kind::Branch), of(attention, Kind::After));
        assert!(of(&format!("{attention}.to_q"), Kind::Query) > of(attention, Kind::Branch));
        assert_eq!(
            of("down_blocks.0.resnets.1.conv2", Kind::Branch),
            of("down_blocks.0.resnets.1", Kind::Stream)
        );
        assert!(of("up_blocks.0.resnets.1.conv2", Kind::Branch) > of("up_blocks.0.resnets.1", Kind::Stream));
        let last = of("up_blocks.3.resnets.2", Kind::Stream);
        assert!((last - 0.048).abs() < 0.002, "{last}");
    }
}
