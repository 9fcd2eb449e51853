//! A pipeline whose tensors are at hand, so that some can be replaced.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use candle_core::{DType, Device, Tensor, Var, bail};
use sd_core::models::clip::TextModel;
use sd_core::models::clip::tokenizer::Prompt;
use sd_core::models::unet::UNet2DConditionModel;
use sd_core::nn::{Init, Scope, Source};
use sd_core::pipeline::StableDiffusion;
use sd_core::taps::NoTap;
use sd_core::weights::{Component, Folder, Rules, Weights, load};

use crate::encoder::InMemory;

/// Tensors by name.
pub type State = BTreeMap<String, Tensor>;

/// A pipeline, and the tensors of its text encoder and its denoiser.
pub struct Model {
    /// The pipeline.
    pub pipeline: StableDiffusion,
    /// Of the text encoder.
    pub text: State,
    /// Of the denoiser.
    pub unet: State,
}

/// What a method changes.
#[derive(Clone, Default)]
pub struct Changed {
    /// Tensors of the text encoder.
    pub text: State,
    /// Tensors of the denoiser.
    pub unet: State,
}

impl Model {
    /// Opens the pipeline in `folder`.
    ///
    /// # Errors
    /// Where a file is absent or broken.
    pub fn open(folder: &Path, device: &Device) -> Result<Self> {
        let pipeline = StableDiffusion::open(folder, DType::F32, device)?;
        let opened = Folder::open(folder)?;
        let state = |component| -> Result<State> {
            let weights = opened.weights(component, DType::F32)?;
            let read = |name: &str| Ok((name.to_owned(), weights.tensor(name, DType::F32, device)?));
            weights.names().map(read).collect()
        };
        let text = state(Component::TextEncoder)?;
        Ok(Self { pipeline, text: prefixed(text), unet: state(Component::Unet)? })
    }

    /// Where keys come from.
    #[must_use]
    pub fn keys(&self) -> InMemory<'_> {
        InMemory {
            text: &self.pipeline.text_encoder,
            tensors: &self.text,
            tokenizer: &self.pipeline.tokenizer,
        }
    }

    /// The pipeline with some tensors replaced.
    ///
    /// # Errors
    /// Where a tensor is not the model's.
    pub fn with(&self, changed: &Changed) -> Result<StableDiffusion> {
        let mut pipeline = self.pipeline.clone();
        if !changed.text.is_empty() {
            let (state, config) = (replaced(&self.text, &changed.text)?, self.pipeline.text_encoder.config());
            pipeline.text_encoder =
                build(state, &Rules::clip_text(), &pipeline.device, |scope| TextModel::new(scope, config))?;
        }
        if !changed.unet.is_empty() {
            let (state, config) = (replaced(&self.unet, &changed.unet)?, self.pipeline.unet.config());
            pipeline.unet = build(state, &Rules::strict(), &pipeline.device, |scope| {
                UNet2DConditionModel::new(scope, config)
            })?;
        }
        Ok(pipeline)
    }

    /// The denoiser with those tensors as variables whose names `is_trained` picks.
    ///
    /// # Errors
    /// Where none is picked.
    pub fn trainable(
        &self,
        is_trained: &dyn Fn(&str) -> bool,
    ) -> Result<(UNet2DConditionModel, Vec<(String, Var)>)> {
        let mut source =
            Partly { state: &self.unet, is_trained, vars: Vec::new(), device: &self.pipeline.device };
        let unet = UNet2DConditionModel::new(&mut Scope::of(&mut source), self.pipeline.unet.config())?;
        ensure!(!source.vars.is_empty(), "no tensor of the denoiser is to be trained");
        Ok((unet, source.vars))
    }

    /// The text encoder's vectors (B, T, D) of captions.
    ///
    /// # Errors
    /// Where a computation fails.
    pub fn hidden(&self, captions: &[String]) -> Result<Tensor> {
        Ok(self.pipeline.encode(captions, &mut NoTap)?.detach())
    }

    /// A caption's tokens.
    ///
    /// # Errors
    /// Where the tokenizer fails.
    pub fn prompt(&self, caption: &str) -> Result<Prompt> {
        Ok(self.pipeline.tokenizer.encode(caption)?)
    }
}

/// Names as the model has them: some files leave the prefix out.
fn prefixed(state: State) -> State {
    let full =
        |name: String| if name.starts_with("text_model.") { name } else { format!("text_model.{name}") };
    state.into_iter().map(|(name, tensor)| (full(name), tensor)).collect()
}

fn replaced(state: &State, changed: &State) -> Result<State> {
    let mut state = state.clone();
    for (name, tensor) in changed {
        let old = state.get_mut(name).with_context(|| format!("the model has no tensor `{name}`"))?;
        ensure!(
            old.dims() == tensor.dims(),
            "tensor `{name}`: expected {:?}, found {:?}",
            old.dims(),
            tensor.dims()
        );
        *old = tensor.to_dtype(old.dtype())?.to_device(old.device())?;
    }
    Ok(state)
}

fn build<M>(
    state: State,
    rules: &Rules,
    device: &Device,
    build: impl FnOnce(&mut Scope<'_>) -> candle_core::Result<M>,
) -> Result<M> {
    Ok(load(&Weights::from_tensors(state), DType::F32, device, rules, build)?)
}

/// Frozen tensors, some of them variables.
struct Partly<'a> {
    state: &'a State,
    is_trained: &'a dyn Fn(&str) -> bool,
    vars: Vec<(String, Var)>,
    device: &'a Device,
}

impl Source for Partly<'_> {
    fn parameter(&mut self, path: &str, shape: &[usize], _: Init) -> candle_core::Result<Tensor> {
        let Some(tensor) = self.state.get(path).filter(|tensor| tensor.dims() == shape) else {
            bail!("the model has no tensor `{path}` of {shape:?}")
        };
        if !(self.is_trained)(path) {
            return Ok(tensor.clone());
        }
        let var = Var::from_tensor(tensor)?;
        self.vars.push((path.to_owned(), var.clone()));
        Ok(var.as_tensor().clone())
    }

    fn buffer(&mut self, path: &str, _: &[usize], _: f64) -> candle_core::Result<Var> {
        bail!("a denoiser has no buffer `{path}`")
    }

    fn device(&self) -> &Device {
        self.device
    }

    fn dtype(&self) -> DType {
        DType::F32
    }
}
