//! Keys: what a layer's self-attention gives to its output projection.
//!
//! Two ways lead there. [`collect`] listens to a text encoder that is in memory. [`crate::Encoder`] computes the same from a file of
//! weights, of which it reads what the layer needs and no more.

use std::collections::BTreeMap;

use anyhow::{Result, bail, ensure};
use candle_core::{DType, Device, Result as TensorResult, Tensor};
use faer::linalg::matmul::matmul;
use faer::{Accum, Mat, MatRef, Par};
use rayon::prelude::*;
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
    check_layer(layer, config.num_hidden_layers)?;
    if prompts.is_empty() {
        return Ok(Vec::new());
    }
    let mut seen = Inputs::new(layer);
    let ids = Prompt::stack(prompts, device)?;
    until_stop(&mut seen, |tap| text.forward(&ids, tap))?;
    let [Some(q), Some(k), Some(v)] = &seen.found else {
        bail!("layer {layer} offered no queries, keys or values")
    };
    let (batch, tokens, _) = q.dims3()?;
    let projected = Projected::new([q, k, v], config.num_attention_heads)?;
    let rows: Vec<Vec<usize>> =
        (0..batch).map(|prompt| (prompt * tokens..(prompt + 1) * tokens).collect()).collect();
    Ok(projected.attend_all(&rows))
}

/// # Errors
/// Where an encoder of `layers` layers has no layer `layer`.
pub(crate) fn check_layer(layer: usize, layers: usize) -> Result<()> {
    ensure!(
        layer < layers,
        "there is no layer {layer}: the text encoder has {layers}\n  help: layers are counted from 0; the paper's is 0"
    );
    Ok(())
}

/// Queries, keys and values (N, D) of tokens.
pub(crate) struct Projected {
    /// Turned, (D, N): a token's numbers lie side by side.
    qkv: [Mat<f64>; 3],
    heads: usize,
}

impl Projected {
    /// Of tensors (…, D).
    pub(crate) fn new(qkv: [&Tensor; 3], heads: usize) -> Result<Self> {
        let turned = |tensor: &Tensor| -> Result<Mat<f64>> {
            let width = tensor.dims().last().copied().unwrap_or_default();
            let values = tensor.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>()?;
            Ok(MatRef::from_column_major_slice(&values, width, values.len() / width.max(1)).to_owned())
        };
        let [q, k, v] = qkv.map(turned);
        let qkv = [q?, k?, v?];
        let width = qkv[0].nrows();
        ensure!(heads > 0 && width.is_multiple_of(heads), "{heads} heads of {width} channels");
        Ok(Self { qkv, heads })
    }

    /// Attention of prompts whose tokens are these rows.
    pub(crate) fn attend_all(&self, prompts: &[Vec<usize>]) -> Vec<Attended> {
        prompts.par_iter().map(|rows| self.attend(rows)).collect()
    }

    /// Causal attention of one prompt, head by head: (T, D).
    fn attend(&self, rows: &[usize]) -> Attended {
        let (tokens, width) = (rows.len(), self.qkv[0].nrows());
        let size = width / self.heads;
        let [q, k, v] = self.qkv.each_ref().map(|all| columns(all, rows));
        let scale = 1.0 / (size as f64).sqrt();
        let mut out = Mat::zeros(width, tokens);
        // Column t: how much token t attends to each before it.
        let mut weights = Mat::zeros(tokens, tokens);
        for head in 0..self.heads {
            let of = |all: &Mat<f64>| all.subrows(head * size, size).to_owned();
            let (q, k, v) = (of(&q), of(&k), of(&v));
            matmul(&mut weights, Accum::Replace, k.transpose(), &q, scale, Par::Seq);
            (0..tokens).for_each(|token| softmax(&mut weights, token));
            matmul(out.subrows_mut(head * size, size), Accum::Replace, &v, &weights, 1.0, Par::Seq);
        }
        out.transpose().to_owned()
    }
}

/// Some columns of a matrix.
fn columns(of: &Mat<f64>, picked: &[usize]) -> Mat<f64> {
    let mut all = Mat::zeros(of.nrows(), picked.len());
    for (to, &from) in picked.iter().enumerate() {
        all.col_mut(to).copy_from(of.col(from));
    }
    all
}

/// Of the entries up to `token` in column `token`; those behind it, which it does not see, become 0.
fn softmax(weights: &mut Mat<f64>, token: usize) {
    let count = weights.nrows();
    let most = (0..=token).map(|key| weights[(key, token)]).fold(f64::NEG_INFINITY, f64::max);
    (0..=token).for_each(|key| weights[(key, token)] = (weights[(key, token)] - most).exp());
    let sum: f64 = (0..=token).map(|key| weights[(key, token)]).sum();
    (0..=token).for_each(|key| weights[(key, token)] /= sum);
    (token + 1..count).for_each(|key| weights[(key, token)] = 0.0);
}

/// Tokens that stand at the same position with the same id have the same queries, keys and values in the first layer: the padding of all
/// prompts does. The distinct (id, position), and for each prompt which of them its tokens are.
pub(crate) fn distinct(prompts: &[Prompt]) -> (Vec<(u32, usize)>, Vec<Vec<usize>>) {
    let mut places: BTreeMap<(u32, usize), usize> = BTreeMap::new();
    let mut order = Vec::new();
    let mut row = |at: (u32, usize)| {
        *places.entry(at).or_insert_with(|| {
            order.push(at);
            order.len() - 1
        })
    };
    let rows = prompts
        .iter()
        .map(|prompt| prompt.ids.iter().enumerate().map(|(at, &id)| row((id, at))).collect())
        .collect();
    (order, rows)
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
