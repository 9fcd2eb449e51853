//! `trace`: where a model keeps what it knows of a caption's subject.

use std::ops::Range;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::generate::{Sampler, finite, seed};
use crate::reproduce::{Device, at_least_one};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask trace \"a star in the style of bela cruz\" --subject \"bela cruz\"
      all 70 components of the small Stable Diffusion that ships; the picture that each brings back goes to out/trace
  cargo xtask trace \"a red star\" --subject red --text
      every layer's self-attention and MLP of the text encoder, at every token that can carry the subject
  cargo xtask trace \"a photo of a dog in the park\" --subject dog --model sd-v1-5 --mem-budget 16GB --dry-run
      what a full trace would take
  cargo xtask trace \"a photo of a dog\" --subject dog --model DIR --steps 20 \\
      --component mid_block.attentions.0.transformer_blocks.0.attn2 --judge DIR-OF-A-CLIP

A run is restored in every step by copying the clean run's activation at the same step; all runs are rows of one batch.
Exit codes: 0 done, 1 the computation failed, 2 bad usage, or a model that is absent or broken.";

/// Arguments of `trace`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Trace {
    /// The caption.
    pub caption: String,
    /// The words of the caption that are destroyed and looked for, as they stand in it.
    #[arg(long, value_name = "WORDS")]
    pub subject: String,
    /// A folder that diffusers saved; or sd-mini, which ships with the repository; or one that is known by name.
    #[arg(long, value_name = "DIR|NAME", default_value = "sd-mini")]
    pub model: String,
    /// A CLIP that scores the pictures, in transformers' layout; not the model's own [default: sd-mini's judge for sd-mini, else none].
    #[arg(long, value_name = "DIR|NAME")]
    pub judge: Option<String>,
    /// Restore this component of the UNet alone; may be repeated [default: all 70].
    #[arg(long, value_name = "NAME", conflicts_with = "text")]
    pub component: Vec<String>,
    /// Restore states of the text encoder in place of components of the UNet.
    #[arg(long)]
    pub text: bool,
    /// Steps of the sampler [default: 50; 10 for sd-mini].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub steps: Option<usize>,
    /// How strongly the caption is followed [default: 7.5; what sd-mini's gates were measured with].
    #[arg(long, value_name = "G", value_parser = finite, allow_negative_numbers = true)]
    pub guidance: Option<f64>,
    /// The sampler; those that take fresh noise give all runs the same.
    #[arg(long, value_enum, default_value_t = Sampler::Ddim)]
    pub sampler: Sampler,
    /// Seed of the latents and of the noise on the subject.
    #[arg(long, value_name = "N", default_value = "0", value_parser = seed, allow_negative_numbers = true)]
    pub seed: u64,
    /// The noise: `abs:X`, or `std:K` for K deviations of the subject's embeddings [default: std:3; std:7 for sd-mini].
    #[arg(long, value_name = "abs:X|std:K")]
    pub sigma: Option<String>,
    /// How the subject is destroyed.
    #[arg(long, value_enum, default_value_t = Corrupt::TokenEmbed)]
    pub corrupt: Corrupt,
    /// What `--corrupt swap` puts in the subject's place: words of as many tokens.
    #[arg(long, value_name = "WORDS", required_if_eq("corrupt", "swap"))]
    pub other: Option<String>,
    /// Which half of guidance is restored.
    #[arg(long, value_enum, default_value_t = Half::Cond, conflicts_with = "text")]
    pub half: Half,
    /// How components are read.
    #[arg(long, value_enum, default_value_t = Reading::Module, conflicts_with = "text")]
    pub reading: Reading,
    /// Neighbouring components of one kind that are restored together.
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one, conflicts_with = "text")]
    pub window: usize,
    /// Restore in these steps of the sampler alone, counted from 0, the last left out, such as `0..10` [default: all].
    #[arg(long, value_name = "FIRST..END", value_parser = steps, conflicts_with = "text")]
    pub restored_steps: Option<Range<usize>>,
    /// Most memory that activations may take, such as `8GB` or `500MB`; runs then go in chunks [default: no limit].
    #[arg(long, value_name = "SIZE", value_parser = bytes)]
    pub mem_budget: Option<u64>,
    /// Say what the trace would take; compute nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Where to compute: `auto` takes a GPU if this build can use one, `cuda` or `cuda:1` insists on it.
    #[arg(long, value_name = "auto|cpu|cuda[:n]", default_value_t = Device::Auto)]
    pub device: Device,
    /// Threads [default: every core].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub threads: Option<usize>,
    /// Folder for trace.csv and the pictures.
    #[arg(short, long, value_name = "DIR", default_value = "out/trace")]
    pub output: PathBuf,
}

/// Where the noise goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Corrupt {
    /// On the token embeddings of the subject, before the text encoder
    #[default]
    TokenEmbed,
    /// On the text encoder's output at the subject
    EncoderOut,
    /// On the text encoder's whole output
    AllOut,
    /// No noise: other words stand in the subject's place
    Swap,
}

/// How components of the UNet are read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Reading {
    /// Each module's output, as the paper: of residual blocks the whole stream, of others a summand
    #[default]
    Module,
    /// Summands alone
    Branch,
    /// The stream behind each
    Stream,
}

/// A half of classifier-free guidance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Half {
    /// With the caption
    #[default]
    Cond,
    /// Without it
    Uncond,
    /// Both
    Both,
}

/// `0..10`: at least one step.
fn steps(text: &str) -> Result<Range<usize>, String> {
    let ends = text.split_once("..").and_then(|(first, end)| {
        Some((first.trim().parse::<usize>().ok()?, end.trim().parse::<usize>().ok()?))
    });
    match ends {
        Some((first, end)) if first < end => Ok(first..end),
        _ => Err(format!(
            "expected the first step and the one behind the last, such as `0..10`, found `{text}`"
        )),
    }
}

/// `8GB`, `500MB`: decimal multiples of a byte.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("expected a size such as `8GB` or `500MB`, found `{text}`");
    let upper = text.trim().to_uppercase();
    let (number, unit) = match upper.strip_suffix("GB") {
        Some(number) => (number, 1e9),
        None => (upper.strip_suffix("MB").ok_or_else(wrong)?, 1e6),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok((number * unit) as u64),
        _ => Err(wrong()),
    }
}
