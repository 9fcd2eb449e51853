//! The experiment file of this paper: arms, studies, their checks, and the trials that they make.

use std::collections::BTreeMap;
use std::path::Path;

use lab::config::{ConfigError, Document};
use lab::experiment::Experiment;
use lab::paper::TrialSpec;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::identities::IdentityStudy;
use crate::images::ImageStudy;
use crate::images::resnet::{Activation, Network};
use crate::optim::{OptimiserConfig, RuleName};
use crate::synthetic::SyntheticStudy;

/// `experiments/diffgrad/*.yaml`.
pub type DiffGradExperiment = Experiment<Arm, Study>;

/// Version of the method: raised when a change moves numbers, so that old trials are not taken for new ones.
const METHOD: u32 = 1;
/// The same for the image study: from 2 on convolutions of stride 1 go another way (Winograd's), from 3 on long sums are cut at the same
/// places whatever the batch.
const IMAGES_METHOD: u32 = 3;

/// Multiply-accumulates a core is expected to sustain, for `--dry-run`'s estimate only.
const MACS_PER_SECOND: f64 = 8e9;

/// What is compared: an optimiser with its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Name in tables and figures.
    pub label: String,
    /// The optimiser of the image experiments. The synthetic study takes its rule only.
    pub optimiser: OptimiserConfig,
    /// Non-linearity of the network in the image experiments.
    #[serde(default)]
    pub activation: Activation,
}

/// One part of the protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Study {
    /// What must hold exactly.
    Identities(IdentityStudy),
    /// The three one-dimensional functions.
    Synthetic(SyntheticStudy),
    /// Image classification.
    Images(ImageStudy),
}

/// Decodes and checks an experiment.
///
/// # Errors
/// As [`lab::paper::Paper::open`].
pub fn open(document: &Document) -> Result<DiffGradExperiment, ConfigError> {
    document.check_finite()?;
    let experiment: DiffGradExperiment = document.decode()?;
    check_arms(document, &experiment)?;
    for (name, study) in &experiment.studies {
        check_study(document, &experiment, name, study)?;
    }
    check_claims(document, &experiment)?;
    Ok(experiment)
}

fn check_arms(document: &Document, experiment: &DiffGradExperiment) -> Result<(), ConfigError> {
    if experiment.seeds == 0 {
        return Err(document.error_at("seeds", "at least 1", 0, ""));
    }
    for (name, arm) in &experiment.arms {
        if let Err(fault) = arm.optimiser.validate() {
            let path = format!("arms.{name}.optimiser.{}", fault.key);
            return Err(document.error_at(&path, fault.expected, fault.found, ""));
        }
    }
    Ok(())
}

fn check_study(
    document: &Document,
    experiment: &DiffGradExperiment,
    name: &str,
    study: &Study,
) -> Result<(), ConfigError> {
    let (kind, fault, arms) = match study {
        Study::Identities(study) => {
            let fault = (study.cases == 0).then(|| ("cases", "at least 1".to_owned(), "0".to_owned()));
            ("identities", fault, &[][..])
        }
        Study::Synthetic(study) => ("synthetic", study.fault(), &study.arms[..]),
        Study::Images(study) => ("images", study.fault(), &study.arms[..]),
    };
    let path = |key: &str| format!("studies.{name}.{kind}.{key}");
    if let Some((key, expected, found)) = fault {
        return Err(document.error_at(&path(key), expected, found, ""));
    }
    for (index, arm) in arms.iter().enumerate() {
        let known = known(experiment.arms.keys());
        let Some(found) = experiment.arms.get(arm) else {
            return Err(document.error_at(
                &path(&format!("arms.{index}")),
                known,
                arm,
                "add it under `arms:`",
            ));
        };
        let scalar = [RuleName::Adam, RuleName::DiffGrad, RuleName::HalfStep].contains(&found.optimiser.rule);
        if matches!(study, Study::Synthetic(_)) && !scalar {
            let rule = found.optimiser.rule.name();
            let expected = "an arm of the rule adam, diffgrad or half_step";
            return Err(document.error_at(&path(&format!("arms.{index}")), expected, rule, ""));
        }
    }
    match study {
        Study::Images(study) => check_data(document, experiment, &path("data"), &study.data),
        _ => Ok(()),
    }
}

fn check_data(
    document: &Document,
    experiment: &DiffGradExperiment,
    path: &str,
    role: &str,
) -> Result<(), ConfigError> {
    let Some(name) = experiment.data.get(role) else {
        let hint = "add it under `data:`";
        return Err(document.error_at(path, known(experiment.data.keys()), role, hint));
    };
    let all = worlds::classification::NAMES;
    if all.contains(&name.as_str()) {
        return Ok(());
    }
    Err(document.error_at(&format!("data.{role}"), format!("one of {}", all.join(", ")), name, ""))
}

fn known<'a>(names: impl Iterator<Item = &'a String>) -> String {
    format!("one of {}", names.map(String::as_str).collect::<Vec<_>>().join(", "))
}

fn check_claims(document: &Document, experiment: &DiffGradExperiment) -> Result<(), ConfigError> {
    let derived = ["adam_minus_diffgrad", "engine"];
    let arms: Vec<&str> = experiment.arms.keys().map(String::as_str).chain(derived).collect();
    let studies: Vec<&str> = experiment.studies.keys().map(String::as_str).collect();
    match lab::judge::validate(&experiment.claims, &arms, &studies).into_iter().next() {
        Some((path, message)) => Err(document.error_at(&path, message, "something else", "")),
        None => Ok(()),
    }
}

/// The trials of every study, longest first.
///
/// # Errors
/// Where a data set has no digest.
pub fn trials(experiment: &DiffGradExperiment, root: &Path) -> anyhow::Result<Vec<TrialSpec>> {
    let mut trials = Vec::new();
    for (name, study) in &experiment.studies {
        match study {
            Study::Identities(study) => trials.push(identity_trial(experiment, name, study)),
            Study::Synthetic(study) => trials.extend(synthetic_trials(experiment, name, study)),
            Study::Images(study) => trials.extend(image_trials(experiment, name, study, root)?),
        }
    }
    // Long trials first: a pool that ends on short ones ends together. The sort is stable, so the order is fixed.
    trials.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Ok(trials)
}

fn identity_trial(experiment: &DiffGradExperiment, name: &str, study: &IdentityStudy) -> TrialSpec {
    TrialSpec {
        study: name.to_owned(),
        arm: "engine".to_owned(),
        case: String::new(),
        seed: experiment.seed,
        config: json!({"method": METHOD, "identities": study}),
        seconds: 0.1,
        bytes: 2_000,
    }
}

fn synthetic_trials(experiment: &DiffGradExperiment, name: &str, study: &SyntheticStudy) -> Vec<TrialSpec> {
    let rules: BTreeMap<&String, RuleName> =
        study.arms.iter().map(|arm| (arm, experiment.arms[arm].optimiser.rule)).collect();
    let spec = |function: &crate::synthetic::Function| TrialSpec {
        study: name.to_owned(),
        arm: "all".to_owned(),
        case: function.name().to_owned(),
        seed: experiment.seed,
        config: json!({"method": METHOD, "synthetic": study, "rules": rules, "function": function}),
        seconds: 0.2,
        bytes: 400_000,
    };
    study.functions.iter().map(spec).collect()
}

fn image_trials(
    experiment: &DiffGradExperiment,
    name: &str,
    study: &ImageStudy,
    root: &Path,
) -> anyhow::Result<Vec<TrialSpec>> {
    let data = &experiment.data[&study.data];
    let digest = digest(data, root)?;
    let seconds = work(study, data) / MACS_PER_SECOND;
    let mut trials = Vec::new();
    for index in 0..u64::from(study.seeds.unwrap_or(experiment.seeds)) {
        for arm in &study.arms {
            let Arm { optimiser, activation, .. } = &experiment.arms[arm];
            trials.push(TrialSpec {
                study: name.to_owned(),
                arm: arm.clone(),
                case: String::new(),
                seed: experiment.seed + index,
                config: json!({
                    "method": IMAGES_METHOD, "images": without_arms(study), "optimiser": optimiser.resolved(),
                    "activation": activation, "data": data, "digest": digest,
                }),
                seconds,
                bytes: 40_000,
            });
        }
    }
    Ok(trials)
}

/// Digest of a data set, or a note that it is not there: a plan needs no data, and no trial starts without it.
fn digest(name: &str, root: &Path) -> anyhow::Result<String> {
    match worlds::classification::digest(name, root) {
        Err(worlds::DataError::Absent { .. }) => Ok("absent".to_owned()),
        other => Ok(other?),
    }
}

/// What of a study a trial depends on: adding an arm or a seed leaves the trials that are done alone.
fn without_arms(study: &ImageStudy) -> ImageStudy {
    ImageStudy { arms: Vec::new(), seeds: None, ..study.clone() }
}

/// Multiply-accumulates of one trial: three forward passes' worth a training image, one a test image.
fn work(study: &ImageStudy, data: &str) -> f64 {
    let macs = match study.network {
        Network::Resnet8 => 0.809e6 * 4.0,
        Network::Resnet50Quarter => 81.45e6,
        Network::Resnet50 => 1297.8e6,
    };
    // The reduced network's figure is for 16 pixels; work goes with the area.
    let area = (study.side as f64 / 32.0).powi(2);
    let classes = if data.ends_with("100") { 100 } else { 10 };
    let train = study.images_per_class.map_or(50_000, |count| count * classes) as f64;
    let test = study.test_images.unwrap_or(10_000) as f64;
    macs * area * (3.0 * train * study.epochs as f64 + test * study.evaluate_last as f64)
}
