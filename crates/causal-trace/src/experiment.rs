//! The experiment file of this paper: arms, studies, their checks, and the trials that they make.

use anyhow::Result;
use lab::claim::{Claim, Gate};
use lab::config::{ConfigError, Document};
use lab::experiment::Experiment;
use lab::paper::TrialSpec;
use schemars::JsonSchema;
use sd_core::sampling::SamplerKind;
use sd_mini::subject::{SHIPPED, digest, row_seconds};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::components::{Reading, TextPart};
use crate::corruption::{Mode, Sigma};
use crate::lockstep::Half;
use crate::probes::{self, Attribute, Probe};
use crate::trace::Control;

/// `experiments/causal-trace/*.yaml`.
pub type TraceExperiment = Experiment<Arm, Study>;

/// Version of the method: raised when a change moves numbers.
const METHOD: u32 = 3;
/// The role of the model that is traced.
pub(crate) const MODEL: &str = "model";
/// The role of who judges.
pub(crate) const JUDGE: &str = "judge";

/// What is compared: an attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Name in tables and figures.
    pub label: String,
    /// The attribute whose words are destroyed and looked for.
    pub attribute: Attribute,
}

/// One part of the protocol.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Study {
    /// What must hold exactly.
    Identities(IdentityStudy),
    /// Restoration in the UNet.
    Unet(UnetStudy),
    /// Restoration in the text encoder.
    Text(TextStudy),
    /// How much noise it takes.
    Sweep(SweepStudy),
}

/// The identities of the specification's section 7, on the model that is traced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityStudy {
    /// Steps of the sampler.
    pub steps: usize,
    /// Millions of bytes that activations may take; no limit where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
}

/// How pictures are made and subjects destroyed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Making {
    /// Steps of the sampler.
    pub steps: usize,
    /// g in `uncond + g·(cond − uncond)`.
    pub guidance: f64,
    /// The sampler.
    #[serde(default)]
    pub sampler: Sampler,
    /// Where the noise goes.
    #[serde(default)]
    pub mode: Mode,
    /// How much of it.
    #[serde(default)]
    pub sigma: Sigma,
    /// Millions of bytes that activations may take; no limit where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
}

/// Samplers whose steps take no fresh noise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sampler {
    /// DDIM with η = 0.
    #[default]
    Ddim,
    /// Pseudo linear multistep, the default of Stable Diffusion 1.4's pipeline: one evaluation more than there are steps.
    Pndm,
    /// Euler's method.
    Euler,
    /// DPM-Solver++ of second order.
    DpmSolver,
}

impl Sampler {
    /// The engine's name of it.
    #[must_use]
    pub fn kind(self) -> SamplerKind {
        match self {
            Self::Ddim => SamplerKind::Ddim,
            Self::Pndm => SamplerKind::Pndm,
            Self::Euler => SamplerKind::Euler,
            Self::DpmSolver => SamplerKind::DpmSolver,
        }
    }
}

/// Which captions are traced, and which of them count.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Captions {
    /// Captions of each attribute.
    pub count: usize,
    /// Least total effect, in cosines of the judge, for a recovery of the CLIP-Score to be defined. Where there are several seeds, and the
    /// standard deviation of the clean picture's score over them is more, that.
    pub floor: f64,
    /// The same for a recovery of the probability that the classifier gives to the attribute's class.
    #[serde(default = "fifth")]
    pub floor_class: f64,
    /// Whether captions count only where the classifier finds the attribute in the clean picture.
    #[serde(default = "yes")]
    pub only_right: bool,
}

impl Captions {
    fn none() -> Self {
        Self { count: 0, floor: 0.0, floor_class: 0.0, only_right: false }
    }
}

fn yes() -> bool {
    true
}

fn fifth() -> f64 {
    0.2
}

/// Components of the UNet are restored, one run each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnetStudy {
    /// The attributes.
    pub arms: Vec<String>,
    /// Their captions.
    pub captions: Captions,
    /// How pictures are made.
    pub making: Making,
    /// Which halves of guidance are restored, each in runs of its own; the first is the trace, and has the controls.
    #[serde(default = "cond")]
    pub halves: Vec<Half>,
    /// How components are read.
    #[serde(default)]
    pub reading: Reading,
    /// Neighbours of one kind restored together.
    #[serde(default = "alone")]
    pub window: usize,
    /// Steps of the sampler in which is restored: the first, and the one behind the last, counted from 0; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restored_steps: Option<[usize; 2]>,
    /// Where values come from: `clean` is the paper's trace, the others are controls.
    pub controls: Vec<Control>,
    /// Recovery above which a component counts as causal for a caption.
    pub above: f64,
    /// How many of the trials keep their pictures, for the galleries.
    #[serde(default)]
    pub galleries: usize,
}

fn alone() -> usize {
    1
}

fn cond() -> Vec<Half> {
    vec![Half::Cond]
}

/// States of the text encoder are restored, one run each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TextStudy {
    /// The attributes.
    pub arms: Vec<String>,
    /// Their captions.
    pub captions: Captions,
    /// How pictures are made.
    pub making: Making,
    /// Of what.
    pub parts: Vec<TextPart>,
    /// Recovery above which a state counts as causal for a caption.
    pub above: f64,
}

/// The total effect of more and more noise; nothing is restored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SweepStudy {
    /// The attributes.
    pub arms: Vec<String>,
    /// Captions of each attribute.
    pub captions: usize,
    /// How pictures are made; its `sigma` is not looked at.
    pub making: Making,
    /// The noises.
    pub sigmas: Vec<Sigma>,
}

/// What studies of captions have in common.
struct Common<'a> {
    arms: &'a [String],
    captions: usize,
    /// Least total effects.
    floors: [f64; 2],
    making: &'a Making,
}

impl Study {
    /// Its name in the file, and what it has in common with others.
    fn parts(&self) -> (&'static str, Option<Common<'_>>) {
        let common = |arms, captions: &Captions, making| {
            let floors = [captions.floor, captions.floor_class];
            Some(Common { arms, captions: captions.count, floors, making })
        };
        match self {
            Self::Identities(_) => ("identities", None),
            Self::Unet(study) => ("unet", common(&study.arms, &study.captions, &study.making)),
            Self::Text(study) => ("text", common(&study.arms, &study.captions, &study.making)),
            Self::Sweep(SweepStudy { arms, captions, making, .. }) => {
                ("sweep", Some(Common { arms, captions: *captions, floors: [0.0; 2], making }))
            }
        }
    }
}

/// Decodes and checks an experiment.
///
/// # Errors
/// As [`lab::paper::Paper::open`].
pub fn open(document: &Document) -> std::result::Result<TraceExperiment, ConfigError> {
    document.check_finite()?;
    let experiment: TraceExperiment = document.decode()?;
    if experiment.seeds == 0 {
        return Err(document.error_at("seeds", "at least 1", 0, ""));
    }
    for role in [MODEL, JUDGE] {
        if !experiment.data.contains_key(role) {
            let expected = format!("a key `{role}`: `sd-mini`, or a folder");
            return Err(document.error_at("data", expected, "nothing of that name", "add it"));
        }
    }
    for (name, study) in &experiment.studies {
        check_study(document, &experiment, name, study)?;
    }
    check_claims(document, &experiment)?;
    Ok(experiment)
}

fn check_study(
    document: &Document,
    experiment: &TraceExperiment,
    name: &str,
    study: &Study,
) -> std::result::Result<(), ConfigError> {
    let (kind, parts) = study.parts();
    let path = |key: &str| format!("studies.{name}.{kind}.{key}");
    let refuse =
        |key: &str, expected: &str, found: String| Err(document.error_at(&path(key), expected, found, ""));
    let Some(Common { arms, captions, floors, making }) = parts else { return Ok(()) };
    for (index, arm) in arms.iter().enumerate() {
        let Some(found) = experiment.arms.get(arm) else {
            let known: Vec<&str> = experiment.arms.keys().map(String::as_str).collect();
            let expected = format!("one of {}", known.join(", "));
            return Err(document.error_at(
                &path(&format!("arms.{index}")),
                expected,
                arm,
                "add it under `arms:`",
            ));
        };
        let there = captions_of(&experiment.data[MODEL], found.attribute, 0).len();
        if captions > there {
            let expected = format!("at most {there}, which is how many captions there are of `{arm}`");
            return refuse(captions_key(study), &expected, captions.to_string());
        }
    }
    if captions == 0 {
        return refuse(captions_key(study), "at least 1", "0".to_owned());
    }
    if floors.iter().any(|floor| *floor < 0.0) {
        return refuse("captions", "floors of at least 0", format!("{floors:?}"));
    }
    if making.steps == 0 {
        return refuse("making.steps", "at least 1", "0".to_owned());
    }
    match study {
        Study::Unet(study) => {
            check_unet(study).map_or(Ok(()), |(key, expected, found)| refuse(key, expected, found))
        }
        Study::Text(study) if study.parts.is_empty() => refuse("parts", "at least one", "none".to_owned()),
        Study::Text(study) if !matches!(study.making.mode, Mode::TokenEmbed | Mode::Swap) => refuse(
            "making.mode",
            "token_embed or swap: noise on the text encoder's output comes behind all that could be restored",
            study.making.mode.name().to_owned(),
        ),
        Study::Sweep(study) if study.sigmas.is_empty() => refuse("sigmas", "at least one", "none".to_owned()),
        _ => Ok(()),
    }
}

fn captions_key(study: &Study) -> &'static str {
    if matches!(study, Study::Sweep(_)) { "captions" } else { "captions.count" }
}

/// The key that is wrong, what was expected, and what was found.
fn check_unet(study: &UnetStudy) -> Option<(&'static str, &'static str, String)> {
    fn twice<T: PartialEq>(all: &[T]) -> bool {
        (1..all.len()).any(|at| all[..at].contains(&all[at]))
    }
    let names = |controls: &[Control]| controls.iter().map(|one| one.name()).collect::<Vec<_>>().join(", ");
    let halves = || study.halves.iter().map(|half| half.name()).collect::<Vec<_>>().join(", ");
    if !study.controls.contains(&Control::Clean) || twice(&study.controls) {
        return Some((
            "controls",
            "each control once, `clean` among them: the trace itself",
            names(&study.controls),
        ));
    }
    if study.halves.is_empty() || twice(&study.halves) {
        return Some(("halves", "at least one of cond, uncond and both, each once", halves()));
    }
    if study.controls.contains(&Control::OwnLatent) && study.halves[0] == Half::Uncond {
        return Some((
            "halves",
            "cond or both first: values of a run's own latents differ there alone",
            halves(),
        ));
    }
    if study.making.guidance <= 1.0 && study.halves != [Half::Cond] {
        return Some((
            "halves",
            "cond alone, since there is no other half at guidance 1 and below",
            halves(),
        ));
    }
    if let Some([first, end]) = study.restored_steps
        && (first >= end || end > study.making.steps)
    {
        let expected = "the first step and the one behind the last, as in [0, 2], within the sampler's steps";
        return Some((
            "restored_steps",
            expected,
            format!("[{first}, {end}] of {} steps", study.making.steps),
        ));
    }
    (study.window == 0).then(|| ("window", "at least 1", "0".to_owned()))
}

/// The captions of an attribute: those of its own world for what ships, else those after the paper's templates.
pub(crate) fn captions_of(model: &str, attribute: Attribute, seed: u64) -> Vec<Probe> {
    if model == SHIPPED { probes::of_world(attribute, seed) } else { probes::of_paper(attribute, seed) }
}

/// What rows carry in the place of an arm, beside the attributes.
const DERIVED: [&str; 16] = [
    "model",
    "resnet",
    "attn1",
    "attn2",
    "ff",
    "down",
    "mid",
    "up",
    "cond",
    "uncond",
    "both",
    "first_attention",
    "other_state",
    "mlp_state",
    "self_attn",
    "mlp",
];

fn check_claims(document: &Document, experiment: &TraceExperiment) -> std::result::Result<(), ConfigError> {
    let arms: Vec<&str> = {
        let controls = Control::ALL.map(Control::name);
        experiment.arms.keys().map(String::as_str).chain(DERIVED).chain(controls).collect()
    };
    let studies: Vec<&str> = experiment.studies.keys().map(String::as_str).collect();
    if let Some((path, message)) =
        lab::judge::validate(&experiment.claims, &arms, &studies).into_iter().next()
    {
        return Err(document.error_at(&path, message, "something else", ""));
    }
    for (index, claim) in experiment.claims.iter().enumerate() {
        if let Some((gate, expected, found)) = other_noise(experiment, claim) {
            let help = "the sweep says what that noise does to the subject: have it look at the noise of the study, and the study's among its sigmas";
            let path = format!("claims.{index}.gates.{gate}.where.at");
            return Err(document.error_at(&path, expected, found, help));
        }
    }
    Ok(())
}

/// A gate that reads the sweep at another noise than the study has that its claim is about: its number, the study's noise, and its own.
fn other_noise(experiment: &TraceExperiment, claim: &Claim) -> Option<(usize, String, String)> {
    let traced = |gate: &Gate| match experiment.studies.get(gate.only.study.as_ref()?)? {
        Study::Unet(UnetStudy { making, .. }) | Study::Text(TextStudy { making, .. }) => Some(making.sigma),
        _ => None,
    };
    let swept = |gate: &Gate| match experiment.studies.get(gate.only.study.as_ref()?)? {
        Study::Sweep(_) => read_at(gate),
        _ => None,
    };
    let sigma = claim.gates.iter().find_map(traced)?;
    let other = |gate: &Gate| swept(gate).filter(|found| *found != sigma);
    let (index, found) =
        claim.gates.iter().enumerate().find_map(|(index, gate)| Some((index, other(gate)?)))?;
    Some((index, sigma.to_string(), found.to_string()))
}

/// The noise at which a gate reads a sweep.
fn read_at(gate: &Gate) -> Option<Sigma> {
    let at = gate.only.at?;
    match gate.only.tags.get("unit").map(String::as_str) {
        Some("abs") => Some(Sigma::Absolute(at)),
        _ => Some(Sigma::Deviations(at)),
    }
}

/// The trials of every study, longest first.
///
/// # Errors
/// Where the model is not there.
pub fn trials(experiment: &TraceExperiment) -> Result<Vec<TrialSpec>> {
    let (model, judge) = (&experiment.data[MODEL], &experiment.data[JUDGE]);
    let digests = json!({"model": digest(MODEL, model)?, "judge": digest(JUDGE, judge)?});
    let row_seconds = row_seconds(MODEL, model);
    let mut trials = Vec::new();
    for (name, study) in &experiment.studies {
        let base = |arm: &str, case: String, seed: u64, config: serde_json::Value, seconds: f64| TrialSpec {
            study: name.clone(),
            arm: arm.to_owned(),
            case,
            seed,
            config: json!({"method": METHOD, "weights": digests, "study": config}),
            seconds,
            bytes: 120_000,
        };
        let Some(Common { arms, captions, making, .. }) = study.parts().1 else {
            let seconds = 2.0 * 150.0 * 2.0 * row_seconds;
            trials.push(base("model", String::new(), experiment.seed, json!(study), seconds));
            continue;
        };
        let seconds = runs(study) as f64 * 2.0 * making.steps as f64 * row_seconds;
        for arm in arms {
            for index in 0..captions {
                for seed in 0..u64::from(experiment.seeds) {
                    let mut config =
                        json!({"study": without_arms(study), "attribute": experiment.arms[arm].attribute});
                    config["experiment seed"] = experiment.seed.into();
                    // Pictures are kept of some trials only.
                    config["gallery"] = has_gallery(study, index, seed).into();
                    let case = format!("{arm}-{index:02}");
                    trials.push(base(arm, case, experiment.seed + seed, config, seconds));
                }
            }
        }
    }
    // Long trials first: a pool that ends on short ones ends together. The sort is stable, so the order is fixed.
    trials.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Ok(trials)
}

/// Whether a trial keeps its pictures: the first captions of each attribute, at the first seed.
pub(crate) fn has_gallery(study: &Study, index: usize, seed: u64) -> bool {
    matches!(study, Study::Unet(study) if index < study.galleries && seed == 0)
}

/// About how many runs a trial has.
fn runs(study: &Study) -> usize {
    match study {
        Study::Identities(_) => 80,
        Study::Unet(study) => 70 * study.controls.len() + 72 * study.halves.len() - 70,
        Study::Text(study) => 2 + 6 * 5 * study.parts.len(),
        Study::Sweep(study) => 1 + study.sigmas.len(),
    }
}

/// What of a study a trial depends on: adding an attribute or a caption leaves the trials that are done alone, and so does another floor or
/// threshold, which only what follows from the rows depends on.
fn without_arms(study: &Study) -> Study {
    let mut study = study.clone();
    match &mut study {
        Study::Identities(_) => {}
        Study::Unet(study) => {
            (study.arms, study.captions, study.galleries) = (Vec::new(), Captions::none(), 0);
            study.above = 0.0;
        }
        Study::Text(study) => {
            (study.arms, study.captions, study.above) = (Vec::new(), Captions::none(), 0.0);
        }
        Study::Sweep(study) => (study.arms, study.captions) = (Vec::new(), 0),
    }
    study
}
