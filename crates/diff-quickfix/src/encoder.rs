//! A text encoder in a file, of which only what an edit needs is read.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use candle_core::{DType, Device, Tensor};
use faer::{Mat, MatRef};
use sd_core::models::clip::tokenizer::Prompt;
use sd_core::models::clip::{TextConfig, TextModel, Tokenizer};
use sd_core::nn::{LayerNorm, Linear};
use sd_core::pipeline::Parts;
use sd_core::taps::NoTap;
use sd_core::weights::{Component, Rules, Weights, load};

use crate::collect::{Attended, Projected, check_layer, distinct};
use crate::folder::Record;

/// The matrix that is edited, W (D, D), `y = W k + b`, and its bias.
#[derive(Clone, Debug)]
pub struct Projection {
    /// W₀, the original.
    pub weight: Mat<f64>,
    /// b.
    pub bias: Vec<f64>,
}

/// Where keys and matrices come from.
pub trait Keys {
    /// The inputs of layer `layer`'s output projection for each prompt.
    ///
    /// # Errors
    /// Where there is no such layer, or it cannot be computed.
    fn attended(&self, prompts: &[Prompt], layer: usize) -> Result<Vec<Attended>>;

    /// A layer's output projection, never edited.
    ///
    /// # Errors
    /// As [`Keys::attended`].
    fn projection(&self, layer: usize) -> Result<Projection>;

    /// The tokenizer.
    fn tokenizer(&self) -> &Tokenizer;
}

/// The text encoder in a pipeline's folder. Opening it reads headers and the tokenizer.
#[derive(Debug)]
pub struct Encoder {
    folder: PathBuf,
    config: TextConfig,
    tokenizer: Tokenizer,
    weights: Weights,
    /// What an earlier edit left: changes and the original matrix.
    record: Option<Record>,
}

/// Name of a layer's output projection's matrix, as transformers calls it.
#[must_use]
pub fn tensor_name(layer: usize) -> String {
    format!("text_model.encoder.layers.{layer}.self_attn.out_proj.weight")
}

impl Encoder {
    /// Opens the pipeline in `folder`.
    ///
    /// # Errors
    /// Where it is no pipeline, its text encoder is not CLIP's, or a file is absent or broken.
    pub fn open(folder: &Path) -> Result<Self> {
        let parts = Parts::open(folder, DType::F32, &Device::Cpu)?;
        let (config, tokenizer) = (parts.text_config()?, parts.tokenizer()?);
        let place = folder.join(Component::TextEncoder.name());
        let weights = Weights::open(&place)?;
        let record = Record::read(folder)?;
        Ok(Self { folder: folder.to_owned(), config, tokenizer, weights, record })
    }

    /// The pipeline's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The text encoder's sizes.
    #[must_use]
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// What an earlier edit left in the folder.
    #[must_use]
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    pub(crate) fn weights(&self) -> &Weights {
        &self.weights
    }

    /// What a layer's matrix is called in the file.
    pub(crate) fn stored_name(&self, layer: usize) -> Result<String> {
        check_layer(layer, self.config.num_hidden_layers)?;
        self.name(&tensor_name(layer))
    }

    /// The name that a tensor of the model has in the file.
    fn name(&self, name: &str) -> Result<String> {
        let bare = name.strip_prefix("text_model.").unwrap_or(name);
        [name, bare].into_iter().find(|name| self.weights.shape(name).is_some()).map(str::to_owned).with_context(
            || {
                format!(
                    "{}: expected a CLIP text encoder's `{name}`, found no such tensor\n  help: is the model whole, and is config.json its own?",
                    self.weights.place().display()
                )
            },
        )
    }

    fn read(&self, name: &str, dtype: DType) -> Result<Tensor> {
        Ok(self.weights.tensor(&self.name(name)?, dtype, &Device::Cpu)?)
    }

    /// The distinct tokens' queries, keys and values in the first layer; per prompt which of them its tokens are.
    fn first_layer(&self, prompts: &[Prompt]) -> Result<(Projected, Vec<Vec<usize>>)> {
        let (places, rows) = distinct(prompts);
        let ids: Vec<usize> = places.iter().map(|&(id, _)| id as usize).collect();
        let positions: Vec<u32> = places.iter().map(|&(_, position)| position as u32).collect();
        let tokens = self
            .weights
            .rows(&self.name(TOKENS)?, &ids, DType::F32, &Device::Cpu)
            .context("a token's embedding")?;
        let positions =
            self.read(POSITIONS, DType::F32)?.index_select(&Tensor::new(positions, &Device::Cpu)?, 0)?;
        let normed = self.norm(0)?.forward(&(tokens + positions)?)?;
        Ok((self.projected(&normed, 0)?, rows))
    }

    /// The same in a later layer, behind the layers before it. A text encoder that ends there, with that layer's norm as its last, is what has
    /// to run.
    fn later_layer(&self, prompts: &[Prompt], layer: usize) -> Result<(Projected, Vec<Vec<usize>>)> {
        let (places, _) = distinct(prompts);
        let mut ids: Vec<u32> = places.iter().map(|&(id, _)| id).collect();
        ids.sort_unstable();
        ids.dedup();
        let place: BTreeMap<u32, u32> = ids.iter().zip(0..).map(|(&id, row)| (id, row)).collect();
        let renumbered: Vec<u32> =
            prompts.iter().flat_map(|prompt| &prompt.ids).map(|id| place[id]).collect();
        let tokens = prompts.first().map_or(0, |prompt| prompt.ids.len());
        let renumbered = Tensor::from_vec(renumbered, (prompts.len(), tokens), &Device::Cpu)?;
        let normed = self.beginning(&ids, layer)?.forward(&renumbered, &mut NoTap)?.last_hidden_state;
        let rows =
            (0..prompts.len()).map(|prompt| (prompt * tokens..(prompt + 1) * tokens).collect()).collect();
        Ok((self.projected(&normed.flatten_to(1)?, layer)?, rows))
    }

    /// The layers before `layer`, over a vocabulary of `ids` alone, with that layer's first norm in the place of the last.
    fn beginning(&self, ids: &[u32], layer: usize) -> Result<TextModel> {
        let config = TextConfig {
            vocab_size: ids.len(),
            num_hidden_layers: layer,
            projected: false,
            ..self.config.clone()
        };
        let rows: Vec<usize> = ids.iter().map(|&id| id as usize).collect();
        let mut tensors = BTreeMap::new();
        tensors.insert(
            TOKENS.to_owned(),
            self.weights.rows(&self.name(TOKENS)?, &rows, DType::F32, &Device::Cpu)?,
        );
        tensors.insert(POSITIONS.to_owned(), self.read(POSITIONS, DType::F32)?);
        for part in ["weight", "bias"] {
            let norm = format!("{LAYERS}.{layer}.layer_norm1.{part}");
            tensors.insert(format!("text_model.final_layer_norm.{part}"), self.read(&norm, DType::F32)?);
        }
        for before in 0..layer {
            let prefix = format!("{LAYERS}.{before}.");
            let bare = prefix.trim_start_matches("text_model.").to_owned();
            let own = |name: &&str| name.starts_with(&prefix) || name.starts_with(&bare);
            for name in self.weights.names().filter(own) {
                let full =
                    if name.starts_with(&prefix) { name.to_owned() } else { format!("text_model.{name}") };
                // Keys are those of the original weights: an earlier edit of this layer is put aside.
                let tensor = match self.original(before, &full)? {
                    Some(original) => original,
                    None => self.weights.tensor(name, DType::F32, &Device::Cpu)?,
                };
                tensors.insert(full, tensor);
            }
        }
        let weights = Weights::from_tensors(tensors);
        Ok(load(&weights, DType::F32, &Device::Cpu, &Rules::clip_text(), |scope| {
            TextModel::new(scope, &config)
        })?)
    }

    /// The matrix that an earlier edit of `layer` replaced, where `name` is that matrix.
    fn original(&self, layer: usize, name: &str) -> Result<Option<Tensor>> {
        match &self.record {
            Some(record) if record.edit.settings.layer == layer && name == tensor_name(layer) => {
                let file = self.weights.file_of(&self.name(name)?).unwrap_or(self.weights.place());
                record.original(file).map(Some)
            }
            _ => Ok(None),
        }
    }

    fn norm(&self, layer: usize) -> Result<LayerNorm> {
        let name = format!("{LAYERS}.{layer}.layer_norm1");
        let (size, eps) = (self.config.hidden_size, self.config.layer_norm_eps);
        let weights = self.some(&name, &["weight", "bias"])?;
        Ok(load(&weights, DType::F32, &Device::Cpu, &Rules::strict(), |scope| {
            LayerNorm::new(&mut scope.child("it"), size, eps)
        })?)
    }

    /// Queries, keys and values of normed tokens (N, D).
    fn projected(&self, normed: &Tensor, layer: usize) -> Result<Projected> {
        let size = self.config.hidden_size;
        let project = |name: &str| -> Result<Tensor> {
            let weights = self.some(&format!("{LAYERS}.{layer}.self_attn.{name}"), &["weight", "bias"])?;
            let linear = load(&weights, DType::F32, &Device::Cpu, &Rules::strict(), |scope| {
                Linear::new(&mut scope.child("it"), size, size)
            })?;
            Ok(linear.forward(normed)?)
        };
        let (q, k, v) = (project("q_proj")?, project("k_proj")?, project("v_proj")?);
        Projected::new([&q, &k, &v], self.config.num_attention_heads)
    }

    /// The tensors of one module, which is called `it`.
    fn some(&self, module: &str, parts: &[&str]) -> Result<Weights> {
        let one = |part: &&str| -> Result<(String, Tensor)> {
            Ok((format!("it.{part}"), self.read(&format!("{module}.{part}"), DType::F32)?))
        };
        Ok(Weights::from_tensors(parts.iter().map(one).collect::<Result<_>>()?))
    }
}

const TOKENS: &str = "text_model.embeddings.token_embedding.weight";
const POSITIONS: &str = "text_model.embeddings.position_embedding.weight";
const LAYERS: &str = "text_model.encoder.layers";

impl Keys for Encoder {
    fn attended(&self, prompts: &[Prompt], layer: usize) -> Result<Vec<Attended>> {
        check_layer(layer, self.config.num_hidden_layers)?;
        if prompts.is_empty() {
            return Ok(Vec::new());
        }
        if let Some(prompt) =
            prompts.iter().find(|prompt| prompt.ids.len() > self.config.max_position_embeddings)
        {
            bail!(
                "the tokenizer makes {} tokens of a prompt, the text encoder takes {}",
                prompt.ids.len(),
                self.config.max_position_embeddings
            );
        }
        let (projected, rows) =
            if layer == 0 { self.first_layer(prompts)? } else { self.later_layer(prompts, layer)? };
        Ok(projected.attend_all(&rows))
    }

    fn projection(&self, layer: usize) -> Result<Projection> {
        check_layer(layer, self.config.num_hidden_layers)?;
        let name = tensor_name(layer);
        let weight = match self.original(layer, &name)? {
            Some(original) => original.to_dtype(DType::F64)?,
            None => self.read(&name, DType::F64)?,
        };
        let bias = self.read(&name.replace(".weight", ".bias"), DType::F64)?.to_vec1::<f64>()?;
        projection(&weight, bias).with_context(|| self.weights.place().display().to_string())
    }

    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}

/// A matrix (D, D) of `f64` and its bias, every number looked at.
pub(crate) fn projection(weight: &Tensor, bias: Vec<f64>) -> Result<Projection> {
    let width = bias.len();
    let values = weight.flatten_all()?.to_vec1::<f64>()?;
    ensure!(
        weight.dims() == [width, width],
        "an output projection of {:?} with a bias of {width}",
        weight.dims()
    );
    let faults = values.iter().chain(&bias).filter(|value| !value.is_finite()).count();
    ensure!(
        faults == 0,
        "the output projection has {faults} numbers that are infinite or none\n  help: the weights are damaged, or overflowed when they were \
         converted: fetch them again"
    );
    Ok(Projection { weight: MatRef::from_row_major_slice(&values, width, width).to_owned(), bias })
}

/// A text encoder in memory and its tokenizer.
#[derive(Debug)]
pub struct InMemory<'a> {
    /// The encoder.
    pub text: &'a TextModel,
    /// Its tensors by name.
    pub tensors: &'a BTreeMap<String, Tensor>,
    /// The tokenizer.
    pub tokenizer: &'a Tokenizer,
}

impl Keys for InMemory<'_> {
    fn attended(&self, prompts: &[Prompt], layer: usize) -> Result<Vec<Attended>> {
        let device = self.tensors.values().next().map_or(Device::Cpu, |tensor| tensor.device().clone());
        crate::collect(self.text, prompts, layer, &device)
    }

    fn projection(&self, layer: usize) -> Result<Projection> {
        check_layer(layer, self.text.config().num_hidden_layers)?;
        let read = |name: &str| -> Result<Tensor> {
            let tensor = self.tensors.get(name).with_context(|| format!("there is no tensor `{name}`"))?;
            Ok(tensor.to_dtype(DType::F64)?.to_device(&Device::Cpu)?)
        };
        let name = tensor_name(layer);
        let bias = read(&name.replace(".weight", ".bias"))?.to_vec1::<f64>()?;
        projection(&read(&name)?, bias)
    }

    fn tokenizer(&self) -> &Tokenizer {
        self.tokenizer
    }
}
