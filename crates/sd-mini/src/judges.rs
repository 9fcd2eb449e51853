//! The judges that ship, opened: who says what a generated picture shows.

use std::fs;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor};
use sd_core::models::clip::{TextConfig, Tokenizer};
use sd_core::nn::Scope;
use sd_core::weights::{Rules, Weights, load};
use serde::Deserialize;
use serde_json::Value;

use crate::classifier::{Attribute, Classifier};
use crate::clip::Pair;
use crate::landmarks::Regressor;
use crate::shipped::Shipped;

/// The judges, frozen. Pictures are (B, 3, side, side) with values in −1 ..= 1.
#[derive(Clone, Debug)]
pub struct Judges {
    /// Names attributes.
    pub classifier: Classifier,
    /// Tells captions apart; its text encoder is not the pipeline's.
    pub clip: Pair,
    /// Finds landmarks.
    pub landmarks: Regressor,
    /// A second classifier, in whose features Fréchet distances are taken.
    pub frechet: Classifier,
    /// Side of the pictures that they know.
    pub side: usize,
    tokenizer: Tokenizer,
}

/// `judges.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Sizes {
    channels: Vec<usize>,
    side: usize,
    text: Value,
    #[serde(rename = "seed")]
    _seed: u64,
}

impl Judges {
    /// Opens the judges of weights that are whole.
    ///
    /// # Errors
    /// Where a file is absent or its tensors are not those of its network.
    pub fn open(shipped: &Shipped, device: &Device) -> Result<Self> {
        let folder = shipped.judges();
        let path = folder.join("judges.json");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let sizes: Sizes = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        let text = TextConfig::from_json(&sizes.text.to_string())
            .with_context(|| format!("{}: `text`", path.display()))?;
        let (channels, side) = (&sizes.channels, sizes.side);
        fn network<M>(
            folder: &std::path::Path,
            name: &str,
            device: &Device,
            build: impl FnOnce(&mut Scope<'_>) -> candle_core::Result<M>,
        ) -> Result<M> {
            let weights = Weights::open(&folder.join(format!("{name}.safetensors")))?;
            Ok(load(&weights, DType::F32, device, &Rules::strict(), build)?)
        }
        Ok(Self {
            classifier: network(&folder, "classifier", device, |scope| Classifier::new(scope, channels))?,
            clip: network(&folder, "clip", device, |scope| Pair::new(scope, &text, channels))?,
            landmarks: network(&folder, "landmarks", device, |scope| Regressor::new(scope, channels, side))?,
            frechet: network(&folder, "frechet", device, |scope| Classifier::new(scope, channels))?,
            side,
            tokenizer: Tokenizer::open(&shipped.model().join("tokenizer"))?,
        })
    }

    /// Cosines (B) of pictures and one caption.
    ///
    /// # Errors
    /// Where shapes do not fit.
    pub fn cosines(&self, pictures: &Tensor, caption: &str) -> Result<Vec<f64>> {
        let ids = crate::data::ids(&self.tokenizer, [caption], pictures.device())?;
        let text = self.clip.texts(&ids)?;
        let cosines = self.clip.images(pictures)?.matmul(&text.t()?.contiguous()?)?.detach();
        Ok(cosines.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?)
    }

    /// Pictures (B, H, W, 3) of bytes as (B, 3, H, W) in −1 ..= 1, which is what the judges see.
    ///
    /// # Errors
    /// Where they have another side than the judges know.
    pub fn units(&self, pixels: &Tensor) -> Result<Tensor> {
        let (_, height, width, _) = pixels.dims4()?;
        let side = self.side;
        ensure!(
            height == side && width == side,
            "pictures of {width}x{height} for judges of {side}x{side}\n  help: make pictures of the judges' size"
        );
        let planes = pixels.permute((0, 3, 1, 2))?.contiguous()?.to_dtype(DType::F32)?;
        Ok(((planes * (2.0 / 255.0))? - 1.0)?)
    }

    /// What the classifier says of an attribute, for each of the pictures (B, H, W, 3) of bytes: the probability of a class, and whether it is
    /// the likeliest.
    ///
    /// # Errors
    /// Where shapes do not fit, or there is no such class.
    pub fn classified(
        &self,
        pixels: &Tensor,
        attribute: Attribute,
        class: usize,
    ) -> Result<Vec<(f64, bool)>> {
        let logits = self.classifier.logits(&self.units(pixels)?)?;
        let place =
            Attribute::ALL.iter().position(|&one| one == attribute).context("an attribute without logits")?;
        ensure!(
            class < attribute.classes(),
            "class {class} of {} of `{}`",
            attribute.classes(),
            attribute.name()
        );
        let logits = logits[place].detach().to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let one = |row: &Vec<f64>| {
            let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|logit| (logit - most).exp()).sum();
            ((row[class] - most).exp() / sum, row[class] >= most)
        };
        Ok(logits.iter().map(one).collect())
    }
}
