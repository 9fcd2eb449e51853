//! Everything that runs no experiment: claims, report, schema, datasets, and the hidden `trial`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::reproduce::{Device, Scale, at_least_one};

pub(crate) const CLAIMS_EXAMPLES: &str = "\
Examples:
  cargo xtask claims                           every paper's claims
  cargo xtask claims diffgrad --scale standard
  cargo xtask claims diffgrad --out /tmp/eight-seeds";

pub(crate) const REPORT_EXAMPLES: &str = "\
Examples:
  cargo xtask report diffgrad
  cargo xtask report diffgrad --out /tmp/eight-seeds";

pub(crate) const SCHEMA_EXAMPLES: &str = "\
Examples:
  cargo xtask schema           writes experiments/schema/<paper>.json
  cargo xtask schema --check   writes nothing; exit code 2 where a schema is not what the code says";

pub(crate) const DATASETS_EXAMPLES: &str = "\
Examples:
  cargo xtask datasets list
  cargo xtask datasets fetch cifar10      into the Hub's cache folder, where every command finds it
  cargo xtask datasets verify             reads every picture and compares each file's sha256

`fetch` honours HF_HOME, HF_TOKEN, HF_ENDPOINT and HF_HUB_OFFLINE, and goes on with a broken download.";

/// Arguments of `claims`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Claims {
    /// The paper; every paper where absent.
    pub paper: Option<String>,
    /// The scale whose experiment and results are shown.
    #[arg(long, value_enum, default_value_t = Scale::Quick)]
    pub scale: Scale,
    /// Folder of the results [default: results/PAPER/SCALE].
    #[arg(long, value_name = "DIR", requires = "paper")]
    pub out: Option<PathBuf>,
}

/// Arguments of `report`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Report {
    /// The paper.
    pub paper: String,
    /// The scale whose results are read.
    #[arg(long, value_enum, default_value_t = Scale::Quick)]
    pub scale: Scale,
    /// Folder of the results [default: results/PAPER/SCALE].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
}

/// Arguments of `schema`.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub struct Schema {
    /// Compare with the files that are there instead of writing them.
    #[arg(long)]
    pub check: bool,
}

/// Arguments of `datasets`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Datasets {
    /// What to do with them.
    #[command(subcommand)]
    pub action: DatasetsAction,
}

/// What `datasets` does.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum DatasetsAction {
    /// List the data sets, their size, licence and source, and whether they are here.
    List {
        /// Folder that holds data sets [default: $DIFFLAB_DATA]; the Hub's cache folder is looked into as well.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Download a data set at its pinned revision into the Hub's cache folder, and check it.
    Fetch {
        /// Names of the data sets.
        #[arg(required = true)]
        names: Vec<String>,
    },
    /// Read the data sets whole and compare the sha256 of each file with the manifest.
    Verify {
        /// Names of the data sets; every one that is here where absent.
        names: Vec<String>,
        /// Folder that holds data sets [default: $DIFFLAB_DATA]; the Hub's cache folder is looked into as well.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
}

/// Arguments of `trial`.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Trial {
    /// The experiment file, as `reproduce` resolved it.
    pub experiment: PathBuf,
    /// The trial's key.
    pub key: String,
    /// Folder for the results.
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Folder that holds the data sets.
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Where to compute.
    #[arg(long, value_name = "cpu|cuda:n", default_value_t = Device::Cpu)]
    pub device: Device,
    /// Threads of the trial.
    #[arg(long, value_name = "N", default_value = "1", value_parser = at_least_one)]
    pub threads: usize,
}
