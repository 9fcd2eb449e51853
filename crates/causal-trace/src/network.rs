//! What of a UNet lockstep has to know: its modules in the order of a pass, and which skip connection is used where.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use sd_core::models::unet;
use sd_core::taps::{Site, sites};

/// The modules behind which rows may leave a pass or come in.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// Paths, in the order of a pass: `conv_in`, residual blocks, transformers, samplers.
    modules: Vec<String>,
    /// The module that each activation belongs to.
    home: BTreeMap<Site, usize>,
    /// For a residual block: the last module whose skip connection is used behind it, where any is.
    last_skip: BTreeMap<usize, Option<usize>>,
}

impl Network {
    pub(crate) fn of(config: &unet::Config) -> Result<Self> {
        let all = sites(config)?;
        let mut modules: Vec<String> = Vec::new();
        let mut home = BTreeMap::new();
        for site in &all {
            let Some(module) = module_of(site.path()) else { continue };
            if modules.last().is_none_or(|last| last != module) {
                modules.push(module.to_owned());
            }
            home.insert(site.clone(), modules.len() - 1);
        }
        let last_skip = last_skips(&modules);
        Ok(Self { modules, home, last_skip })
    }

    pub(crate) fn modules(&self) -> &[String] {
        &self.modules
    }

    /// The module that `site` belongs to.
    ///
    /// # Errors
    /// Where it is no activation between `conv_in` and the last block.
    pub(crate) fn home(&self, site: &Site) -> Result<usize> {
        self.home.get(site).copied().with_context(|| {
            format!("`{site}` is in no block of the UNet\n  expected: an activation between `conv_in` and `conv_norm_out`")
        })
    }

    /// Where `site` is the output of a residual block: that block, and the last module whose skip connection is used behind it.
    pub(crate) fn resnet(&self, site: &Site) -> Option<(usize, Option<usize>)> {
        let module = *self.home.get(site)?;
        let is_output = self.modules[module] == site.path();
        self.last_skip.get(&module).filter(|_| is_output).map(|last| (module, *last))
    }
}

/// The part of an activation's path that names its module.
fn module_of(path: &str) -> Option<&str> {
    if path == "conv_in" {
        return Some(path);
    }
    let parts: Vec<&str> = path.split('.').collect();
    let kinds = ["resnets", "attentions", "downsamplers", "upsamplers"];
    let at = parts.iter().position(|part| kinds.contains(part))?;
    let length: usize = parts.get(..=at + 1)?.iter().map(|part| part.len() + 1).sum();
    Some(&path[..length - 1])
}

fn is_resnet(module: &str) -> bool {
    module.rsplit('.').nth(1) == Some("resnets")
}

/// Skip connections are left by `conv_in`, by each pair of the way down (its transformer, where it has one) and by each down-sampler,
/// and taken off in reverse by the residual blocks of the way up.
fn last_skips(modules: &[String]) -> BTreeMap<usize, Option<usize>> {
    let down = |index: &usize| modules[*index] == "conv_in" || modules[*index].starts_with("down_");
    let pair_goes_on = |index: usize| {
        let next = modules.get(index + 1).map_or("", String::as_str);
        is_resnet(&modules[index]) && next.contains(".attentions.") && next.starts_with("down_")
    };
    let producers: Vec<usize> =
        (0..modules.len()).filter(down).filter(|&index| !pair_goes_on(index)).collect();
    let resnets = (0..modules.len()).filter(|&index| is_resnet(&modules[index]));
    let mut taken = 0;
    let mut found = BTreeMap::new();
    for resnet in resnets {
        taken += usize::from(modules[resnet].starts_with("up_"));
        let left = &producers[..producers.len().saturating_sub(taken)];
        found.insert(resnet, left.iter().copied().take_while(|&producer| producer < resnet).last());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> Network {
        let level = |attends, channels| unet::Level {
            attends,
            channels,
            heads: 2,
            context: 16,
            layers: 2,
            transformer_layers: 1,
        };
        let config = unet::Config {
            sample_size: Some(16),
            in_channels: 4,
            out_channels: 4,
            flip_sin_to_cos: true,
            freq_shift: 0.0,
            levels: vec![level(true, 8), level(true, 16), level(true, 16), level(false, 16)],
            up_attends: vec![false, true, true, true],
            downsample_padding: 1,
            norm_num_groups: 8,
            norm_eps: 1e-5,
            use_linear_projection: false,
            upcast_attention: false,
        };
        Network::of(&config).expect("a network")
    }

    #[test]
    fn modules_come_in_the_order_of_a_pass() {
        let network = network();
        let modules = network.modules();
        assert_eq!(modules.len(), 1 + 22 + 16 + 3 + 3);
        assert_eq!(
            modules[..4],
            ["conv_in", "down_blocks.0.resnets.0", "down_blocks.0.attentions.0", "down_blocks.0.resnets.1"]
        );
        assert_eq!(modules[modules.len() - 1], "up_blocks.3.attentions.2");
    }

    #[test]
    fn a_residual_block_needs_the_skips_that_are_used_behind_it() {
        let network = network();
        let last = |name: &str| -> Option<String> {
            let index = network.modules().iter().position(|module| module == name).expect("a module");
            network.last_skip[&index].map(|at| network.modules()[at].clone())
        };
        // Section 6 of the specification: which way down leaves what.
        assert_eq!(last("up_blocks.3.resnets.2"), None);
        assert_eq!(last("up_blocks.3.resnets.1").as_deref(), Some("conv_in"));
        assert_eq!(last("up_blocks.2.resnets.2").as_deref(), Some("down_blocks.0.attentions.1"));
        assert_eq!(last("up_blocks.0.resnets.2").as_deref(), Some("down_blocks.2.attentions.1"));
        assert_eq!(last("up_blocks.0.resnets.0").as_deref(), Some("down_blocks.3.resnets.0"));
        assert_eq!(last("mid_block.resnets.1").as_deref(), Some("down_blocks.3.resnets.1"));
        assert_eq!(last("down_blocks.3.resnets.1").as_deref(), Some("down_blocks.3.resnets.0"));
        assert_eq!(last("down_blocks.1.resnets.0").as_deref(), Some("down_blocks.0.downsamplers.0"));
        assert_eq!(last("down_blocks.0.resnets.0").as_deref(), Some("conv_in"));
    }
}
