//! How the subject of a caption is destroyed.

use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Tensor};
use sd_core::models::clip::TextModel;
use sd_core::models::clip::tokenizer::Prompt;
use sd_core::pipeline::StableDiffusion;
use sd_core::rng::Rng;
use sd_core::taps::{Choice, Kind, NoTap, Record, Site, Tap};
use serde::{Deserialize, Serialize};

use crate::caption::{Caption, Read};

/// Where the noise goes (specification, section 2.2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// K1: on the token embeddings of the subject, before the text encoder.
    #[default]
    TokenEmbed,
    /// K2: on the text encoder's output rows of the subject.
    EncoderOut,
    /// K3: on the text encoder's whole output.
    AllOut,
    /// K4: the subject is replaced by another one with as many tokens; there is no noise.
    Swap,
}

impl Mode {
    /// Its name in tables and experiment files.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::TokenEmbed => "token_embed",
            Self::EncoderOut => "encoder_out",
            Self::AllOut => "all_out",
            Self::Swap => "swap",
        }
    }
}

/// The standard deviation of the noise: `abs:X`, or `std:K` for K times that of the subjects' embeddings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sigma {
    /// Absolute.
    Absolute(f64),
    /// In standard deviations of the embeddings that are measured.
    Deviations(f64),
}

impl Default for Sigma {
    fn default() -> Self {
        Self::Deviations(3.0)
    }
}

impl Sigma {
    /// The absolute value, where the embeddings' standard deviation is `std`.
    #[must_use]
    pub fn absolute(self, std: f64) -> f64 {
        match self {
            Self::Absolute(sigma) => sigma,
            Self::Deviations(count) => count * std,
        }
    }
}

impl fmt::Display for Sigma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Absolute(sigma) => write!(f, "abs:{sigma}"),
            Self::Deviations(count) => write!(f, "std:{count}"),
        }
    }
}

impl FromStr for Sigma {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once(':').and_then(|(unit, number)| {
            let number: f64 =
                number.trim().parse().ok().filter(|number: &f64| *number >= 0.0 && number.is_finite())?;
            match unit.trim() {
                "abs" => Some(Self::Absolute(number)),
                "std" => Some(Self::Deviations(number)),
                _ => None,
            }
        });
        match parsed {
            Some(sigma) => Ok(sigma),
            None => bail!(
                "sigma `{text}`\n  expected: `abs:X` (absolute) or `std:K` (K standard deviations of the subjects' embeddings), X or K a \
                 number of at least 0\n  help: the default is `std:3`"
            ),
        }
    }
}

impl Serialize for Sigma {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sigma {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Sigma {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Sigma".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "Standard deviation of the noise: `abs:X`, or `std:K` for K standard deviations of the subjects' embeddings.",
            "type": "string",
            "pattern": "^(abs|std):[0-9.eE+-]+$"
        })
    }
}

/// How a subject is destroyed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Corruption {
    /// Where.
    pub mode: Mode,
    /// How much.
    pub sigma: Sigma,
    /// The standard deviation that `std:` counts in; where it is None, a trace measures it on its own subject. Not needed for `abs:`.
    pub std: Option<f64>,
    /// What the subject is replaced by in [`Mode::Swap`].
    pub other: Option<String>,
    /// Which draw of the noise: corrupted and restored runs share it.
    pub draw: u64,
}

/// What the corruption did, for the report (trap T10).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Applied {
    /// The absolute standard deviation.
    pub sigma: f64,
    /// Norm of the noise of a subject token, averaged over them; 0 for a swap.
    pub noise: f64,
    /// Norm of the embedding (or output row) that it was added to, likewise.
    pub embedding: f64,
    /// Norm of the first self-attention's output at a subject token of the clean run, likewise. Where the noise on the embedding is not small
    /// beside it, restoring that output leaves most of the noise in the stream.
    pub attention: f64,
}

/// The text encoder's two outputs.
#[derive(Clone, Debug)]
pub struct Encoded {
    /// Of the caption, (T, D).
    pub clean: Tensor,
    /// Of the corrupted caption, (T, D).
    pub corrupted: Tensor,
    /// The embeddings that each was made from, (2, T, D), the corrupted one second: what the text trace starts from. Noise on the text
    /// encoder's output is not in them.
    pub embedded: Tensor,
    /// The ids of both, (2, T).
    pub ids: Tensor,
    /// What was done.
    pub applied: Applied,
}

/// The standard deviation, over all numbers, of what the noise of `mode` is added to: of the token embeddings of the subjects, begin and end
/// of text included, which is what ROME measures (kmeng01/rome, `collect_embedding_std`); for noise on the text encoder's output, of its
/// rows for the same tokens.
///
/// # Errors
/// Where there is no subject, or a computation fails.
pub fn deviation(model: &StableDiffusion, subjects: &[&str], mode: &Mode) -> Result<f64> {
    ensure!(!subjects.is_empty(), "no subject to measure embeddings of; expected at least one");
    let text = &model.text_encoder;
    let mut all = Vec::new();
    for subject in subjects {
        let prompt = model.tokenizer.encode(subject)?;
        let tokens = prompt.spans.iter().flatten().count() + 2;
        let ids = Prompt::stack(std::slice::from_ref(&prompt), &model.device)?;
        let rows = match mode {
            Mode::TokenEmbed | Mode::Swap => text.embed(&ids)?,
            Mode::EncoderOut | Mode::AllOut => text.forward(&ids, &mut NoTap)?.last_hidden_state,
        };
        all.extend(rows.narrow(1, 0, tokens)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?);
    }
    Ok(lab::stats::sd(&all)?)
}

impl Corruption {
    /// Encodes a caption as it is and with its subject destroyed.
    ///
    /// # Errors
    /// Where `std:` is asked for without a measured deviation, a swap has no other subject or one of another length, or a computation
    /// fails.
    pub fn encode(&self, model: &StableDiffusion, caption: &Caption, read: &Read) -> Result<Encoded> {
        let other = match self.mode {
            Mode::Swap => self.swapped(model, caption, read)?,
            _ => read.prompt.clone(),
        };
        let ids = Prompt::stack(&[read.prompt.clone(), other], &model.device)?;
        let text = &model.text_encoder;
        let embedded = text.embed(&ids)?;
        let first = Site::new("text_model.encoder.layers.0.self_attn", Kind::Branch);
        let mut seen = Record::new(Choice::These(vec![first.clone()]));
        let attended = |seen: &Record| -> Result<f64> {
            let Some(output) = seen.at(&first) else {
                bail!("{first}: the text encoder has no such activation")
            };
            norm(&output.get(0)?.narrow(0, read.subject.start, read.subject.len())?)
        };
        match self.mode {
            Mode::Swap => {
                let [clean, corrupted] = hidden(text, &embedded, &ids, &mut seen)?;
                let applied = Applied { attention: attended(&seen)?, ..Applied::default() };
                Ok(Encoded { clean, corrupted, embedded, ids, applied })
            }
            Mode::TokenEmbed => {
                let noise = self.noise(&embedded, read.subject.clone())?;
                let mut applied = self.applied(&noise, &embedded.get(0)?, read)?;
                let embedded = (embedded + noise)?;
                let [clean, corrupted] = hidden(text, &embedded, &ids, &mut seen)?;
                applied.attention = attended(&seen)?;
                Ok(Encoded { clean, corrupted, embedded, ids, applied })
            }
            Mode::EncoderOut | Mode::AllOut => {
                let [clean, same] = hidden(text, &embedded, &ids, &mut seen)?;
                let rows =
                    if self.mode == Mode::AllOut { 0..read.prompt.ids.len() } else { read.subject.clone() };
                let noise = self.noise(&Tensor::stack(&[&clean, &same], 0)?, rows)?;
                let mut applied = self.applied(&noise, &clean, read)?;
                applied.attention = attended(&seen)?;
                let corrupted = (same + noise.get(1)?)?;
                Ok(Encoded { clean, corrupted, embedded, ids, applied })
            }
        }
    }

    /// Itself, with the unit of `std:` measured on the subjects where it is needed and not known.
    ///
    /// # Errors
    /// As [`deviation`].
    pub fn measured(&self, model: &StableDiffusion, subjects: &[&str]) -> Result<Self> {
        let is_needed = matches!(self.sigma, Sigma::Deviations(_)) && self.mode != Mode::Swap;
        let std = match self.std {
            None if is_needed => Some(deviation(model, subjects, &self.mode)?),
            known => known,
        };
        Ok(Self { std, ..self.clone() })
    }

    fn swapped(&self, model: &StableDiffusion, caption: &Caption, read: &Read) -> Result<Prompt> {
        let Some(other) = &self.other else {
            bail!("a swap needs another subject for `{}`; name one", caption.subject)
        };
        // The words as they were found among the tokens, not the first letters that look like them.
        let spans = &read.prompt.spans[read.subject.clone()];
        let (Some(Some(first)), Some(Some(last))) = (spans.first(), spans.last()) else {
            bail!("caption `{}`: its subject has no place in the text", caption.text)
        };
        let text = format!("{}{other}{}", &caption.text[..first.start], &caption.text[last.end..]);
        let swapped = Caption::new(text, other.clone()).read(&model.tokenizer)?;
        ensure!(
            swapped.subject == read.subject,
            "`{}` and `{other}` have {} and {} tokens\n  expected: subjects of one length, so that all positions stay\n  help: choose another",
            caption.subject,
            read.subject.len(),
            swapped.subject.len()
        );
        Ok(swapped.prompt)
    }

    /// σ in the units of the embeddings.
    ///
    /// # Errors
    /// Where `std:` is asked for and nothing was measured.
    pub fn sigma(&self) -> Result<f64> {
        match (self.sigma, self.std) {
            (Sigma::Absolute(sigma), _) => Ok(sigma),
            (sigma @ Sigma::Deviations(_), Some(std)) => Ok(sigma.absolute(std)),
            (sigma, None) => bail!(
                "sigma `{sigma}` counts in standard deviations that were not measured\n  help: `corruption::deviation` measures them, or give `abs:X`"
            ),
        }
    }

    /// Noise like `x` (2, T, D): zeros in the first row, in the second normals on the `rows`.
    fn noise(&self, x: &Tensor, rows: std::ops::Range<usize>) -> Result<Tensor> {
        let sigma = self.sigma()?;
        let &[_, tokens, width] = x.dims() else { bail!("expected (2,T,D), found {:?}", x.dims()) };
        let mut rng = Rng::new(self.draw, "causal-trace/noise", 0);
        let mut values = vec![0f64; 2 * tokens * width];
        let first = tokens * width;
        for value in &mut values[first + rows.start * width..first + rows.end * width] {
            *value = sigma * rng.normal();
        }
        Ok(Tensor::from_vec(values, (2, tokens, width), x.device())?.to_dtype(x.dtype())?)
    }

    fn applied(&self, noise: &Tensor, clean: &Tensor, read: &Read) -> Result<Applied> {
        let (first, count) = (read.subject.start, read.subject.len());
        Ok(Applied {
            sigma: self.sigma()?,
            noise: norm(&noise.get(1)?.narrow(0, first, count)?)?,
            embedding: norm(&clean.narrow(0, first, count)?)?,
            attention: 0.0,
        })
    }
}

/// Mean norm of the rows of (N, D).
fn norm(rows: &Tensor) -> Result<f64> {
    let squares = rows.to_dtype(DType::F64)?.sqr()?.sum(1)?.sqrt()?;
    Ok(squares.mean_all()?.to_scalar::<f64>()?)
}

/// The outputs (T, D) of two rows.
fn hidden(text: &TextModel, embedded: &Tensor, ids: &Tensor, tap: &mut dyn Tap) -> Result<[Tensor; 2]> {
    let output = text.forward_embedded(embedded, ids, tap)?.last_hidden_state;
    Ok([output.get(0)?, output.get(1)?])
}
