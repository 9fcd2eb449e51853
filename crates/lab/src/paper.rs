//! What a paper's crate gives to the bench: a way to read its experiment, its trials, and how to show what came out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};

use crate::claim::Claim;
use crate::experiment::Scale;
use crate::figure::Figure;
use crate::row::{Row, Rows};
use crate::table::Table;

/// One paper, as the runner knows it.
pub trait Paper: Sync {
    /// Short name, as in `cargo xtask reproduce <paper>`.
    fn id(&self) -> &'static str;
    /// Full title.
    fn title(&self) -> &'static str;
    /// How to cite it.
    fn citation(&self) -> &'static str;
    /// JSON schema (draft-07) of the paper's experiment file.
    fn schema(&self) -> serde_json::Value;
    /// Reads, checks and resolves an experiment. Errors name file, line and column (see [`crate::config`]).
    ///
    /// # Errors
    /// On an unknown key, a value of the wrong type or out of range, or a reference to an arm or study that is not there.
    fn open(
        &self,
        document: &crate::config::Document,
    ) -> Result<Box<dyn Reproduction>, crate::config::ConfigError>;
}

/// An experiment that was read and checked.
pub trait Reproduction: Send + Sync {
    /// What the bench needs to know of the experiment.
    fn header(&self) -> Header;
    /// The whole configuration with every default written out. Equal configurations give equal values.
    fn resolved(&self) -> serde_json::Value;
    /// The trials, in the order in which they are best started. Their keys hold a digest of the data below `data`; where a
    /// data set is absent the plan is made all the same, with a note of that in the place of its digest.
    ///
    /// # Errors
    /// Where the studies name something that cannot be planned.
    fn trials(&self, data: &Path) -> anyhow::Result<Vec<TrialSpec>>;
    /// Checks that the data is there and is what its manifest says, before the first trial starts.
    ///
    /// # Errors
    /// Names the two ways to get the data.
    fn check_data(&self, data: &Path) -> anyhow::Result<()>;
    /// Runs one trial, writing rows through the context.
    ///
    /// # Errors
    /// Any failure of the trial; it costs this trial only.
    fn run(&self, trial: &TrialSpec, context: &mut TrialContext) -> anyhow::Result<()>;
    /// Rows that follow from those of all trials together, where a claim is about something that no trial can see alone (a set of
    /// components that is determined over captions, say). They are judged and shown with the others, and not stored.
    fn derived(&self, rows: &[Row]) -> Vec<Row> {
        let _ = rows;
        Vec::new()
    }
    /// Makes tables and figures of what came out. Rows may be incomplete where trials failed.
    ///
    /// # Errors
    /// Where a table or figure cannot be made.
    fn present(&self, outcome: &Outcome) -> anyhow::Result<Presentation>;
}

/// What every experiment has, whatever the paper.
#[derive(Clone, Debug, Serialize)]
pub struct Header {
    /// The paper's short name.
    pub paper: String,
    /// Scale.
    pub scale: Scale,
    /// What is run and how it differs from the published protocol.
    pub about: String,
    /// Data sets by role.
    pub data: BTreeMap<String, String>,
    /// Seed of the experiment.
    pub seed: u64,
    /// Number of seeds.
    pub seeds: u32,
    /// Claims.
    pub claims: Vec<Claim>,
}

/// The unit of work, of resume, of failure and of distribution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialSpec {
    /// Name of the study.
    pub study: String,
    /// Name of the arm.
    pub arm: String,
    /// Name of the case, or empty.
    pub case: String,
    /// Seed.
    pub seed: u64,
    /// Everything that determines the trial's rows: resolved arm and study, digest of the data, version of the method. Hashed
    /// into the trial's key.
    pub config: serde_json::Value,
    /// Expected seconds on one core, for `--dry-run` and the time left. Not part of the key.
    pub seconds: f64,
    /// Expected bytes written. Not part of the key.
    pub bytes: u64,
}

/// What a running trial may touch.
pub struct TrialContext {
    /// Where the data sets lie.
    pub data: PathBuf,
    /// `cpu` or `cuda:n`, already resolved.
    pub device: String,
    /// Threads this trial may use.
    pub threads: usize,
    pub(crate) sink: crate::trial::Sink,
}

/// What came out of the trials.
pub struct Outcome {
    /// Every row of every finished trial, in a fixed order.
    pub rows: Vec<Row>,
    /// Folders of the finished trials by key, for their artifacts.
    pub trials: BTreeMap<String, PathBuf>,
}

impl Outcome {
    /// The galleries that trials of these rows kept, `gallery.png` and what `gallery.json` says of it, by the trial's case; of trials whose
    /// folders are there.
    ///
    /// # Errors
    /// Where a file cannot be read or is no JSON.
    pub fn galleries(&self, rows: &Rows<'_>) -> anyhow::Result<Vec<Gallery>> {
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        for row in &rows.0 {
            let folder = self.trials.get(&row.trial).filter(|_| seen.insert(row.trial.as_str()));
            let Some(path) = folder.map(|folder| folder.join("gallery.png")).filter(|path| path.is_file())
            else {
                continue;
            };
            let png = std::fs::read(&path).with_context(|| path.display().to_string())?;
            let told = path.with_extension("json");
            let text = std::fs::read_to_string(&told).with_context(|| told.display().to_string())?;
            let told = serde_json::from_str(&text).with_context(|| told.display().to_string())?;
            all.push(Gallery { case: row.case.clone(), told, png });
        }
        all.sort_by(|a, b| a.case.cmp(&b.case));
        Ok(all)
    }
}

/// A gallery that a trial kept.
#[derive(Clone, Debug)]
pub struct Gallery {
    /// The trial's case.
    pub case: String,
    /// What is seen, as the trial wrote it.
    pub told: serde_json::Value,
    /// A PNG file, whole.
    pub png: Vec<u8>,
}

impl Gallery {
    /// A text that the trial wrote; empty where it wrote none.
    #[must_use]
    pub fn text(&self, key: &str) -> &str {
        self.told[key].as_str().unwrap_or_default()
    }

    /// A list that the trial wrote, joined.
    #[must_use]
    pub fn list(&self, key: &str, between: &str) -> String {
        let parts: Vec<&str> =
            self.told[key].as_array().into_iter().flatten().filter_map(|part| part.as_str()).collect();
        parts.join(between)
    }
}

/// How a paper shows its outcome.
#[derive(Clone, Debug, Default)]
pub struct Presentation {
    /// Tables, in reading order.
    pub tables: Vec<Table>,
    /// Figures, in reading order.
    pub figures: Vec<Figure>,
    /// Pictures, in reading order.
    pub pictures: Vec<Picture>,
    /// Explanations of every metric: name, meaning and unit.
    pub metrics: Vec<(String, String)>,
    /// Paragraphs on the protocol: what was run, how it differs from the paper, what to keep in mind.
    pub protocol: Vec<String>,
}

/// A picture shown in the report.
#[derive(Clone, Debug)]
pub struct Picture {
    /// File stem under `figures/`.
    pub id: String,
    /// Heading.
    pub title: String,
    /// What is seen.
    pub caption: String,
    /// A PNG file, whole.
    pub png: Vec<u8>,
}
