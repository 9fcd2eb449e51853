//! `scheduler_config.json` of a diffusers folder: read strictly, turned into another sampler's, written so that diffusers loads it.
//!
//! A scheduler's class takes some fields and has a default for each; a file may hold further ones, of other classes. Those are kept,
//! since turning one scheduler into another (`DDIMScheduler.from_config(pndm.config)` in Python, `--sampler` here) goes by the file:
//! **a field that stands in it holds for the new class too, one that does not has the new class's default.** That is why Euler's sampler
//! made of Stable Diffusion 1.4's configuration has linspace spacing (the file names none) with `steps_offset` 1.
//!
//! A field that no known class has is refused, and so is a value that would change the arithmetic into something not supported.

use std::fmt;

use serde_json::{Map, Value, json};

use super::error::SamplingError;
use super::schedule::{Beta, ScheduleSettings};
use super::settings::{Dpm, LastSigma, Method, Prediction, Settings, Solver, Variance};
use super::spacing::Spacing;
use crate::models::config::{ConfigError, Fields};

/// What diffusers writes beside the fields.
const VERSION: &str = "0.42.1";
/// Fields of schedulers that are not supported, and old names: kept, and without effect on those that are.
const OTHERS: [&str; 7] =
    ["disable_corrector", "predict_x0", "rho", "shift_terminal", "sigma_data", "sigma_schedule", "solver_p"];

/// The samplers, by diffusers' class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SamplerKind {
    /// `DDIMScheduler`.
    Ddim,
    /// `DDIMInverseScheduler`: from a sample to its noise.
    DdimInverse,
    /// `DDPMScheduler`.
    Ddpm,
    /// `PNDMScheduler`.
    Pndm,
    /// `EulerDiscreteScheduler`.
    Euler,
    /// `EulerAncestralDiscreteScheduler`.
    EulerAncestral,
    /// `DPMSolverMultistepScheduler`.
    DpmSolver,
}

impl SamplerKind {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Ddim,
        Self::DdimInverse,
        Self::Ddpm,
        Self::Pndm,
        Self::Euler,
        Self::EulerAncestral,
        Self::DpmSolver,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.names()[0]
    }

    /// Its name, and others that are understood.
    fn names(self) -> &'static [&'static str] {
        match self {
            Self::Ddim => &["ddim"],
            Self::DdimInverse => &["ddim-inverse"],
            Self::Ddpm => &["ddpm"],
            Self::Pndm => &["pndm", "plms"],
            Self::Euler => &["euler"],
            Self::EulerAncestral => &["euler-a", "euler-ancestral"],
            Self::DpmSolver => &["dpm++", "dpm++2m", "dpm++-2m", "dpmpp", "dpm-solver++"],
        }
    }

    /// diffusers' class.
    #[must_use]
    pub fn class(self) -> &'static str {
        match self {
            Self::Ddim => "DDIMScheduler",
            Self::DdimInverse => "DDIMInverseScheduler",
            Self::Ddpm => "DDPMScheduler",
            Self::Pndm => "PNDMScheduler",
            Self::Euler => "EulerDiscreteScheduler",
            Self::EulerAncestral => "EulerAncestralDiscreteScheduler",
            Self::DpmSolver => "DPMSolverMultistepScheduler",
        }
    }

    /// That of a name as it is typed: `ddim`, `ddpm`, `pndm`, `euler`, `euler-a`, `dpm++`.
    ///
    /// # Errors
    /// Lists the names, and says which is nearest.
    pub fn from_name(name: &str) -> Result<Self, SamplingError> {
        let typed = name.to_lowercase().replace(['_', ' '], "-");
        let found = Self::ALL.into_iter().find(|kind| kind.names().contains(&typed.as_str()));
        found.ok_or_else(|| unknown(name, &typed))
    }

    fn from_class(class: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.class() == class)
    }

    /// Every field of the class with its default. (−∞ has no JSON: `lambda_min_clipped` is left to diffusers' own default.)
    fn defaults(self) -> Map<String, Value> {
        let spacing = match self {
            Self::Euler | Self::EulerAncestral | Self::DpmSolver => "linspace",
            _ => "leading",
        };
        let mut fields = object(json!({
            "num_train_timesteps": 1000, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear",
            "trained_betas": null, "prediction_type": "epsilon", "timestep_spacing": spacing, "steps_offset": 0,
        }));
        if self != Self::Pndm {
            fields.insert("rescale_betas_zero_snr".into(), json!(false));
        }
        fields.extend(self.own_defaults());
        fields
    }

    /// Those that not every class has.
    fn own_defaults(self) -> Map<String, Value> {
        let clipping = json!({"clip_sample": true, "clip_sample_range": 1.0});
        let thresholding =
            json!({"thresholding": false, "dynamic_thresholding_ratio": 0.995, "sample_max_value": 1.0});
        let parts = match self {
            Self::Ddim => vec![clipping, thresholding, json!({"set_alpha_to_one": true})],
            Self::DdimInverse => vec![clipping, json!({"set_alpha_to_one": true})],
            Self::Ddpm => vec![clipping, thresholding, json!({"variance_type": "fixed_small"})],
            Self::Pndm => vec![json!({"skip_prk_steps": false, "set_alpha_to_one": false})],
            Self::Euler => vec![json!({
                "interpolation_type": "linear", "use_karras_sigmas": false, "use_exponential_sigmas": false,
                "use_beta_sigmas": false, "sigma_min": null, "sigma_max": null, "timestep_type": "discrete",
                "final_sigmas_type": "zero",
            })],
            Self::EulerAncestral => vec![],
            Self::DpmSolver => vec![thresholding, dpm_defaults()],
        };
        parts.into_iter().flat_map(object).collect()
    }
}

impl fmt::Display for SamplerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn dpm_defaults() -> Value {
    json!({
        "solver_order": 2, "algorithm_type": "dpmsolver++", "solver_type": "midpoint", "lower_order_final": true,
        "euler_at_final": false, "use_karras_sigmas": false, "use_exponential_sigmas": false,
        "use_beta_sigmas": false, "use_lu_lambdas": false, "use_flow_sigmas": false, "flow_shift": 1.0,
        "final_sigmas_type": "zero", "variance_type": null, "use_dynamic_shifting": false,
        "time_shift_type": "exponential",
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn unknown(found: &str, typed: &str) -> SamplingError {
    let names = SamplerKind::ALL.into_iter().flat_map(|kind| kind.names().iter().copied());
    let nearest = names.min_by_key(|name| strsim::damerau_levenshtein(name, typed)).unwrap_or("ddim");
    let known: Vec<&str> = SamplerKind::ALL.iter().map(|kind| kind.name()).collect();
    SamplingError::UnknownSampler { found: found.into(), known: known.join(", "), nearest }
}

/// A scheduler's configuration as a folder holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfig {
    kind: SamplerKind,
    /// The fields that stand in the file, those of other classes among them.
    given: Map<String, Value>,
    settings: Settings,
}

impl SchedulerConfig {
    /// That of a `scheduler_config.json`, whose `_class_name` says which sampler.
    ///
    /// # Errors
    /// Where the text is no JSON object, the class is not supported, or fields cannot be followed: all of them by name.
    pub fn from_json(json: &str) -> Result<Self, ConfigError> {
        let fields = parse(json)?;
        let class = fields.get("_class_name").cloned().unwrap_or_default();
        match class.as_str().and_then(SamplerKind::from_class) {
            Some(kind) => Self::read(kind, fields),
            None => Err(ConfigError::Class {
                expected: SamplerKind::ALL.map(SamplerKind::class).join(", "),
                found: format!("{class}; a sampler asked for by name takes the place of the folder's"),
            }),
        }
    }

    /// That of a `scheduler_config.json` with `kind` in the place of its own sampler, whatever class it names.
    ///
    /// # Errors
    /// As [`SchedulerConfig::from_json`], the class excepted.
    pub fn from_json_as(json: &str, kind: SamplerKind) -> Result<Self, ConfigError> {
        Self::read(kind, parse(json)?)
    }

    /// That of `settings`.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        let (kind, given) = fields_of(settings);
        Self { kind, given, settings: *settings }
    }

    /// The same configuration for another sampler, as diffusers' `from_config` has it: what the file says holds, and the rest is the
    /// new class's default.
    ///
    /// # Errors
    /// Where a field that was without effect cannot be followed by the new sampler.
    pub fn convert(&self, kind: SamplerKind) -> Result<Self, ConfigError> {
        Self::read(kind, self.given.clone())
    }

    /// As diffusers' Stable Diffusion pipelines correct it: `steps_offset` 1, whatever the file says, and never clipped, since latents are
    /// not bounded by 1.
    ///
    /// # Errors
    /// Never for a configuration that could be read; the type is that of reading.
    pub fn for_latents(&self) -> Result<Self, ConfigError> {
        let mut given = self.given.clone();
        given.insert("steps_offset".into(), json!(1));
        if given.contains_key("clip_sample") || self.kind.defaults().contains_key("clip_sample") {
            given.insert("clip_sample".into(), json!(false));
        }
        Self::read(self.kind, given)
    }

    /// Which sampler.
    #[must_use]
    pub fn kind(&self) -> SamplerKind {
        self.kind
    }

    /// What a [`super::Sampler`] is made of.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The content of a `scheduler_config.json` that diffusers loads: every field of the class, and what else stood in the file.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut fields = self.kind.defaults();
        fields.extend(self.given.clone());
        fields.insert("_class_name".into(), json!(self.kind.class()));
        fields.insert("_diffusers_version".into(), json!(VERSION));
        Value::Object(fields)
    }

    fn read(kind: SamplerKind, mut given: Map<String, Value>) -> Result<Self, ConfigError> {
        given.retain(|name, value| !(name.starts_with('_') || name == LAMBDA && value.is_null()));
        let mut fields = Fields::of(Value::Object(given.clone()), &[kind.class()])?;
        let settings = read_settings(kind, &mut fields);
        let foreign = SamplerKind::ALL.into_iter().flat_map(|other| other.defaults().into_iter());
        foreign.for_each(|(name, _)| fields.ignored(&name));
        OTHERS.into_iter().chain([LAMBDA]).for_each(|name| fields.ignored(name));
        fields.finish()?;
        Ok(Self { kind, given, settings })
    }
}

const LAMBDA: &str = "lambda_min_clipped";

/// The object that `json` holds. Python writes −∞ as `-Infinity`, which is no JSON; it is read as null.
fn parse(json: &str) -> Result<Map<String, Value>, ConfigError> {
    let not_an_object = |found: String| ConfigError::NotAnObject { found };
    let value =
        serde_json::from_str(&without_infinity(json)).map_err(|error| not_an_object(error.to_string()))?;
    match value {
        Value::Object(fields) => Ok(fields),
        other => Err(not_an_object(other.to_string())),
    }
}

/// `-Infinity` outside strings replaced by `null` and blanks, so that places in messages stay right.
fn without_infinity(json: &str) -> String {
    // What lies between two quotation marks that no backslash precedes is a string.
    let mut in_string = false;
    let mut escaped = false;
    let mut clean = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(next) = rest.chars().next() {
        if !in_string && rest.starts_with("-Infinity") {
            clean.push_str("null     ");
            rest = &rest["-Infinity".len()..];
            continue;
        }
        in_string ^= next == '"' && !escaped;
        escaped = in_string && next == '\\' && !escaped;
        clean.push(next);
        rest = &rest[next.len_utf8()..];
    }
    clean
}

fn read_settings(kind: SamplerKind, fields: &mut Fields) -> Settings {
    let spacing = match kind {
        SamplerKind::Euler | SamplerKind::EulerAncestral | SamplerKind::DpmSolver => Spacing::Linspace,
        _ => Spacing::Leading,
    };
    Settings {
        schedule: read_schedule(kind, fields),
        prediction: choose(fields, "prediction_type", Prediction::Epsilon, &PREDICTIONS),
        spacing: choose(fields, "timestep_spacing", spacing, &SPACINGS),
        steps_offset: fields.take("steps_offset", 0),
        method: read_method(kind, fields),
    }
}

const PREDICTIONS: [(&str, Prediction); 3] =
    [("epsilon", Prediction::Epsilon), ("v_prediction", Prediction::V), ("sample", Prediction::Sample)];
const SPACINGS: [(&str, Spacing); 3] =
    [("leading", Spacing::Leading), ("trailing", Spacing::Trailing), ("linspace", Spacing::Linspace)];
const BETAS: [(&str, Beta); 3] =
    [("linear", Beta::Linear), ("scaled_linear", Beta::ScaledLinear), ("squaredcos_cap_v2", Beta::Cosine)];
const LAST_SIGMAS: [(&str, LastSigma); 2] = [("zero", LastSigma::Zero), ("sigma_min", LastSigma::SigmaMin)];
const VARIANCES: [(&str, Variance); 2] =
    [("fixed_small", Variance::FixedSmall), ("fixed_large", Variance::FixedLarge)];
const SOLVERS: [(&str, Solver); 2] = [("midpoint", Solver::Midpoint), ("heun", Solver::Heun)];

fn read_schedule(kind: SamplerKind, fields: &mut Fields) -> ScheduleSettings {
    fields.neutral("trained_betas", &[Value::Null]);
    // PNDM has no such field; one of another class stands there without effect.
    let rescaled = kind != SamplerKind::Pndm && flag(fields, "rescale_betas_zero_snr", false);
    ScheduleSettings {
        beta: choose(fields, "beta_schedule", Beta::Linear, &BETAS),
        train_steps: fields.take("num_train_timesteps", 1000),
        beta_start: fields.take("beta_start", 0.0001),
        beta_end: fields.take("beta_end", 0.02),
        zero_terminal_snr: rescaled,
    }
}

fn read_method(kind: SamplerKind, fields: &mut Fields) -> Method {
    match kind {
        SamplerKind::Ddim => {
            fields.neutral("thresholding", &[json!(false)]);
            let last_alpha_is_one = flag(fields, "set_alpha_to_one", true);
            Method::Ddim { clip: read_clip(fields), last_alpha_is_one }
        }
        SamplerKind::DdimInverse => {
            let first_alpha_is_one = flag(fields, "set_alpha_to_one", true);
            Method::DdimInverse { clip: read_clip(fields), first_alpha_is_one }
        }
        SamplerKind::Ddpm => {
            fields.neutral("thresholding", &[json!(false)]);
            let variance = choose(fields, "variance_type", Variance::FixedSmall, &VARIANCES);
            Method::Ddpm { clip: read_clip(fields), variance }
        }
        SamplerKind::Pndm => Method::Pndm {
            skip_prk_steps: flag(fields, "skip_prk_steps", false),
            last_alpha_is_one: flag(fields, "set_alpha_to_one", false),
        },
        SamplerKind::Euler => read_euler(fields),
        SamplerKind::EulerAncestral => Method::EulerAncestral,
        SamplerKind::DpmSolver => Method::Dpm(read_dpm(fields)),
    }
}

fn read_clip(fields: &mut Fields) -> Option<f64> {
    let range = fields.take("clip_sample_range", 1.0);
    flag(fields, "clip_sample", true).then_some(range)
}

const OFF: [Value; 2] = [Value::Bool(false), Value::Null];

fn read_euler(fields: &mut Fields) -> Method {
    fields.neutral("interpolation_type", &[json!("linear")]);
    fields.neutral("timestep_type", &[json!("discrete")]);
    ["use_exponential_sigmas", "use_beta_sigmas"].into_iter().for_each(|name| fields.neutral(name, &OFF));
    ["sigma_min", "sigma_max"].into_iter().for_each(|name| fields.neutral(name, &[Value::Null]));
    Method::Euler {
        karras: flag(fields, "use_karras_sigmas", false),
        last: choose(fields, "final_sigmas_type", LastSigma::Zero, &LAST_SIGMAS),
    }
}

fn read_dpm(fields: &mut Fields) -> Dpm {
    fields.neutral("thresholding", &[json!(false)]);
    fields.neutral("algorithm_type", &[json!("dpmsolver++")]);
    let off = [
        "use_exponential_sigmas",
        "use_beta_sigmas",
        "use_lu_lambdas",
        "use_flow_sigmas",
        "use_dynamic_shifting",
    ];
    off.into_iter().for_each(|name| fields.neutral(name, &OFF));
    // Only the learned ones have an effect on this class.
    let fixed = ["fixed_small", "fixed_small_log", "fixed_large", "fixed_large_log"].map(Value::from);
    fields.neutral("variance_type", &[&fixed[..], &[Value::Null]].concat());
    Dpm {
        order: read_order(fields),
        solver: choose(fields, "solver_type", Solver::Midpoint, &SOLVERS),
        lower_order_final: flag(fields, "lower_order_final", true),
        euler_at_final: flag(fields, "euler_at_final", false),
        karras: flag(fields, "use_karras_sigmas", false),
        last: choose(fields, "final_sigmas_type", LastSigma::Zero, &LAST_SIGMAS),
        lambda_min: fields.take::<Option<f64>>(LAMBDA, None).unwrap_or(f64::NEG_INFINITY),
    }
}

fn read_order(fields: &mut Fields) -> usize {
    let order = fields.take("solver_order", 2);
    if !(1..=2).contains(&order) {
        fields.fault(format!("field `solver_order`: expected 1 or 2, found {order}: not supported"));
    }
    order
}

/// A truth value; null is `default`.
fn flag(fields: &mut Fields, name: &str, default: bool) -> bool {
    fields.take::<Option<bool>>(name, None).unwrap_or(default)
}

/// One of `values` by its name; null is `default`.
fn choose<T: Copy>(fields: &mut Fields, name: &str, default: T, values: &[(&str, T)]) -> T {
    let Some(found) = fields.take::<Option<String>>(name, None) else { return default };
    let chosen = values.iter().find(|(known, _)| *known == found).map(|&(_, value)| value);
    chosen.unwrap_or_else(|| {
        let known: Vec<&str> = values.iter().map(|(known, _)| *known).collect();
        fields.fault(format!(
            "field `{name}`: expected {}, found \"{found}\": not supported",
            known.join(" or ")
        ));
        default
    })
}

/// The name of `value` among `values`.
fn name_of<T: PartialEq>(values: &[(&'static str, T)], value: &T) -> Value {
    values.iter().find(|(_, known)| known == value).map_or(Value::Null, |(name, _)| json!(name))
}

/// The class of `settings`, and its fields.
fn fields_of(settings: &Settings) -> (SamplerKind, Map<String, Value>) {
    let (kind, own) = method_fields(&settings.method);
    let schedule = settings.schedule;
    let mut fields = kind.defaults();
    fields.extend(object(json!({
        "num_train_timesteps": schedule.train_steps, "beta_start": schedule.beta_start,
        "beta_end": schedule.beta_end, "beta_schedule": name_of(&BETAS, &schedule.beta),
        "prediction_type": name_of(&PREDICTIONS, &settings.prediction),
        "timestep_spacing": name_of(&SPACINGS, &settings.spacing), "steps_offset": settings.steps_offset,
    })));
    if schedule.zero_terminal_snr {
        fields.insert("rescale_betas_zero_snr".into(), json!(true));
    }
    fields.extend(object(own));
    (kind, fields)
}

fn method_fields(method: &Method) -> (SamplerKind, Value) {
    let clipping = |clip: Option<f64>| (clip.is_some(), clip.unwrap_or(1.0));
    match *method {
        Method::Ddim { clip, last_alpha_is_one: one } => {
            let (clips, range) = clipping(clip);
            let own = json!({"clip_sample": clips, "clip_sample_range": range, "set_alpha_to_one": one});
            (SamplerKind::Ddim, own)
        }
        Method::DdimInverse { clip, first_alpha_is_one: one } => {
            let (clips, range) = clipping(clip);
            let own = json!({"clip_sample": clips, "clip_sample_range": range, "set_alpha_to_one": one});
            (SamplerKind::DdimInverse, own)
        }
        Method::Ddpm { clip, variance } => {
            let ((clips, range), variance) = (clipping(clip), name_of(&VARIANCES, &variance));
            let own = json!({"clip_sample": clips, "clip_sample_range": range, "variance_type": variance});
            (SamplerKind::Ddpm, own)
        }
        Method::Pndm { skip_prk_steps, last_alpha_is_one } => {
            let own = json!({"skip_prk_steps": skip_prk_steps, "set_alpha_to_one": last_alpha_is_one});
            (SamplerKind::Pndm, own)
        }
        Method::Euler { karras, last } => {
            let own = json!({"use_karras_sigmas": karras, "final_sigmas_type": name_of(&LAST_SIGMAS, &last)});
            (SamplerKind::Euler, own)
        }
        Method::EulerAncestral => (SamplerKind::EulerAncestral, json!({})),
        Method::Dpm(dpm) => (SamplerKind::DpmSolver, dpm_fields(&dpm)),
    }
}

fn dpm_fields(dpm: &Dpm) -> Value {
    let mut own = json!({
        "solver_order": dpm.order, "solver_type": name_of(&SOLVERS, &dpm.solver),
        "lower_order_final": dpm.lower_order_final, "euler_at_final": dpm.euler_at_final,
        "use_karras_sigmas": dpm.karras, "final_sigmas_type": name_of(&LAST_SIGMAS, &dpm.last),
    });
    if dpm.lambda_min.is_finite() {
        own[LAMBDA] = json!(dpm.lambda_min);
    }
    own
}
