//! `forward`: tensors through one component, to hold the engine against any other implementation.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::reproduce::{Device, at_least_one};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask forward --model DIR --component unet --inputs in.safetensors --output out.safetensors
  cargo xtask forward --model DIR --component unet --inputs in.safetensors --output out.safetensors --taps all
      beside the output every activation under its module's name: find the first layer that differs
  cargo xtask forward --model DIR --component text-encoder --inputs in.safetensors --output out.safetensors \\
      --taps '*layers.0.*' --dtype f64
  cargo xtask forward --model DIR --component unet --inputs in.safetensors --output out.safetensors --grad sample
      beside the output the gradient of its product with the input `cotangent`

Tensors in and out, under the names of diffusers and transformers (B rows):
  unet           sample (B,C,H,W), timestep () or (B), encoder_hidden_states (B,T,D)  ->  sample (B,C',H,W)
  vae-encoder    sample (B,3,H,W) in [-1,1]                  ->  mean and logvar (B,C,H/8,W/8), not scaled
  vae-decoder    sample (B,C,H,W), divided by the scale      ->  sample (B,3,8H,8W)
  text-encoder   input_ids (B,T), whole numbers              ->  last_hidden_state (B,T,D), pooler_output (B,D)
                                                                 and, with a projection, text_embeds (B,P)
  image-encoder  pixel_values (B,3,S,S)                      ->  last_hidden_state (B,T,D), pooler_output (B,D)
                                                                 and, with a projection, image_embeds (B,P)

Exit codes: 0 done, 1 the computation failed, 2 bad usage, or files that are absent, broken or do not fit.";

/// Arguments of `forward`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Forward {
    /// A folder that diffusers saved, of a pipeline or of the one component, or the name of a model as for `generate`.
    #[arg(long, value_name = "DIR|NAME")]
    pub model: String,
    /// Which part of it.
    #[arg(long, value_enum)]
    pub component: Component,
    /// The tensors that go in.
    #[arg(long, value_name = "FILE")]
    pub inputs: PathBuf,
    /// Where the tensors that come out are written.
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// Also write the activations whose names match: `all`, or a pattern in which * stands for anything.
    #[arg(long, value_name = "PATTERN")]
    pub taps: Option<String>,
    /// Also write, as `grad.NAME`, the gradient of sum(output * cotangent) with respect to the input NAME, where the input
    /// `cotangent` has the shape of the (first) output.
    #[arg(long, value_name = "NAME")]
    pub grad: Option<String>,
    /// The numbers computed with; a CPU knows f32 and f64.
    #[arg(long, value_enum, default_value_t = ForwardDtype::F32)]
    pub dtype: ForwardDtype,
    /// Where to compute: `auto` takes a GPU if this build can use one, `cuda` or `cuda:1` insists on it.
    #[arg(long, value_name = "auto|cpu|cuda[:n]", default_value_t = Device::Auto)]
    pub device: Device,
    /// Threads [default: every core].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub threads: Option<usize>,
}

/// A part of a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Component {
    /// The denoiser
    Unet,
    /// Pictures to latents
    VaeEncoder,
    /// Latents to pictures
    VaeDecoder,
    /// CLIP's text encoder
    TextEncoder,
    /// CLIP's image encoder
    ImageEncoder,
}

impl Component {
    /// As it is typed.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unet => "unet",
            Self::VaeEncoder => "vae-encoder",
            Self::VaeDecoder => "vae-decoder",
            Self::TextEncoder => "text-encoder",
            Self::ImageEncoder => "image-encoder",
        }
    }
}

/// The numbers that `forward` computes with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum ForwardDtype {
    /// 32 bits
    #[default]
    F32,
    /// 64 bits; on a CPU
    F64,
    /// 16 bits, IEEE; on a GPU
    F16,
    /// 16 bits, the exponent of f32; on a GPU
    Bf16,
}
