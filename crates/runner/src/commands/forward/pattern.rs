//! Which activations `--taps` means.

use anyhow::{Result, bail};
use sd_core::taps::{Choice, Site};
use sd_core::weights::matches;

/// The sites of `component` that `pattern` means: `all`, or those whose names are of its form, in which `*` stands for anything.
///
/// # Errors
/// Where there is none; some of those that there are are named.
pub(super) fn choose(component: &str, pattern: &str, sites: &[Site]) -> Result<Choice> {
    if pattern == "all" {
        return Ok(Choice::All);
    }
    let chosen: Vec<Site> =
        sites.iter().filter(|site| matches(pattern, &site.to_string())).cloned().collect();
    if chosen.is_empty() {
        let some: Vec<String> = sites.iter().take(8).map(Site::to_string).collect();
        bail!(
            "--taps {pattern}: no activation of {component} is called so\n  expected: one of its {}, such as {}\n  \
             help: `--taps all` writes every one of them",
            sites.len(),
            some.join(", ")
        );
    }
    Ok(Choice::These(chosen))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use sd_core::taps::Kind;

    fn sites() -> Vec<Site> {
        let attention = "down_blocks.0.attentions.0.transformer_blocks.0.attn1";
        vec![
            Site::new("conv_in", Kind::Stream),
            Site::new(attention, Kind::Map),
            Site::new(attention, Kind::Branch),
            Site::new("conv_out", Kind::Feature),
        ]
    }

    #[test]
    fn stars_stand_for_anything() {
        let chosen = |pattern: &str| {
            let choice = choose("unet", pattern, &sites()).unwrap();
            let chosen = sites().into_iter().filter(|site| choice.has(site));
            chosen.map(|site| site.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(chosen("all").len(), 4);
        assert_eq!(chosen("conv_in"), ["conv_in"]);
        assert_eq!(chosen("conv_*"), ["conv_in", "conv_out"]);
        assert_eq!(chosen("*#map"), ["down_blocks.0.attentions.0.transformer_blocks.0.attn1#map"]);
        assert_eq!(chosen("down*attn1*").len(), 2);
        assert_eq!(chosen("*").len(), 4);
    }

    #[test]
    fn a_pattern_that_means_nothing_is_refused_with_names() {
        let said = choose("unet", "conv_up", &sites()).unwrap_err().to_string();
        assert!(said.contains("--taps conv_up") && said.contains("one of its 4, such as conv_in"), "{said}");
    }
}
