//! The experiment file of this paper: arms, studies, their checks, and the trials that they make.

use anyhow::Result;
use lab::config::{ConfigError, Document};
use lab::experiment::Experiment;
use lab::paper::TrialSpec;
use schemars::JsonSchema;
use sd_mini::subject::{digest, row_seconds};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::methods::{Making, Method};
use crate::suites::{self, Set};

/// `experiments/diff-quickfix/*.yaml`.
pub type QuickfixExperiment = Experiment<Arm, Study>;

/// Version of the method: raised when a change moves numbers.
const METHOD: u32 = 2;
/// The role of the model that is edited.
pub(crate) const MODEL: &str = "model";
/// The role of who judges.
pub(crate) const JUDGE: &str = "judge";
/// What stands in the place of an arm where a row is about the model.
pub(crate) const ABOUT_MODEL: &str = "model";

/// What is compared: a method and its settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Name in tables and figures.
    pub label: String,
    /// The method.
    pub method: Method,
}

/// One part of the protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Study {
    /// What must hold exactly.
    Identities(IdentityStudy),
    /// One concept at a time, by every method.
    Editing(EditingStudy),
    /// Many concepts at once.
    Joint(JointStudy),
}

/// The identities of the specification's section 9, on the model that is edited.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityStudy {
    /// The concepts; the first is edited alone.
    pub edits: Vec<String>,
    /// λ.
    pub lambda: f64,
}

/// How many captions of each set are asked about. 0 leaves a set out.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asking {
    /// The concept as it was trained.
    pub phrase: usize,
    /// In other words.
    pub paraphrase: usize,
    /// The concept first.
    pub concept_first: usize,
    /// Other concepts of the suite.
    pub surrounding: usize,
    /// The rest of the world.
    pub unrelated: usize,
    /// What the concept is to act as.
    pub anchor: usize,
}

impl Asking {
    /// How many of a set.
    #[must_use]
    pub fn of(&self, set: Set) -> usize {
        match set {
            Set::Phrase => self.phrase,
            Set::Paraphrase => self.paraphrase,
            Set::ConceptFirst => self.concept_first,
            Set::Surrounding => self.surrounding,
            Set::Unrelated => self.unrelated,
            Set::Anchor => self.anchor,
        }
    }

    fn all(&self) -> usize {
        Set::ALL.iter().map(|&set| self.of(set)).sum()
    }
}

/// When a training counts as having matched the reference. It goes on to its last step all the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Matching {
    /// Steps between two looks at the pictures.
    pub every: usize,
    /// It has when it erases the concept in as many pictures as the reference, less this share.
    pub within: f64,
}

/// One concept at a time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EditingStudy {
    /// The methods. The first one that edits is the reference: ratios of time and work are to it, and trainings are watched for when they reach it.
    pub arms: Vec<String>,
    /// The concepts, by name with `_` for blanks.
    pub edits: Vec<String>,
    /// Captions.
    pub asking: Asking,
    /// How pictures are made.
    pub making: Making,
    /// When trainings have matched the reference; not looked at where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matching: Option<Matching>,
    /// How many of the edits keep pictures, for the galleries.
    #[serde(default)]
    pub galleries: usize,
}

/// Many concepts at once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JointStudy {
    /// The method.
    pub arm: String,
    /// How many concepts; which ones is drawn by the seed, and larger numbers hold those of smaller ones.
    pub counts: Vec<usize>,
    /// Captions: `phrase` of each edited concept, `surrounding` of those that are not edited in all, `unrelated`.
    pub asking: Asking,
    /// How pictures are made.
    pub making: Making,
}

/// Decodes and checks an experiment.
///
/// # Errors
/// As [`lab::paper::Paper::open`].
pub fn open(document: &Document) -> std::result::Result<QuickfixExperiment, ConfigError> {
    document.check_finite()?;
    let experiment: QuickfixExperiment = document.decode()?;
    if experiment.seeds == 0 {
        return Err(document.error_at("seeds", "at least 1", 0, ""));
    }
    for role in [MODEL, JUDGE] {
        if !experiment.data.contains_key(role) {
            let expected = format!("a key `{role}`: `sd-mini`, or a folder");
            return Err(document.error_at("data", expected, "nothing of that name", "add it"));
        }
    }
    for (name, arm) in &experiment.arms {
        if let Some((key, expected, found)) = fault(&arm.method) {
            return Err(document.error_at(&format!("arms.{name}.method.{key}"), expected, found, ""));
        }
    }
    for (name, study) in &experiment.studies {
        check_study(document, &experiment, name, study)?;
    }
    let arms: Vec<&str> = experiment.arms.keys().map(String::as_str).chain([ABOUT_MODEL]).collect();
    let studies: Vec<&str> = experiment.studies.keys().map(String::as_str).collect();
    match lab::judge::validate(&experiment.claims, &arms, &studies).into_iter().next() {
        Some((path, message)) => Err(document.error_at(&path, message, "something else", "")),
        None => Ok(experiment),
    }
}

/// The key of a method that is wrong, what was expected, and what was found.
fn fault(method: &Method) -> Option<(&'static str, &'static str, String)> {
    let positive = |key, value: f64| (value <= 0.0).then(|| (key, "a number above 0", value.to_string()));
    let some = |key, value: usize| (value == 0).then(|| (key, "at least 1", "0".to_owned()));
    match method {
        Method::Unedited | Method::EmbeddingCopy => None,
        Method::DiffQuickfix(settings) => positive("diff_quickfix.lambda", settings.lambda),
        Method::GradientDescent(one) => positive("gradient_descent.settings.lambda", one.settings.lambda)
            .or(positive("gradient_descent.lr", one.lr))
            .or(some("gradient_descent.steps", one.steps)),
        Method::Uce(one) => positive("uce.lambda", one.lambda),
        Method::Time(one) => positive("time.lambda", one.lambda),
        Method::LocoEdit(one) => positive("loco_edit.lambda", one.lambda),
        Method::ConceptAblation(one) => positive("concept_ablation.lr", one.lr)
            .or(some("concept_ablation.steps", one.steps))
            .or(some("concept_ablation.batch", one.batch))
            .or(some("concept_ablation.anchors", one.anchors)),
        Method::Esd(one) => positive("esd.lr", one.lr)
            .or(some("esd.steps", one.steps))
            .or(some("esd.sampler_steps", one.sampler_steps)),
    }
}

fn check_study(
    document: &Document,
    experiment: &QuickfixExperiment,
    name: &str,
    study: &Study,
) -> std::result::Result<(), ConfigError> {
    let (kind, arms, edits, making) = match study {
        Study::Identities(study) => ("identities", Vec::new(), study.edits.clone(), None),
        Study::Editing(study) => ("editing", study.arms.clone(), study.edits.clone(), Some(study.making)),
        Study::Joint(study) => ("joint", vec![study.arm.clone()], Vec::new(), Some(study.making)),
    };
    let path = |key: &str| format!("studies.{name}.{kind}.{key}");
    for arm in &arms {
        if !experiment.arms.contains_key(arm) {
            let known: Vec<&str> = experiment.arms.keys().map(String::as_str).collect();
            let key = if kind == "joint" { "arm" } else { "arms" };
            return Err(document.error_at(
                &path(key),
                format!("some of {}", known.join(", ")),
                arm,
                "add it under `arms:`",
            ));
        }
    }
    if let Some(edit) = edits.iter().find(|edit| suites::named(edit).is_none()) {
        let known: Vec<String> = suites::all(0).into_iter().map(|item| item.name).collect();
        return Err(document.error_at(&path("edits"), format!("some of {}", known.join(", ")), edit, ""));
    }
    if let Study::Editing(study) = study
        && let Some(&set) =
            Set::ALL.iter().find(|&&set| set.has_concept() && study.asking.of(set) > suites::JUDGED)
    {
        let expected = format!("at most {}, which trainings keep off", suites::JUDGED);
        let key = path(&format!("asking.{}", set.name()));
        return Err(document.error_at(&key, expected, study.asking.of(set), ""));
    }
    if let Some(making) = making.filter(|making| making.steps == 0) {
        return Err(document.error_at(&path("making.steps"), "at least 1", making.steps, ""));
    }
    match study {
        Study::Editing(study)
            if !study.arms.iter().any(|arm| experiment.arms[arm].method == Method::Unedited) =>
        {
            Err(document.error_at(
                &path("arms"),
                "an arm `unedited` among them, which all are compared with",
                "none",
                "",
            ))
        }
        Study::Editing(study) if study.asking.phrase == 0 => {
            Err(document.error_at(&path("asking.phrase"), "at least 1", 0, ""))
        }
        Study::Joint(study) => {
            let most = suites::all(0).len();
            match study.counts.iter().find(|&&count| count == 0 || count > most) {
                Some(count) => {
                    Err(document.error_at(&path("counts"), format!("numbers from 1 to {most}"), count, ""))
                }
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// The trials of every study, longest first.
///
/// # Errors
/// Where the model is not there.
pub fn trials(experiment: &QuickfixExperiment) -> Result<Vec<TrialSpec>> {
    let (model, judge) = (&experiment.data[MODEL], &experiment.data[JUDGE]);
    let digests = json!({"model": digest(MODEL, model)?, "judge": digest(JUDGE, judge)?});
    let row = row_seconds(MODEL, model);
    let picture = |making: Making| 2.0 * making.steps as f64 * row;
    let mut trials = Vec::new();
    for (name, study) in &experiment.studies {
        let mut add = |arm: &str, case: String, seed: u64, config: serde_json::Value, seconds: f64| {
            trials.push(TrialSpec {
                study: name.clone(),
                arm: arm.to_owned(),
                case,
                seed,
                config: json!({"method": METHOD, "weights": digests, "study": config, "experiment seed": experiment.seed}),
                seconds,
                bytes: 100_000,
            });
        };
        let seeds = experiment.seed..experiment.seed + u64::from(experiment.seeds);
        match study {
            Study::Identities(_) => add(ABOUT_MODEL, String::new(), experiment.seed, json!(study), 5.0),
            Study::Editing(editing) => {
                let arms: Vec<&Arm> = editing.arms.iter().map(|arm| &experiment.arms[arm]).collect();
                let trainings: f64 = arms.iter().map(|arm| training_seconds(&arm.method, editing, row)).sum();
                let seconds =
                    arms.len() as f64 * editing.asking.all() as f64 * picture(editing.making) + trainings;
                for (index, edit) in editing.edits.iter().enumerate() {
                    for seed in seeds.clone() {
                        let settings = EditingStudy { edits: Vec::new(), galleries: 0, ..editing.clone() };
                        let keeps = has_gallery(editing, index, seed - experiment.seed);
                        let config = json!({"study": settings, "arms": arms, "edit": edit, "gallery": keeps});
                        add(&editing.arms[0], edit.clone(), seed, config, seconds);
                    }
                }
            }
            Study::Joint(joint) => {
                for &count in &joint.counts {
                    for seed in seeds.clone() {
                        let settings = JointStudy { counts: Vec::new(), ..joint.clone() };
                        let config =
                            json!({"study": settings, "arm": experiment.arms[&joint.arm], "count": count});
                        let pictures =
                            joint.asking.phrase * count + joint.asking.surrounding + joint.asking.unrelated;
                        let seconds = 2.0 * pictures as f64 * picture(joint.making);
                        add(&joint.arm, format!("{count:02}"), seed, config, seconds);
                    }
                }
            }
        }
    }
    // Long trials first: a pool that ends on short ones ends together. The sort is stable, so the order is fixed.
    trials.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Ok(trials)
}

/// Whether a trial keeps its pictures: the first edits, at the first seed.
pub(crate) fn has_gallery(study: &EditingStudy, index: usize, seed: u64) -> bool {
    index < study.galleries && seed == 0
}

/// What a training is expected to take at most.
fn training_seconds(method: &Method, study: &EditingStudy, row: f64) -> f64 {
    let looks = |steps: usize| {
        study.matching.as_ref().map_or(0.0, |matching| {
            (steps / matching.every.max(1)) as f64
                * study.asking.phrase as f64
                * 2.0
                * study.making.steps as f64
                * row
        })
    };
    match method {
        Method::ConceptAblation(one) => {
            let pictures = one.anchors as f64 * 2.0 * study.making.steps as f64 * row;
            pictures + (one.steps * one.batch * 4) as f64 * row + looks(one.steps)
        }
        Method::Esd(one) => one.steps as f64 * (one.sampler_steps as f64 + 5.0) * row + looks(one.steps),
        _ => 0.1,
    }
}
