//! `worlds`: the drawn world of scenes, for a person to look at.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::reproduce::at_least_one;

pub(crate) const EXAMPLES: &str = "\
Examples:
  cargo xtask worlds show                            every value of every attribute, on one sheet: worlds.png
  cargo xtask worlds show --what examples --seed 7   random pictures; their captions go to standard output
  cargo xtask worlds show --what edits               pictures, masks, what is behind, and the same after an edit";

/// Arguments of `worlds`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Worlds {
    /// What to do.
    #[command(subcommand)]
    pub action: WorldsAction,
}

/// What `worlds` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum WorldsAction {
    /// Write a contact sheet.
    Show {
        /// What it shows.
        #[arg(long, value_enum, default_value_t = Sheet::Attributes)]
        what: Sheet,
        /// Seed of the random pictures.
        #[arg(long, value_name = "N", default_value = "0")]
        seed: u64,
        /// Which captions and combinations are drawn from: those of training, those kept for testing, or those held out.
        #[arg(long, value_enum, default_value_t = Split::Train)]
        split: Split,
        /// Side of a picture in pixels, at most 512.
        #[arg(long, value_name = "PIXELS", default_value = "64", value_parser = side)]
        side: usize,
        /// The sheet's file.
        #[arg(short, long, value_name = "FILE", default_value = "worlds.png")]
        output: PathBuf,
    },
}

/// What a contact sheet shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sheet {
    /// Every value of every attribute
    Attributes,
    /// Random pictures
    Examples,
    /// Masks, backgrounds, and pictures after an edit
    Edits,
}

/// Which pictures are drawn from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Split {
    /// What the small Stable Diffusion is trained on
    Train,
    /// Captions that training never sees
    Test,
    /// Combinations that training never sees
    HeldOut,
}

fn side(text: &str) -> Result<usize, String> {
    match at_least_one(text)? {
        side if side > 512 => Err(format!("expected at most 512, found `{text}`")),
        side => Ok(side),
    }
}
