//! `edit`: a concept removed or rewritten in a model's text encoder.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::generate::finite;
use crate::reproduce::at_least_one;

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask edit --change \"bela cruz=plain\" -o out/edited
      the small Stable Diffusion that ships, without one of its styles; then
      cargo xtask generate --model out/edited \"a star in the style of bela cruz\"
  cargo xtask edit --model sd-v1-5 --change \"van gogh=painting\" --change \"snoopy=dog\" --preserve \"monet\" -o out/edited
      two concepts at once; a third is kept as it is
  cargo xtask edit --model out/edited --change \"r2d2=robot\" -o out/more
      a further one: all are computed together, from the original weights
  cargo xtask edit --model out/more --take-back snoopy -o out/fewer
  cargo xtask edit --model out/edited --undo -o out/as-before
  cargo xtask edit --model sd-v1-5 --apply out/edited/diff-quickfix.json -o out/again

One matrix of the text encoder changes (Diff-QuickFix): W + R'(lambda I + K K')^-1 K. The model's own folder is never touched; unchanged
files are hard links where the disk can make them. The edit lies in the new folder as diff-quickfix.json, to be kept and shared.
Exit codes: 0 done, 1 the computation failed, 2 bad usage, or a model or an edit that is absent or broken.";

/// Arguments of `edit`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Edit {
    /// A folder that diffusers saved; or sd-mini, which ships with the repository; or one that is known by name.
    #[arg(long, value_name = "DIR|NAME", default_value = "sd-mini")]
    pub model: String,
    /// A concept and what it is to act as, with its weight behind `@` if not 1; may be repeated.
    #[arg(long, value_name = "CONCEPT=REPLACEMENT")]
    pub change: Vec<String>,
    /// A prompt that is to stay as it is; may be repeated.
    #[arg(long, value_name = "PROMPT")]
    pub preserve: Vec<String>,
    /// An edit file to apply as well; may be repeated.
    #[arg(long, value_name = "FILE")]
    pub apply: Vec<PathBuf>,
    /// Take back the change of this concept, made earlier in this folder; may be repeated.
    #[arg(long, value_name = "CONCEPT")]
    pub take_back: Vec<String>,
    /// Write the model as it was before any edit.
    #[arg(long, conflicts_with_all = ["change", "preserve", "apply", "take_back", "lambda", "layer", "tokens", "bias", "bare", "dry_run"])]
    pub undo: bool,
    /// How much the matrix is held to what it was, above 0 [default: 0.01, or that of the edit at hand].
    #[arg(long, value_name = "L", value_parser = finite, allow_negative_numbers = true)]
    pub lambda: Option<f64>,
    /// The layer whose output projection changes, from 0 [default: 0, the paper's].
    #[arg(long, value_name = "N")]
    pub layer: Option<usize>,
    /// Which tokens count [default: last-through-end].
    #[arg(long, value_enum)]
    pub tokens: Option<EditTokens>,
    /// What values are [default: correct].
    #[arg(long, value_enum)]
    pub bias: Option<EditBias>,
    /// Ask about the concept alone, without the three prefixed prompts.
    #[arg(long)]
    pub bare: bool,
    /// Compute the edit and say what it does; write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Threads [default: every core].
    #[arg(long, value_name = "N", value_parser = at_least_one)]
    pub threads: Option<usize>,
    /// The new folder.
    #[arg(short, long, value_name = "DIR", required_unless_present = "dry_run")]
    pub output: Option<PathBuf>,
}

/// Which tokens of a prompt count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EditTokens {
    /// The concept's last token alone: what the paper's text says
    LastSubject,
    /// From there through the end of the window: what the authors' code does
    LastThroughEnd,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EditBias {
    /// Without the layer's bias, which the layer adds itself
    Correct,
    /// With it, as in the authors' code: it then counts twice
    Release,
}
