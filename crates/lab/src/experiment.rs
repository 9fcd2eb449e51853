//! The experiment file: one struct that is at once the YAML, its documentation and its JSON schema.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::claim::Claim;
use crate::paper::Header;

/// How much is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// At most about ten minutes on two CPU cores, no download.
    Quick,
    /// Real data; about an hour on a CPU, or minutes on one GPU.
    Standard,
    /// The published protocol on the published models.
    Paper,
}

/// One experiment: `experiments/<paper>/<scale>.yaml`. `A` is the paper's type of an arm, `S` that of a study.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Experiment<A, S> {
    /// The paper's short name, as in `cargo xtask reproduce <paper>`.
    pub paper: String,
    /// How much this file runs.
    pub scale: Scale,
    /// What this file runs and how it differs from the published protocol; shown at the top of the report.
    pub about: String,
    /// The data sets, by the role they play in the studies. A data set is never swapped for another.
    #[serde(default)]
    pub data: BTreeMap<String, String>,
    /// Seed of the whole experiment. Trial `i` of an arm runs with seed `seed + i`, the same for every arm (paired).
    #[serde(default)]
    pub seed: u64,
    /// How many seeds every seeded study runs.
    pub seeds: u32,
    /// What is compared.
    pub arms: BTreeMap<String, A>,
    /// What is run.
    pub studies: BTreeMap<String, S>,
    /// What the paper says, and how it is tested.
    pub claims: Vec<Claim>,
}

impl<A, S> Experiment<A, S> {
    /// What the bench needs to know of it.
    #[must_use]
    pub fn header(&self) -> Header {
        Header {
            paper: self.paper.clone(),
            scale: self.scale,
            about: self.about.clone(),
            data: self.data.clone(),
            seed: self.seed,
            seeds: self.seeds,
            claims: self.claims.clone(),
        }
    }
}
