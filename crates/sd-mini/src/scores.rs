//! Who says how well a picture fits a caption. It is never the generator's own text tower (trap T9).

use std::path::Path;

use anyhow::{Context, Result};
use candle_core::{D, DType, Device, Tensor};
use sd_core::models::clip::tokenizer::Prompt;
use sd_core::models::clip::{Clip, ClipConfig, Preprocessor, TextModel, Tokenizer};
use sd_core::taps::NoTap;
use sd_core::weights::{Rules, Weights, load};

use crate::judges::Judges;

/// CLIP-Score: the cosine of a picture's vector and a caption's, without scale, offset or prefix.
pub trait Judge {
    /// What judges, for the report.
    fn name(&self) -> String;

    /// A cosine for each of the pictures (B, H, W, 3), `u8` on the CPU.
    ///
    /// # Errors
    /// Where a computation fails.
    fn cosines(&self, pixels: &Tensor, caption: &str) -> Result<Vec<f64>>;
}

/// sd-mini's second pair of text encoder and image tower, trained apart from the generator.
pub struct MiniJudge<'a>(pub &'a Judges);

impl Judge for MiniJudge<'_> {
    fn name(&self) -> String {
        "sd-mini's second pair of text encoder and image tower, of another seed".to_owned()
    }

    fn cosines(&self, pixels: &Tensor, caption: &str) -> Result<Vec<f64>> {
        self.0.cosines(&self.0.units(pixels)?, caption)
    }
}

/// A `CLIPModel` from a folder in transformers' layout: `config.json`, weights, tokenizer, `preprocessor_config.json`.
pub struct ClipJudge {
    name: String,
    clip: Clip,
    tokenizer: Tokenizer,
    preprocessor: Preprocessor,
    device: Device,
}

impl ClipJudge {
    /// Opens the folder.
    ///
    /// # Errors
    /// Where a file is absent or broken, or the tensors do not fit the configuration.
    pub fn open(folder: &Path, device: &Device) -> Result<Self> {
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path).with_context(|| {
                format!(
                    "{}: a judge is a folder with config.json, weights, tokenizer and preprocessor_config.json, as \
                     transformers saves it\n  help: name such a folder; its weights must be safetensors",
                    path.display()
                )
            })
        };
        let config = ClipConfig::from_json(&read("config.json")?)?;
        let preprocessor = Preprocessor::from_json(&read("preprocessor_config.json")?)?;
        let weights = Weights::open(folder)?;
        let clip =
            load(&weights, DType::F32, device, &Rules::clip_text(), |scope| Clip::new(scope, &config))?;
        let tokenizer = Tokenizer::open(folder)?;
        Ok(Self { name: folder.display().to_string(), clip, tokenizer, preprocessor, device: device.clone() })
    }

    /// Whether the generator's text encoder is this judge's own: then it would judge itself.
    ///
    /// # Errors
    /// Where a computation fails.
    pub fn is_generator(&self, text: &TextModel, caption: &Prompt) -> Result<bool> {
        if text.config().vocab_size != self.clip.config().text.vocab_size
            || text.config().hidden_size != self.clip.config().text.hidden_size
        {
            return Ok(false);
        }
        let ids = Prompt::stack(std::slice::from_ref(caption), &self.device)?;
        let [own, theirs] = [self.clip.text(), text].map(|text| text.forward(&ids, &mut NoTap));
        let off =
            (own?.pooled - theirs?.pooled.to_dtype(DType::F32)?)?.abs()?.max_all()?.to_scalar::<f32>()?;
        Ok(off < 1e-4)
    }
}

impl Judge for ClipJudge {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn cosines(&self, pixels: &Tensor, caption: &str) -> Result<Vec<f64>> {
        let prompt = self.tokenizer.encode(caption)?;
        let ids = Prompt::stack(&[prompt], &self.device)?;
        let (count, height, width, _) = pixels.dims4()?;
        let bytes = pixels.flatten_all()?.to_vec1::<u8>()?;
        let mut cosines = Vec::with_capacity(count);
        for picture in bytes.chunks(height * width * 3) {
            let picture = self.preprocessor.apply(picture, height, width, &self.device)?.unsqueeze(0)?;
            let compared = self.clip.forward(&ids, &picture, &mut NoTap)?;
            cosines.extend(compared.cosines.squeeze(D::Minus1)?.to_dtype(DType::F64)?.to_vec1::<f64>()?);
        }
        Ok(cosines)
    }
}
