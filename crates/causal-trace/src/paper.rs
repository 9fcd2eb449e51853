//! The paper as the bench knows it: how its experiment is read, planned, run and shown.

use std::path::Path;

use lab::config::{ConfigError, Document};
use lab::paper::{Header, Outcome, Paper, Presentation, Reproduction, TrialContext, TrialSpec};
use lab::row::Row;
use sd_mini::subject;

use crate::experiment::{self, JUDGE, MODEL, TraceExperiment};
use crate::{run, show};

/// The paper.
pub const CAUSAL_TRACE: &dyn Paper = &CausalTrace;

struct CausalTrace;

impl Paper for CausalTrace {
    fn id(&self) -> &'static str {
        "causal-trace"
    }

    fn title(&self) -> &'static str {
        "Localizing and Editing Knowledge in Text-to-Image Generative Models: causal tracing"
    }

    fn citation(&self) -> &'static str {
        "S. Basu, N. Zhao, V. Morariu, S. Feizi, V. Manjunatha. International Conference on Learning Representations, 2024. \
         arXiv:2310.13730"
    }

    fn schema(&self) -> serde_json::Value {
        lab::schema::of::<TraceExperiment>()
    }

    fn open(&self, document: &Document) -> Result<Box<dyn Reproduction>, ConfigError> {
        Ok(Box::new(Opened { experiment: experiment::open(document)? }))
    }
}

struct Opened {
    experiment: TraceExperiment,
}

impl Reproduction for Opened {
    fn header(&self) -> Header {
        self.experiment.header()
    }

    fn resolved(&self) -> serde_json::Value {
        serde_json::to_value(&self.experiment).unwrap_or_default()
    }

    fn trials(&self, _: &Path) -> anyhow::Result<Vec<TrialSpec>> {
        experiment::trials(&self.experiment)
    }

    fn check_data(&self, _: &Path) -> anyhow::Result<()> {
        let data = &self.experiment.data;
        subject::check((MODEL, &data[MODEL]), (JUDGE, &data[JUDGE]))
    }

    fn run(&self, trial: &TrialSpec, context: &mut TrialContext) -> anyhow::Result<()> {
        run::run(&self.experiment, trial, context)
    }

    fn derived(&self, rows: &[Row]) -> Vec<Row> {
        crate::sets::derived(&self.experiment, rows)
    }

    fn present(&self, outcome: &Outcome) -> anyhow::Result<Presentation> {
        show::present(&self.experiment, outcome)
    }
}
