//! The paper as the bench knows it: how its experiment is read, planned, run and shown.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, bail};
use lab::config::{ConfigError, Document};
use lab::paper::{Header, Outcome, Paper, Presentation, Reproduction, TrialContext, TrialSpec};

use crate::experiment::{self, DiffGradExperiment, Study};
use crate::images::train;
use crate::synthetic::Function;
use crate::{identities, show, synthetic};

/// The paper.
pub const DIFFGRAD: &dyn Paper = &DiffGrad;

struct DiffGrad;

impl Paper for DiffGrad {
    fn id(&self) -> &'static str {
        "diffgrad"
    }

    fn title(&self) -> &'static str {
        "diffGrad: An Optimization Method for Convolutional Neural Networks"
    }

    fn citation(&self) -> &'static str {
        "S. R. Dubey, S. Chakraborty, S. K. Roy, S. Mukherjee, S. K. Singh, B. B. Chaudhuri. IEEE Transactions on Neural \
         Networks and Learning Systems 31(11):4500–4511, 2020. doi:10.1109/TNNLS.2019.2955777, arXiv:1909.11015"
    }

    fn schema(&self) -> serde_json::Value {
        lab::schema::of::<DiffGradExperiment>()
    }

    fn open(&self, document: &Document) -> Result<Box<dyn Reproduction>, ConfigError> {
        Ok(Box::new(Opened { experiment: experiment::open(document)? }))
    }
}

struct Opened {
    experiment: DiffGradExperiment,
}

impl Reproduction for Opened {
    fn header(&self) -> Header {
        self.experiment.header()
    }

    fn resolved(&self) -> serde_json::Value {
        let mut resolved = self.experiment.clone();
        for arm in resolved.arms.values_mut() {
            arm.optimiser = arm.optimiser.resolved();
        }
        serde_json::to_value(&resolved).unwrap_or_default()
    }

    fn trials(&self, data: &Path) -> anyhow::Result<Vec<TrialSpec>> {
        experiment::trials(&self.experiment, data)
    }

    fn check_data(&self, data: &Path) -> anyhow::Result<()> {
        for name in used_data(&self.experiment) {
            worlds::classification::check(name, data)?;
        }
        Ok(())
    }

    fn run(&self, trial: &TrialSpec, context: &mut TrialContext) -> anyhow::Result<()> {
        if context.device != "cpu" {
            bail!("diffgrad trains on the CPU in this build, not on `{}`; use --device cpu", context.device);
        }
        let study = self.experiment.studies.get(&trial.study).context("the experiment has no such study")?;
        match study {
            Study::Identities(study) => identities::run(study, context),
            Study::Synthetic(study) => {
                let function = Function::ALL.into_iter().find(|function| function.name() == trial.case);
                let rule = |arm: &String| (arm.clone(), self.experiment.arms[arm].optimiser.rule);
                let arms: Vec<_> = study.arms.iter().map(rule).collect();
                synthetic::replay::run(study, function.context("no such function")?, &arms, context)
            }
            Study::Images(study) => {
                let arm = &self.experiment.arms[&trial.arm];
                let run = train::Run {
                    study,
                    data: &self.experiment.data[&study.data],
                    optimiser: &arm.optimiser,
                    activation: arm.activation,
                    seed: trial.seed,
                };
                train::train(&run, context)
            }
        }
    }

    fn present(&self, outcome: &Outcome) -> anyhow::Result<Presentation> {
        show::present(&self.experiment, &outcome.rows)
    }
}

/// The data sets that some study uses.
fn used_data(experiment: &DiffGradExperiment) -> impl Iterator<Item = &str> {
    let roles: BTreeMap<&str, ()> = experiment
        .studies
        .values()
        .filter_map(
            |study| if let Study::Images(study) = study { Some((study.data.as_str(), ())) } else { None },
        )
        .collect();
    roles.into_keys().filter_map(|role| experiment.data.get(role).map(String::as_str))
}
