//! The methods that are compared, each to its own description: section 3 of the specification.

mod closed;
mod tuned;

use std::time::Instant;

use anyhow::Result;
use diffgrad::optim::{OptimiserConfig, RuleName};
use schemars::JsonSchema;
use sd_core::models::clip::TextConfig;
use serde::{Deserialize, Serialize};

use crate::edit::Solved;
use crate::model::{Changed, Model};
use crate::rows::{Settings, Tokens};
use crate::suites::Item;

/// A way to edit a concept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The model as it is.
    Unedited,
    /// One matrix of the text encoder, in closed form: the paper's method.
    DiffQuickfix(Settings),
    /// The token embeddings of what the concept is to act as, copied onto the concept's (trap X15).
    EmbeddingCopy,
    /// Diff-QuickFix's objective, by gradient descent on the same matrix: what the closed form alone buys.
    GradientDescent(Descent),
    /// Keys and values of all cross-attentions, in closed form over encoder outputs (Gandikota et al., WACV 2024).
    Uce(Uce),
    /// The same over every token of four prompts (Orgad et al., ICCV 2023).
    Time(Time),
    /// The same in two cross-attentions, over the last token of the subject (Basu et al., ICML 2024).
    LocoEdit(LocoEdit),
    /// Keys and values of all cross-attentions, trained on pictures of the anchor (Kumari et al., ICCV 2023).
    ConceptAblation(ConceptAblation),
    /// All weights of all cross-attentions, trained away from the concept (ESD-x; Gandikota et al., ICCV 2023).
    Esd(Esd),
}

/// See [`Method::GradientDescent`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Descent {
    /// Whose objective.
    pub settings: Settings,
    /// Learning rate of Adam.
    pub lr: f64,
    /// Most steps.
    pub steps: usize,
    /// It has arrived when the objective exceeds the smallest possible one by this share.
    pub within: f64,
}

/// See [`Method::Uce`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Uce {
    /// λ; the code has 0.5.
    pub lambda: f64,
    /// `last_subject` as in its code of 2025, `last_through_end` as in that of 2023.
    pub tokens: Tokens,
    /// Weight of the rows of the suite's other concepts, which are preserved; the code of 2025 has 1.
    pub preserve: f64,
    /// Whether the weight is max(`preserve`, 1/n) of n preserved concepts, as in the code of 2023, where `preserve` is 0.1.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

/// See [`Method::Time`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Time {
    /// λ; the code has 0.1.
    pub lambda: f64,
}

/// See [`Method::LocoEdit`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocoEdit {
    /// λ; the code has 0.01.
    pub lambda: f64,
    /// The cross-attentions, counted from 0 in the order of a pass; of 16, the code has 8 and 9 for styles.
    pub layers: Vec<usize>,
}

/// See [`Method::ConceptAblation`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConceptAblation {
    /// Learning rate of Adam. The code has 1.6e-5 for Stable Diffusion; a network of a thousandth of its size takes larger steps.
    pub lr: f64,
    /// Most steps; the code has 100.
    pub steps: usize,
    /// Pictures a step; the code has 8 in all.
    pub batch: usize,
    /// Pictures of the anchor; the code has 200.
    pub anchors: usize,
}

/// See [`Method::Esd`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Esd {
    /// Learning rate of Adam. The code has 1e-5 for Stable Diffusion.
    pub lr: f64,
    /// Most steps; the code has 1000.
    pub steps: usize,
    /// η of the target `ε₀(z, ∅) − η·(ε₀(z, c) − ε₀(z, ∅))`; the code has 1.
    pub eta: f64,
    /// Guidance of the partly denoised picture; the code has 3.
    pub guidance: f64,
    /// Steps of DDIM that it is one of; the code has 50.
    pub sampler_steps: usize,
}

/// What a method is given.
pub struct Job<'a> {
    /// The model.
    pub model: &'a Model,
    /// The concepts, edited together.
    pub items: &'a [Item],
    /// Seed of what is random.
    pub seed: u64,
    /// How pictures are made.
    pub making: Making,
    /// Asked every few steps of a training, until it says yes, whether the concept is gone as far as was asked for. The time it takes is not
    /// the method's.
    pub is_gone: &'a mut dyn FnMut(&Changed) -> Result<bool>,
    /// Steps of a training between two questions; `usize::MAX` asks none.
    pub every: usize,
}

/// How pictures are made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Making {
    /// Steps of DDIM.
    pub steps: usize,
    /// g in `uncond + g·(cond − uncond)`.
    pub guidance: f64,
}

/// What a method did, and what that took.
#[derive(Default)]
pub struct Applied {
    /// The tensors that differ.
    pub changed: Changed,
    /// Seconds of the method, pictures of its own among them; loading and judging are not.
    pub seconds: f64,
    /// Of those, seconds that went into pictures of the anchor.
    pub pictures: f64,
    /// Floating-point operations, a multiply-accumulate as two.
    pub flops: f64,
    /// Steps of a training.
    pub iterations: usize,
    /// Whether a training reached what was asked for: gradient descent its objective, the others the reference's erasure where that is looked at.
    pub arrived: Option<bool>,
    /// What a training had taken when it first erased as much as the reference; all of it where it never did. None where nobody looked.
    pub matched: Option<Matched>,
    /// Numbers of the model that differ.
    pub parameters: usize,
    /// The closed form, of methods in the text encoder's matrix.
    pub solved: Option<Solved>,
}

/// What a training had taken when it first reached what was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Matched {
    /// Seconds, pictures of its own among them.
    pub seconds: f64,
    /// Floating-point operations.
    pub flops: f64,
    /// Steps.
    pub iterations: usize,
}

impl Method {
    /// Edits the concepts of `job`.
    ///
    /// # Errors
    /// Where a computation fails.
    pub fn apply(&self, job: &mut Job<'_>) -> Result<Applied> {
        let begun = Instant::now();
        let mut applied = match self {
            Self::Unedited => return Ok(Applied::default()),
            Self::DiffQuickfix(settings) => closed::quickfix(job, *settings)?,
            Self::EmbeddingCopy => closed::copied(job)?,
            Self::Uce(uce) => closed::uce(job, uce)?,
            Self::Time(time) => closed::time(job, time)?,
            Self::LocoEdit(edit) => closed::loco_edit(job, edit)?,
            Self::GradientDescent(descent) => tuned::descend(job, descent)?,
            Self::ConceptAblation(ablation) => tuned::ablate(job, ablation)?,
            Self::Esd(esd) => tuned::erase(job, esd)?,
        };
        if applied.seconds == 0.0 {
            applied.seconds = begun.elapsed().as_secs_f64();
        }
        let differing = applied.changed.text.values().chain(applied.changed.unet.values());
        applied.parameters = differing.map(candle_core::Tensor::elem_count).sum();
        Ok(applied)
    }
}

/// Adam with PyTorch's defaults.
fn adam(lr: f64) -> OptimiserConfig {
    OptimiserConfig {
        rule: RuleName::Adam,
        lr,
        momentum: None,
        rho: None,
        alpha: None,
        beta1: None,
        beta2: None,
        eps: None,
        epsilon: None,
        weight_decay: 0.0,
    }
}

/// Floating-point operations of the text encoder's first `layers` layers on a prompt.
fn text_flops(config: &TextConfig, layers: usize) -> f64 {
    let (size, inner, tokens) =
        (config.hidden_size as f64, config.intermediate_size as f64, config.max_position_embeddings as f64);
    let layer = tokens * (4.0 * size * size + 2.0 * size * inner) + 2.0 * tokens * tokens * size;
    2.0 * layers as f64 * layer
}
