//! One training run: a network, a data set, an optimiser and a seed; what is measured on the way.

use std::time::{Duration, Instant};

use anyhow::Context;
use candle_core::{D, Device, Tensor};
use lab::paper::TrialContext;
use lab::trial::Measure;
use sd_core::rng::Rng;
use worlds::classification;

use super::ImageStudy;
use super::batches::{Pictures, subset};
use super::checkpoint;
use super::resnet::{Activation, ResNet};
use crate::optim::{Optimiser, OptimiserConfig, XiStats};

/// Pictures evaluated at once; no result depends on it.
const EVALUATION_BATCH: usize = 250;

/// A checkpoint is written at the end of the first epoch this long after the last one.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(20);

/// What one trial trains.
pub struct Run<'a> {
    /// The study.
    pub study: &'a ImageStudy,
    /// Name of the data set itself, such as `cifar10`.
    pub data: &'a str,
    /// The arm's optimiser.
    pub optimiser: &'a OptimiserConfig,
    /// The arm's non-linearity.
    pub activation: Activation,
    /// Seed of initial values, subset, order and augmentation.
    pub seed: u64,
}

/// Training and test pictures of a run.
struct Data {
    train: Pictures,
    test: Pictures,
    classes: usize,
}

/// Sums over the batches of one epoch.
#[derive(Default)]
struct Epoch {
    loss: f64,
    correct: f64,
    seen: f64,
    xi: Option<XiStats>,
}

/// Trains and writes the rows that `README.md` of this crate explains. Continues from the trial's checkpoint where there is
/// one: the rows are then the same, bit for bit, as those of a run that never stopped.
///
/// # Errors
/// Where the data cannot be read, the loss is not finite, or a file cannot be written.
pub fn train(run: &Run<'_>, context: &mut TrialContext) -> anyhow::Result<()> {
    let device = Device::Cpu;
    let data = run.load(context)?;
    let model = run.model(&data, &device)?;
    let named = model.parameters.named().map(|(name, var)| (name.to_owned(), var.clone())).collect();
    let mut optimiser = Optimiser::named(named, run.optimiser)?;
    let folder = context.checkpoint()?;
    let mut done = 0;
    if let Some((epochs, rows)) = checkpoint::restore(&folder, &model, &mut optimiser)? {
        context.restore_rows(rows);
        done = epochs;
    }
    let mut saved = Instant::now();
    for epoch in done..run.study.epochs {
        run.epoch(epoch, &data, &model, &mut optimiser, context)?;
        context.progress((epoch + 1) as f64 / run.study.epochs as f64, &format!("epoch {}", epoch + 1));
        if saved.elapsed() >= CHECKPOINT_EVERY {
            checkpoint::save(&folder, &model, &optimiser, epoch + 1, context.rows())?;
            saved = Instant::now();
        }
    }
    summarise(run, &model, context)
}

impl Run<'_> {
    fn load(&self, context: &TrialContext) -> anyhow::Result<Data> {
        let (train, test) = classification::load(self.data, &context.data)?;
        let chosen = subset(&train, self.study.images_per_class, self.seed)?;
        let judged: Vec<usize> = (0..self.study.test_images.unwrap_or(test.len()).min(test.len())).collect();
        Ok(Data {
            train: Pictures::select(&train, &chosen, self.study.side)?,
            test: Pictures::select(&test, &judged, self.study.side)?,
            classes: train.classes,
        })
    }

    fn model(&self, data: &Data, device: &Device) -> anyhow::Result<ResNet> {
        let ImageStudy { network, side, .. } = *self.study;
        Ok(ResNet::new(network, self.activation, data.classes, side, self.seed, device)?)
    }

    /// Learning rate of `epoch`, relative to the arm's.
    fn schedule(&self, epoch: usize) -> f64 {
        if epoch < self.study.drop_at { 1.0 } else { self.study.drop_factor }
    }

    fn epoch(
        &self,
        epoch: usize,
        data: &Data,
        model: &ResNet,
        optimiser: &mut Optimiser,
        context: &mut TrialContext,
    ) -> anyhow::Result<()> {
        optimiser.set_learning_rate(self.optimiser.lr * self.schedule(epoch));
        let order = Rng::new(self.seed, "order", epoch as u64).permutation(u32::try_from(data.train.len())?);
        let mut sums = Epoch::default();
        for batch in order.chunks(self.study.batch) {
            let batch =
                data.train.augmented(batch, self.study.crop_padding, self.seed, epoch, &Device::Cpu)?;
            sums.add(step(model, optimiser, &batch)?);
        }
        sums.report(epoch, context)?;
        if epoch + self.study.evaluate_last >= self.study.epochs {
            let at = (epoch + 1) as f64;
            let (accuracy, loss) = evaluate(model, &data.test)?;
            context.row_at("test_acc", at, accuracy)?;
            context.row_at("test_loss", at, loss)?;
        }
        Ok(())
    }
}

/// One optimiser step: forward, mean cross-entropy, backward, update.
fn step(model: &ResNet, optimiser: &mut Optimiser, (x, labels): &(Tensor, Tensor)) -> anyhow::Result<Epoch> {
    let logits = model.forward(x, true)?;
    let loss = candle_nn::loss::cross_entropy(&logits, labels)?;
    let value = f64::from(loss.to_scalar::<f32>()?);
    anyhow::ensure!(value.is_finite(), "the training loss is {value}; lower the learning rate of this arm");
    let xi = optimiser.step_with_stats(&loss.backward()?)?;
    let seen = labels.elem_count() as f64;
    Ok(Epoch { loss: value * seen, correct: correct(&logits, labels)?, seen, xi })
}

fn correct(logits: &Tensor, labels: &Tensor) -> candle_core::Result<f64> {
    let hits = logits.argmax(D::Minus1)?.eq(labels)?.to_dtype(candle_core::DType::F32)?.sum_all()?;
    Ok(f64::from(hits.to_scalar::<f32>()?))
}

/// Top-1 accuracy in percent and mean cross-entropy over all pictures, with running statistics.
fn evaluate(model: &ResNet, pictures: &Pictures) -> anyhow::Result<(f64, f64)> {
    let indices: Vec<u32> = (0..u32::try_from(pictures.len())?).collect();
    let mut sums = Epoch::default();
    for batch in indices.chunks(EVALUATION_BATCH) {
        let (x, labels) = pictures.batch(batch, &Device::Cpu)?;
        // Detached: nothing will be differentiated, so nothing need be kept.
        let logits = model.forward(&x, false)?.detach();
        let loss = f64::from(candle_nn::loss::cross_entropy(&logits, &labels)?.to_scalar::<f32>()?);
        let seen = batch.len() as f64;
        sums.add(Epoch { loss: loss * seen, correct: correct(&logits, &labels)?, seen, xi: None });
    }
    Ok((100.0 * sums.correct / sums.seen, sums.loss / sums.seen))
}

impl Epoch {
    fn add(&mut self, other: Epoch) {
        self.loss += other.loss;
        self.correct += other.correct;
        self.seen += other.seen;
        match (&mut self.xi, other.xi) {
            (Some(total), Some(xi)) => total.merge(&xi),
            (total @ None, xi) => *total = xi,
            (Some(_), None) => {}
        }
    }

    fn report(&self, epoch: usize, context: &mut TrialContext) -> anyhow::Result<()> {
        let at = (epoch + 1) as f64;
        context.row_at("train_loss", at, self.loss / self.seen)?;
        context.row_at("train_acc", at, 100.0 * self.correct / self.seen)?;
        let xi = self.xi.as_ref();
        if let Some((mean, p99)) = xi.and_then(|xi| xi.mean().zip(xi.p99())) {
            context.row_at("xi_mean", at, mean)?;
            context.row_at("xi_p99", at, p99)?;
        }
        Ok(())
    }
}

/// The rows that sum up the run: best, final and last-five accuracy, the plateau before the drop, the largest ξ.
fn summarise(run: &Run<'_>, model: &ResNet, context: &mut TrialContext) -> anyhow::Result<()> {
    let curve = |context: &TrialContext, metric: &str| -> Vec<f64> {
        context.rows().iter().filter(|row| row.metric == metric).map(|row| row.value).collect()
    };
    let accuracy = curve(context, "test_acc");
    let last = *accuracy.last().context("no epoch was evaluated")?;
    context.row("test_acc_best", accuracy.iter().copied().fold(f64::NEG_INFINITY, f64::max))?;
    context.row("test_acc_final", last)?;
    context.row("test_acc_last5", mean(&accuracy[accuracy.len().saturating_sub(5)..]))?;
    let train = curve(context, "train_acc");
    context.row("train_acc_final", *train.last().context("no epoch was run")?)?;
    if let Some(drop) = plateau_drop(&curve(context, "train_loss"), run.study.drop_at) {
        context.row("plateau_drop", drop)?;
    }
    for metric in ["xi_mean", "xi_p99"] {
        let values = curve(context, metric);
        if !values.is_empty() {
            context.row(&format!("{metric}_run"), mean(&values))?;
            context.row(&format!("{metric}_max"), values.iter().copied().fold(0.0, f64::max))?;
        }
    }
    context.row("parameters", model.cost().parameters as f64)?;
    if let Some(copy) = classification::altered_copy(run.data, &context.data)? {
        context.row_full(Measure::new("data_is_altered", 1.0).tag("data", copy))?;
    }
    Ok(())
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// How far training still was from a plateau when the learning rate dropped: the relative fall of the mean training loss from
/// the first to the second half of the last quarter of the epochs before the drop. `None` with fewer than 8 such epochs.
fn plateau_drop(loss: &[f64], drop_at: usize) -> Option<f64> {
    let before = loss.get(..drop_at)?;
    let half = drop_at / 8;
    if half == 0 {
        return None;
    }
    let (early, late) = (mean(&before[drop_at - 2 * half..drop_at - half]), mean(&before[drop_at - half..]));
    Some((early - late) / early)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_plateau_compares_the_halves_of_the_last_quarter() {
        let loss: Vec<f64> = (0..32).map(|epoch| if epoch < 28 { 2.0 } else { 1.5 }).collect();
        assert_eq!(plateau_drop(&loss, 32), Some(0.25));
        assert_eq!(plateau_drop(&loss, 7), None);
        assert_eq!(plateau_drop(&loss, 40), None, "a run that never reached the drop");
    }
}
