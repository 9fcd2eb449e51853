//! `generate`: pictures from a prompt.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::reproduce::{Device, Progress, at_least_one};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask generate \"two green stars in the style of bela cruz\"
      the small Stable Diffusion that ships knows the words of its own world alone: see crates/sd-mini/README.md
  cargo xtask generate \"a lighthouse in a storm\" --model sd-v1-4
  cargo xtask generate \"a red fox\" --model ~/models/sd-2-1 --seed 7 --steps 30 --sampler dpm++ -o fox.png
      out of a folder that diffusers saved
  cargo xtask generate \"a red fox\" --negative \"blurry\" --batch 4 --width 640 --height 384
      four pictures at once: out-1.png to out-4.png
  cargo xtask generate \"a marble statue\" --model DIR --image photo.png --mask hole.png
      a model for inpainting fills the white part of the mask

The same model, seed and settings give the picture that diffusers gives with torch.Generator(\"cpu\").manual_seed(SEED).
Each PNG holds its settings as text under the key `parameters`.
A model that is known by name and not here yet is fetched from the Hub (HF_HOME, HF_TOKEN, HF_ENDPOINT and
HF_HUB_OFFLINE are honoured). No safety checker is run over the pictures.

Exit codes: 0 done, 1 the computation failed, 2 bad usage, or a model that is absent or broken.";

/// Arguments of `generate`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Generate {
    /// What the picture shows. Beyond what the text encoder takes (77 tokens; sd-mini 20) it is cut, which is told.
    pub prompt: String,
    /// A folder that diffusers saved; or sd-mini, which ships with the repository; or one of sd-v1-4, sd-v1-5, sd-inpainting,
    /// sd-v2-1-base, sd-v2-1, which are fetched where they are not here.
    #[arg(long, value_name = "DIR|NAME", default_value = "sd-mini")]
    pub model: String,
    /// Seed of the noise.
    #[arg(long, value_name = "N", default_value = "0", value_parser = seed, allow_negative_numbers = true)]
    pub seed: u64,
    /// Steps of the sampler [default: 50; what sd-mini's gates were measured with].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub steps: Option<usize>,
    /// How strongly the prompt is followed; at 1 or below the negative prompt plays no part [default: 7.5; what sd-mini's gates were
    /// measured with].
    #[arg(long, value_name = "G", value_parser = finite, allow_negative_numbers = true)]
    pub guidance: Option<f64>,
    /// The sampler [default: the one that the model names].
    #[arg(long, value_enum)]
    pub sampler: Option<Sampler>,
    /// Share of fresh noise in each step of `ddim`: 0 for none, 1 for as much as `ddpm`.
    #[arg(long, value_name = "ETA", default_value = "0", value_parser = share)]
    pub eta: f64,
    /// What the picture should not show.
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub negative: String,
    /// Pictures made at once, of one draw of noise.
    #[arg(long, value_name = "N", default_value = "1", value_parser = pictures)]
    pub batch: usize,
    /// Width in pixels, a multiple of 8 [default: what the model was trained on].
    #[arg(long, value_name = "PIXELS", value_parser = side)]
    pub width: Option<usize>,
    /// Height in pixels, a multiple of 8 [default: what the model was trained on].
    #[arg(long, value_name = "PIXELS", value_parser = side)]
    pub height: Option<usize>,
    /// The picture to be filled in, of the size that is made; for models for inpainting.
    #[arg(long, value_name = "FILE", requires = "mask")]
    pub image: Option<PathBuf>,
    /// Where it is to be filled in: white there, black where the picture stays.
    #[arg(long, value_name = "FILE", requires = "image")]
    pub mask: Option<PathBuf>,
    /// The numbers computed with: `auto` is f16 on a GPU and f32 on a CPU, which knows f32 alone.
    #[arg(long, value_enum, default_value_t = Dtype::Auto)]
    pub dtype: Dtype,
    /// Where to compute: `auto` takes a GPU if this build can use one, `cuda` or `cuda:1` insists on it.
    #[arg(long, value_name = "auto|cpu|cuda[:n]", default_value_t = Device::Auto)]
    pub device: Device,
    /// Threads [default: every core].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub threads: Option<usize>,
    /// The picture's file; several pictures are numbered: out-1.png, out-2.png, ...
    #[arg(short, long, value_name = "FILE", default_value = "out.png")]
    pub output: PathBuf,
    /// How progress is shown on standard error: a bar on a terminal and lines elsewhere, or one of them always.
    #[arg(long, value_enum, default_value_t = Progress::Auto)]
    pub progress: Progress,
}

/// How a picture is made out of noise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sampler {
    /// Denoising diffusion implicit models
    Ddim,
    /// Denoising diffusion probabilistic models: fresh noise in every step
    Ddpm,
    /// Pseudo linear multistep; its second step is made twice, so N steps are N + 1
    Pndm,
    /// Euler's method
    Euler,
    /// Euler's method with fresh noise in every step
    #[value(name = "euler-a", alias = "euler-ancestral")]
    EulerAncestral,
    /// DPM-Solver++ of second order, multistep (2M)
    #[value(name = "dpm++")]
    Dpm,
}

impl Sampler {
    /// As it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ddim => "ddim",
            Self::Ddpm => "ddpm",
            Self::Pndm => "pndm",
            Self::Euler => "euler",
            Self::EulerAncestral => "euler-a",
            Self::Dpm => "dpm++",
        }
    }
}

/// The numbers that are computed with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Dtype {
    /// f16 on a GPU, f32 on a CPU
    #[default]
    Auto,
    /// 32 bits
    F32,
    /// 16 bits, IEEE; on a GPU
    F16,
    /// 16 bits, the exponent of f32; on a GPU
    Bf16,
}

/// Pictures made at once: their latents are one tensor.
fn pictures(text: &str) -> Result<usize, String> {
    at_most(text, 1024)
}

/// A side of a picture in pixels.
fn side(text: &str) -> Result<usize, String> {
    at_most(text, 16_384)
}

fn at_most(text: &str, most: usize) -> Result<usize, String> {
    match at_least_one(text)? {
        number if number > most => Err(format!("expected at most {most}, found `{text}`")),
        number => Ok(number),
    }
}

pub(crate) fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("expected a whole number from 0 to {}, found `{text}`", u64::MAX))
}

pub(crate) fn finite(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok(number),
        _ => Err(format!("expected a number such as `7.5`, found `{text}`")),
    }
}

fn share(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if (0.0..=1.0).contains(&number) => Ok(number),
        _ => Err(format!("expected a number from 0 to 1, found `{text}`")),
    }
}
