//! A whole trace: a caption goes in, the pictures of the clean, the corrupted and every restored run come out.

use std::fmt;

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Tensor};
use sd_core::pipeline::{StableDiffusion, pixels};

use crate::caption::{Caption, Read};
use crate::components::{Component, Reading, TextPart, TextState, components, text_states, window};
use crate::corruption::{Applied, Corruption, Encoded, Mode};
use crate::lockstep::{Change, Donor, Lockstep, Patch, Run, Settings, Told};
use crate::text;

/// Where the values that are restored come from: the paper's own way, and controls (specification, section 7).
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Control {
    /// The clean run.
    Clean,
    /// N1: the corrupted run itself. Nothing may change.
    Corrupted,
    /// N2: the clean run of another caption with the same template. What is restored then is statistics of pictures, not the concept.
    Foreign,
    /// N3: the clean run's channels, permuted.
    Permuted,
    /// N4: noise of the clean activation's norm.
    Noise,
    /// T5: the clean text on the restored run's own latents.
    OwnLatent,
    /// The other direction: the clean run is given the corrupted run's activation. What it loses shows whether the component is necessary,
    /// where restoring shows whether it suffices.
    Noising,
}

impl Control {
    /// Every one.
    pub const ALL: [Self; 7] = [
        Self::Clean,
        Self::Corrupted,
        Self::Foreign,
        Self::Permuted,
        Self::Noise,
        Self::OwnLatent,
        Self::Noising,
    ];

    /// Its name in tables and experiment files.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Corrupted => "corrupted",
            Self::Foreign => "foreign",
            Self::Permuted => "permuted",
            Self::Noise => "noise",
            Self::OwnLatent => "own_latent",
            Self::Noising => "noising",
        }
    }
}

/// What is restored, one run each.
#[derive(Clone, Debug, PartialEq)]
pub enum Targets {
    /// Components of the UNet.
    Unet {
        /// How each is read.
        reading: Reading,
        /// Which of them, by name; all where it is empty.
        only: Vec<String>,
        /// Neighbours of one kind that are restored together; 1 is the component alone.
        window: usize,
        /// From where.
        controls: Vec<Control>,
    },
    /// States of the text encoder.
    Text {
        /// Of what.
        parts: Vec<TextPart>,
        /// Positions in the window; those from the subject's first token to the end of the text where it is empty.
        tokens: Vec<usize>,
    },
}

impl Targets {
    /// All components as the paper takes them.
    #[must_use]
    pub fn components() -> Self {
        Self::Unet { reading: Reading::Module, only: Vec::new(), window: 1, controls: vec![Control::Clean] }
    }

    /// Both outputs of every layer of the text encoder, at every token that can carry the subject.
    #[must_use]
    pub fn text_states() -> Self {
        Self::Text { parts: vec![TextPart::SelfAttn, TextPart::Mlp], tokens: Vec::new() }
    }
}

/// How a caption is traced.
#[derive(Clone, Debug)]
pub struct Spec {
    /// How the subject is destroyed.
    pub corruption: Corruption,
    /// How pictures are made.
    pub settings: Settings,
    /// What is restored.
    pub targets: Targets,
    /// The caption of [`Control::Foreign`].
    pub foreign: Option<String>,
}

impl Default for Spec {
    /// Every component of the UNet; noise of three standard deviations of the subject's own embeddings.
    fn default() -> Self {
        let corruption = Corruption::default();
        Self { corruption, settings: Settings::default(), targets: Targets::components(), foreign: None }
    }
}

impl Spec {
    /// What can be seen before anything is computed.
    ///
    /// # Errors
    /// Where states of the text encoder are to be restored and there are none, or the noise comes behind them.
    pub fn check(&self) -> Result<()> {
        let Targets::Text { parts, .. } = &self.targets else { return Ok(()) };
        ensure!(
            matches!(self.corruption.mode, Mode::TokenEmbed | Mode::Swap),
            "noise on the text encoder's output (`{}`) comes behind every state of it: there is nothing to restore\n  expected: the corruption \
             token_embed or swap",
            self.corruption.mode.name()
        );
        ensure!(
            !parts.is_empty(),
            "no part of the text encoder is to be restored; expected self_attn, mlp or block"
        );
        Ok(())
    }
}

/// What a run of a trace is.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// The caption as it is.
    Clean,
    /// The subject destroyed.
    Corrupted,
    /// The other caption, as it is.
    Foreign,
    /// Destroyed, and a component of the UNet restored; of [`Control::Noising`] the other way round.
    Component(Component, Control),
    /// Destroyed, and a state of the text encoder restored.
    Text(TextState),
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Clean => write!(f, "clean"),
            Self::Corrupted => write!(f, "corrupted"),
            Self::Foreign => write!(f, "foreign"),
            Self::Component(component, Control::Clean) => write!(f, "{component}"),
            Self::Component(component, control) => write!(f, "{component} ({})", control.name()),
            Self::Text(state) => {
                write!(f, "{} layer {} token {}", state.part.name(), state.layer, state.token)
            }
        }
    }
}

/// The outcome of a trace.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The caption's tokens.
    pub read: Read,
    /// What the corruption did.
    pub applied: Applied,
    /// What each run is: clean, corrupted, then the others.
    pub runs: Vec<What>,
    /// The latents (R, C, h, w) of the runs.
    pub latents: Tensor,
    /// Their pictures (R, H, W, 3) of `u8`, on the CPU.
    pub pixels: Tensor,
    /// What the UNet worked, see [`crate::lockstep::Outcome`].
    pub row_passes: f64,
    /// Chunks that the memory made necessary.
    pub chunks: usize,
    /// What a reader must know: a corruption without effect, say.
    pub warnings: Vec<String>,
}

/// Place of the clean run in a trace.
pub const CLEAN: usize = 0;
/// Place of the corrupted run in a trace.
pub const CORRUPTED: usize = 1;

impl Trace {
    /// `‖z_i − z_j‖ / ‖z_clean − z_corrupted‖` of the last latents: 0 where two runs came to the same picture, 1 where they are as far
    /// apart as the corruption brought them. None where that did nothing.
    ///
    /// # Errors
    /// Where a run is not there.
    pub fn distance(&self, i: usize, j: usize) -> Result<Option<f64>> {
        let norm = |i: usize, j: usize| -> Result<f64> {
            let difference = (self.latents.get(i)? - self.latents.get(j)?)?.to_dtype(DType::F64)?;
            Ok(difference.sqr()?.sum_all()?.to_scalar::<f64>()?.sqrt())
        };
        let whole = norm(CLEAN, CORRUPTED)?;
        Ok(if whole > 0.0 { Some(norm(i, j)? / whole) } else { None })
    }
}

/// Traces a caption.
///
/// # Errors
/// Where the caption or the specification does not go with the model, see [`Caption::read`], [`Corruption::encode`] and
/// [`Lockstep::run`].
pub fn trace(model: &StableDiffusion, caption: &Caption, spec: &Spec) -> Result<Trace> {
    trace_told(model, caption, spec, &mut |_| {})
}

/// As [`trace`]; `told` is given the share of the work that is done.
///
/// # Errors
/// As [`trace`].
pub fn trace_told(
    model: &StableDiffusion,
    caption: &Caption,
    spec: &Spec,
    told: &mut Told<'_>,
) -> Result<Trace> {
    let Prepared { read, encoded, texts, runs, what } = Prepared::new(model, caption, spec)?;
    let warnings = warnings(spec, &encoded)?;
    let outcome = Lockstep::new(model, &spec.settings, &texts)?.run(&runs, told)?;
    let pixels = decode(model, &outcome.latents)?;
    Ok(Trace {
        read,
        applied: encoded.applied,
        runs: what,
        latents: outcome.latents,
        pixels,
        row_passes: outcome.row_passes,
        chunks: outcome.chunks,
        warnings,
    })
}

/// Whether a caption can be traced so: everything that [`trace`] refuses, before the UNet does anything.
///
/// # Errors
/// As [`trace`].
pub fn check(model: &StableDiffusion, caption: &Caption, spec: &Spec) -> Result<()> {
    let prepared = Prepared::new(model, caption, spec)?;
    Lockstep::new(model, &spec.settings, &prepared.texts)?.planned(&prepared.runs).map(|_| ())
}

/// What a trace consists of.
struct Prepared {
    read: Read,
    encoded: Encoded,
    texts: Vec<Tensor>,
    runs: Vec<Run>,
    what: Vec<What>,
}

impl Prepared {
    fn new(model: &StableDiffusion, caption: &Caption, spec: &Spec) -> Result<Self> {
        spec.check()?;
        let read = caption.read(&model.tokenizer)?;
        let corruption = spec.corruption.measured(model, &[&caption.subject])?;
        let encoded = corruption.encode(model, caption, &read)?;
        let mut texts = vec![encoded.clean.clone(), encoded.corrupted.clone()];
        let (runs, what) = plan(model, spec, &read, &encoded, &mut texts)?;
        Ok(Self { read, encoded, texts, runs, what })
    }
}

fn warnings(spec: &Spec, encoded: &Encoded) -> Result<Vec<String>> {
    let difference = (&encoded.clean - &encoded.corrupted)?.to_dtype(DType::F64)?;
    let moved = difference.abs()?.sum_all()?.to_scalar::<f64>()?;
    Ok(if moved == 0.0 {
        vec![format!(
            "the corruption ({}, sigma {}) changes nothing: clean, corrupted and restored runs are equal, and there is no effect to trace",
            spec.corruption.mode.name(),
            spec.corruption.sigma
        )]
    } else {
        Vec::new()
    })
}

/// The runs of a trace and what each is; texts are added as runs need them.
fn plan(
    model: &StableDiffusion,
    spec: &Spec,
    read: &Read,
    encoded: &Encoded,
    texts: &mut Vec<Tensor>,
) -> Result<(Vec<Run>, Vec<What>)> {
    let plain = |text| Run { text, patch: None };
    let mut runs = vec![plain(CLEAN), plain(CORRUPTED)];
    let mut what = vec![What::Clean, What::Corrupted];
    match &spec.targets {
        Targets::Unet { reading, only, window: width, controls } => {
            if controls.contains(&Control::Foreign) {
                let Some(foreign) = &spec.foreign else {
                    bail!("the control `foreign` needs another caption to take values from");
                };
                texts.push(model.encode(std::slice::from_ref(foreign), &mut sd_core::taps::NoTap)?.get(0)?);
                runs.push(plain(texts.len() - 1));
                what.push(What::Foreign);
            }
            let all = components(model.unet.config(), *reading)?;
            for name in only {
                crate::components::named(&all, name)?;
            }
            let chosen = |one: &Component| only.is_empty() || only.contains(&one.to_string());
            for &control in controls {
                for (index, component) in all.iter().enumerate().filter(|(_, one)| chosen(one)) {
                    let sites = window(&all, index, *width);
                    let text = if control == Control::Noising { CLEAN } else { CORRUPTED };
                    runs.push(Run { text, patch: Some(patch(sites, control)) });
                    what.push(What::Component(component.clone(), control));
                }
            }
        }
        Targets::Text { parts, tokens } => {
            let tokens = if tokens.is_empty() { read.carriers() } else { tokens.clone() };
            let window = read.prompt.ids.len();
            if let Some(token) = tokens.iter().find(|&&token| token >= window) {
                bail!(
                    "token {token} of a window of {window}; positions are counted from 0, begin-of-text being 0"
                );
            }
            let states = text_states(model.text_encoder.config(), parts, &tokens);
            for (state, text) in states.iter().zip(text::restored(&model.text_encoder, encoded, &states)?) {
                texts.push(text);
                runs.push(plain(texts.len() - 1));
                what.push(What::Text(*state));
            }
        }
    }
    Ok((runs, what))
}

/// Place of the foreign run, where there is one.
const FOREIGN: usize = 2;

fn patch(sites: Vec<sd_core::taps::Site>, control: Control) -> Patch {
    let (donor, change) = match control {
        Control::Clean => (Donor::Run(CLEAN), Change::None),
        Control::Corrupted | Control::Noising => (Donor::Run(CORRUPTED), Change::None),
        Control::Foreign => (Donor::Run(FOREIGN), Change::None),
        Control::Permuted => (Donor::Run(CLEAN), Change::Permuted),
        Control::Noise => (Donor::Run(CLEAN), Change::Noise),
        Control::OwnLatent => (Donor::OwnLatent(CLEAN), Change::None),
    };
    Patch { sites, donor, change }
}

/// Pictures decoded at once.
const DECODED: usize = 8;

/// The pictures (R, H, W, 3) of latents, as `u8` on the CPU.
///
/// # Errors
/// Where a computation fails.
pub fn decode(model: &StableDiffusion, latents: &Tensor) -> Result<Tensor> {
    let count = latents.dims()[0];
    let mut all = Vec::new();
    for first in (0..count).step_by(DECODED) {
        let some = latents.narrow(0, first, DECODED.min(count - first))?;
        all.push(pixels(&model.decode(&some)?)?);
    }
    Ok(Tensor::cat(&all, 0)?)
}
