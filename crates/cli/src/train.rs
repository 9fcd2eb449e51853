//! `train`: models that ship with the repository, from nothing.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::reproduce::{Device, Overrides, Scale, at_least_one};

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask train sd-mini                       a toy version of every stage, at most ten minutes on two cores
  cargo xtask train sd-mini --scale standard      the recipe of the weights that ship: hours on two cores
  cargo xtask train sd-mini --scale standard --stages text,vae,classifier
      some stages alone; a stage whose turn it is needs the ones before it
  cargo xtask train sd-mini --scale standard --from datasets/sd-mini --warm --out /tmp/longer
      the denoiser that ships trained on; everything else stays as it is
  cargo xtask train sd-mini -s unet.training.steps=500 --out /tmp/short

The recipe is experiments/sd-mini/SCALE.yaml. Stop it with Ctrl-C whenever you like: the same command goes on
where it stopped, and ends with the very weights that it would have had.

Exit codes: 0 done (a gate that was missed is not a failure), 1 interrupted or failed, 2 bad usage or recipe.";

/// Arguments of `train`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Train {
    /// The model.
    #[arg(value_enum)]
    pub model: Trainable,
    /// The recipe: `quick` is a toy of every stage, `standard` is that of the weights that ship.
    #[arg(long, value_enum, default_value_t = Scale::Quick)]
    pub scale: Scale,
    #[allow(missing_docs)]
    #[command(flatten)]
    pub overrides: Overrides,
    /// Run these stages, in this order, and what they stand on where it is not done yet [default: all of them].
    #[arg(long, value_enum, value_delimiter = ',', value_name = "STAGE,...")]
    pub stages: Vec<Stage>,
    /// Take the text encoder, the autoencoder and the judges from a pack, such as datasets/sd-mini, and train the denoiser alone.
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Let the denoiser start from the pack's, and not from random values.
    #[arg(long, requires = "from")]
    pub warm: bool,
    /// Folder for checkpoints and weights [default: out/MODEL/SCALE].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Where to compute: `auto` takes a GPU if this build can use one, `cuda` or `cuda:1` insists on it.
    #[arg(long, value_name = "auto|cpu|cuda[:n]", default_value_t = Device::Auto)]
    pub device: Device,
    /// Seconds between two checkpoints.
    #[arg(long, value_name = "N", default_value = "60")]
    pub checkpoint_seconds: u64,
    /// Threads [default: every core].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub threads: Option<usize>,
}

/// What can be trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Trainable {
    /// The small Stable Diffusion of the drawn world
    SdMini,
}

/// A part of a training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Stage {
    /// The text encoder, with an image tower
    Text,
    /// The autoencoder
    Vae,
    /// The classifier of attributes
    Classifier,
    /// The second pair of text encoder and image tower, which judges
    JudgeClip,
    /// The regressor of landmarks
    Landmarks,
    /// The network in whose features the Frechet distance is taken
    Frechet,
    /// The denoiser
    Unet,
    /// Pictures of held-out captions, and what the judges say of them
    Gates,
    /// The folder that diffusers loads, and the judges, in half precision, with their digests
    Pack,
    /// Loss curves, gates, pictures and times, to be committed beside the weights
    Report,
}

impl Stage {
    /// Every stage in the order of a whole training.
    pub const ALL: [Self; 10] = [
        Self::Text,
        Self::Vae,
        Self::Classifier,
        Self::JudgeClip,
        Self::Landmarks,
        Self::Frechet,
        Self::Unet,
        Self::Gates,
        Self::Pack,
        Self::Report,
    ];
}
