//! Keys: what a layer's self-attention gives to its output projection.

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Device, Result as TensorResult, Tensor};
use faer::Mat;
use sd_core::models::clip::TextModel;
use sd_core::models::clip::tokenizer::Prompt;
use sd_core::taps::{Action, Kind, Site, Tap, until_stop};

/// The inputs (T, D) of the output projection at every position of a prompt.
pub type Attended = Mat<f64>;

/// The inputs of layer `layer`'s output projection for each prompt: `softmax(Q Kᵀ/√d) V` of every head, side by side, each token seeing those
/// before it and itself, padding included. Queries, keys and values are the encoder's; the attention is computed in double precision. The pass
/// ends there: no later layer runs. `device` is the encoder's.
///
/// # Errors
/// Where the encoder has no such layer, or a computation fails.
pub fn collect(text: &TextModel, prompts: &[Prompt], layer: usize, device: &Device) -> Result<Vec<Attended>> {
    let config = text.config();
    ensure!(
        layer < config.num_hidden_layers,
        "layer {layer} of {}; layers are counted from 0",
        config.num_hidden_layers
    );
    if prompts.is_empty() {
        return Ok(Vec::new());
    }
    let mut seen = Inputs::new(layer);
    let ids = Prompt::stack(prompts, device)?;
    until_stop(&mut seen, |tap| text.forward(&ids, tap))?;
    let [Some(q), Some(k), Some(v)] = &seen.found else {
        bail!("layer {layer} offered no queries, keys or values")
    };
    let (batch, tokens, width) = q.dims3()?;
    let [q, k, v] = [q, k, v].map(numbers);
    let (q, k, v) = (q?, k?, v?);
    let row = tokens * width;
    let one = |index: usize| {
        let of = |all: &[f64]| all[index * row..(index + 1) * row].to_vec();
        attend([&of(&q), &of(&k), &of(&v)], tokens, width, config.num_attention_heads)
    };
    Ok((0..batch).map(one).collect())
}

fn numbers(tensor: &Tensor) -> TensorResult<Vec<f64>> {
    tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1()
}

/// Causal attention of (T, D) queries, keys and values in heads.
fn attend([q, k, v]: [&[f64]; 3], tokens: usize, width: usize, heads: usize) -> Attended {
    let size = width / heads;
    let scale = 1.0 / (size as f64).sqrt();
    let mut out = Mat::zeros(tokens, width);
    let mut weights = vec![0.0; tokens];
    for head in 0..heads {
        let at = |token: usize| token * width + head * size..token * width + (head + 1) * size;
        for query in 0..tokens {
            let dot =
                |key: usize| q[at(query)].iter().zip(&k[at(key)]).map(|(a, b)| a * b).sum::<f64>() * scale;
            (0..=query).for_each(|key| weights[key] = dot(key));
            softmax(&mut weights[..=query]);
            for (key, weight) in weights[..=query].iter().enumerate() {
                for (channel, value) in v[at(key)].iter().enumerate() {
                    out[(query, head * size + channel)] += weight * value;
                }
            }
        }
    }
    out
}

fn softmax(x: &mut [f64]) {
    let most = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    x.iter_mut().for_each(|value| *value = (*value - most).exp());
    let sum: f64 = x.iter().sum();
    x.iter_mut().for_each(|value| *value /= sum);
}

/// Keeps queries, keys and values of a layer and ends the pass behind them.
struct Inputs {
    sites: [Site; 3],
    found: [Option<Tensor>; 3],
}

impl Inputs {
    fn new(layer: usize) -> Self {
        let attention = format!("text_model.encoder.layers.{layer}.self_attn");
        let site = |name: &str, kind| Site::new(format!("{attention}.{name}"), kind);
        Self {
            sites: [site("q_proj", Kind::Query), site("k_proj", Kind::Key), site("v_proj", Kind::Value)],
            found: [None, None, None],
        }
    }
}

impl Tap for Inputs {
    fn wants(&self, site: &Site) -> bool {
        self.sites.contains(site)
    }

    fn visit(&mut self, site: &Site, value: &Tensor) -> TensorResult<Action> {
        if let Some(at) = self.sites.iter().position(|one| one == site) {
            self.found[at] = Some(value.clone());
        }
        Ok(if self.found.iter().all(Option::is_some) { Action::Stop } else { Action::Keep })
    }
}
