//! Closed forms: one linear system each.

use std::time::Instant;

use anyhow::{Context, Result};
use candle_core::{DType, Device, Tensor};
use faer::Mat;
use sd_core::models::clip::tokenizer::Prompt;

use super::{Applied, Job, LocoEdit, Time, Uce, text_flops};
use crate::edit::Edit;
use crate::encoder::tensor_name;
use crate::model::{Changed, Model, State};
use crate::rows::{Bias, Change, Pairing, Settings, Tokens, last_token, pairings, prompts};
use crate::solve::System;

/// Runs of which the median time counts: one takes a millisecond.
const RUNS: usize = 5;

pub(super) fn quickfix(job: &Job<'_>, settings: Settings) -> Result<Applied> {
    let changes: Vec<Change> = job.items.iter().map(|item| item.change.clone()).collect();
    let edit = Edit::new(String::new(), settings, changes, Vec::new());
    let keys = job.model.keys();
    let mut times = Vec::new();
    let mut made = None;
    for _ in 0..RUNS {
        let begun = Instant::now();
        let solved = edit.solve(&keys)?;
        let matrix = solved.matrix()?;
        times.push(begun.elapsed().as_secs_f64());
        made = Some((solved, matrix));
    }
    times.sort_by(f64::total_cmp);
    let (solved, matrix) = made.context("no run")?;
    let config = job.model.pipeline.text_encoder.config();
    let asked = if settings.rule.bare { 2 } else { 8 } * job.items.len();
    // Queries, keys and values and the attention of the layer; the layers before it.
    let (size, tokens) = (config.hidden_size as f64, config.max_position_embeddings as f64);
    let first = tokens * 6.0 * size * size + 4.0 * tokens * tokens * size;
    let collect = asked as f64 * (first + text_flops(config, settings.layer));
    let flops = collect + system_flops(solved.rows as f64, size) + 2.0 * size.powi(3);
    let mut changed = Changed::default();
    changed.text.insert(tensor_name(settings.layer), matrix);
    Ok(Applied { changed, seconds: times[RUNS / 2], flops, solved: Some(solved), ..Applied::default() })
}

/// Of the smaller of both systems: Gram matrix, Cholesky, two triangular solves, and the product with the steps.
fn system_flops(rows: f64, size: f64) -> f64 {
    let (small, large) = (rows.min(size), rows.max(size));
    2.0 * small * small * large + small.powi(3) / 3.0 + 2.0 * small * small * size + 2.0 * rows * size * size
}

/// Embeddings are paired from the last token on; a concept with more tokens gets the first of the other's for the rest.
pub(super) fn copied(job: &Job<'_>) -> Result<Applied> {
    const NAME: &str = "text_model.embeddings.token_embedding.weight";
    let table = job.model.text.get(NAME).context("the text encoder has no token embedding")?;
    let original = table.to_dtype(DType::F32)?.to_vec2::<f32>()?;
    let mut rows = original.clone();
    for item in job.items {
        let [from, to] = [&item.change.from, &item.change.to].map(|text| job.model.prompt(text));
        let [from, to] = [words(&from?)?, words(&to?)?];
        for (behind, &id) in from.iter().rev().enumerate() {
            let source = to[to.len() - 1 - behind.min(to.len() - 1)];
            rows[id as usize] = original[source as usize].clone();
        }
    }
    let mut changed = Changed::default();
    changed.text.insert(NAME.to_owned(), Tensor::new(rows, table.device())?);
    Ok(Applied { changed, ..Applied::default() })
}

/// The ids between begin and end.
fn words(prompt: &Prompt) -> Result<Vec<u32>> {
    Ok(prompt.ids[1..=last_token(prompt)?].to_vec())
}

/// What encoder outputs make rows.
struct Outputs<'a> {
    model: &'a Model,
    system: System,
    prompts: usize,
}

impl<'a> Outputs<'a> {
    fn new(model: &'a Model) -> Self {
        let system = System::empty(model.pipeline.text_encoder.config().hidden_size);
        Self { model, system, prompts: 0 }
    }

    /// The encoder's vectors (T, D) of a prompt.
    fn hidden(&mut self, text: &str) -> Result<Mat<f64>> {
        self.prompts += 1;
        let rows = self.model.hidden(&[text.to_owned()])?.get(0)?.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        Ok(Mat::from_fn(rows.len(), rows.first().map_or(0, Vec::len), |token, channel| rows[token][channel]))
    }

    fn add(
        &mut self,
        [from, to]: [&str; 2],
        weight: f64,
        pair: impl Fn(&Prompt, &Prompt) -> Result<Vec<Pairing>>,
    ) -> Result<()> {
        let pairs = pair(&self.model.prompt(from)?, &self.model.prompt(to)?)?;
        let [from, to] = [self.hidden(from)?, self.hidden(to)?];
        self.system = self.system.and(&System::of_pair([&from, &to], &pairs, Bias::Correct, weight)?);
        Ok(())
    }

    /// The change of keys and values of the cross-attentions that `is_edited` picks by their number in a pass.
    fn applied(&self, lambda: f64, is_edited: impl Fn(usize) -> bool) -> Result<Applied> {
        let common = self.system.common(lambda)?;
        let size = common.ncols();
        let values: Vec<f32> = (0..size * size).map(|at| common[(at / size, at % size)] as f32).collect();
        let common = Tensor::from_vec(values, (size, size), &Device::Cpu)?;
        let mut changed = Changed::default();
        let mut flops = system_flops(self.system.rows() as f64, size as f64);
        for (number, pair) in cross_attentions(&self.model.unet).iter().enumerate() {
            if !is_edited(number) {
                continue;
            }
            for name in pair {
                let old = &self.model.unet[name];
                let step = old.matmul(&common.to_device(old.device())?)?;
                flops += 2.0 * old.elem_count() as f64 * size as f64;
                changed.unet.insert(name.clone(), (old + step)?);
            }
        }
        let config = self.model.pipeline.text_encoder.config();
        flops += self.prompts as f64 * text_flops(config, config.num_hidden_layers);
        Ok(Applied { changed, flops, ..Applied::default() })
    }
}

/// Names of keys and values of every cross-attention, in the order of a pass.
pub(crate) fn cross_attentions(unet: &State) -> Vec<[String; 2]> {
    let place = |name: &str| {
        let stage = if name.starts_with("down") { 0 } else { usize::from(name.starts_with("up")) + 1 };
        let numbers: Vec<usize> = name.split('.').filter_map(|part| part.parse().ok()).collect();
        (stage, numbers)
    };
    let mut keys: Vec<&String> = unet.keys().filter(|name| name.ends_with("attn2.to_k.weight")).collect();
    keys.sort_by_key(|name| place(name));
    keys.into_iter().map(|key| [key.clone(), key.replace("to_k", "to_v")]).collect()
}

pub(super) fn uce(job: &Job<'_>, uce: &Uce) -> Result<Applied> {
    let mut outputs = Outputs::new(job.model);
    for item in job.items {
        let Change { from, to, .. } = &item.change;
        outputs.add([from, to], 1.0, |from, to| pairings(from, to, uce.tokens))?;
    }
    let kept: Vec<String> = others(job);
    let weight = if uce.shared { uce.preserve.max(1.0 / kept.len().max(1) as f64) } else { uce.preserve };
    for concept in kept.iter().filter(|_| weight > 0.0) {
        outputs.add([concept, concept], weight, |from, to| pairings(from, to, uce.tokens))?;
    }
    outputs.applied(uce.lambda, |_| true)
}

/// The other concepts of the suites that are edited.
fn others(job: &Job<'_>) -> Vec<String> {
    let all: std::collections::BTreeSet<String> =
        job.items.iter().flat_map(crate::suites::Item::others).collect();
    all.into_iter().filter(|concept| job.items.iter().all(|item| item.change.from != *concept)).collect()
}

/// Every token of the prompt: those before the concept keep their places, of the concept all act as the last token of the other, and what is
/// behind is paired from there on.
pub(super) fn time(job: &Job<'_>, time: &Time) -> Result<Applied> {
    let mut outputs = Outputs::new(job.model);
    for item in job.items {
        let [from, to] = [&item.change.from, &item.change.to].map(|concept| prompts(concept, true));
        let [concept, other] = [&item.change.from, &item.change.to]
            .map(|text| words(&job.model.prompt(text)?).map(|ids| ids.len()));
        let (concept, other) = (concept?, other?);
        for (from, to) in from.iter().zip(&to) {
            outputs.add([from, to], 1.0, |from, to| {
                let first = last_token(from)? + 1 - concept;
                let last = last_token(to)?;
                let before = (0..first).map(|at| Pairing { key: at, value: at.min(last - other.min(last)) });
                let inside = (first..first + concept - 1).map(|at| Pairing { key: at, value: last });
                let behind = pairings(from, to, Tokens::LastThroughEnd)?;
                Ok(before.chain(inside).chain(behind).collect())
            })?;
        }
    }
    outputs.applied(time.lambda, |_| true)
}

pub(super) fn loco_edit(job: &Job<'_>, edit: &LocoEdit) -> Result<Applied> {
    let mut outputs = Outputs::new(job.model);
    for item in job.items {
        let [from, to] = [&item.change.from, &item.change.to].map(|concept| prompts(concept, true));
        for (from, to) in from.iter().zip(&to) {
            outputs.add([from, to], 1.0, |from, to| pairings(from, to, Tokens::LastSubject))?;
        }
    }
    outputs.applied(edit.lambda, |number| edit.layers.contains(&number))
}
