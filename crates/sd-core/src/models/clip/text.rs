//! The text encoder: transformers' `CLIPTextModel` and `CLIPTextModelWithProjection`.

use candle_core::{DType, Result, Tensor, bail};

use super::TextConfig;
use super::encoder::{Encoder, Sizes};
use crate::nn::{Embedding, LayerNorm, Linear, Scope};
use crate::taps::{Kind, Site, Tap};

/// The network: token and position embeddings, a causal transformer, a layer norm.
#[derive(Clone, Debug)]
pub struct TextModel {
    config: TextConfig,
    text_model: Transformer,
    text_projection: Option<Projection>,
}

/// What the text encoder gives.
#[derive(Clone, Debug)]
pub struct TextOutput {
    /// The vectors (B, T, D) that the UNet attends to.
    pub last_hidden_state: Tensor,
    /// That of each prompt's end-of-text (B, D).
    pub pooled: Tensor,
    /// `pooled`, projected (B, P), where the model has a projection.
    pub projected: Option<Tensor>,
    /// The residual stream before the first layer and after each, the final norm not applied.
    pub hidden_states: Vec<Tensor>,
}

impl TextModel {
    /// The network of `config` with the tensors of `scope`.
    ///
    /// # Errors
    /// Where a tensor cannot be made.
    pub fn new(scope: &mut Scope<'_>, config: &TextConfig) -> Result<Self> {
        let text_model = Transformer::new(&mut scope.child("text_model"), config)?;
        let sizes = [config.hidden_size, config.projection_dim];
        let text_projection = match config.projected {
            true => Some(Projection::new(&mut scope.child("text_projection"), sizes)?),
            false => None,
        };
        Ok(Self { config: config.clone(), text_model, text_projection })
    }

    /// What the network was made from.
    #[must_use]
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// Encodes `ids` (B, T), integers, T at most `max_position_embeddings`.
    ///
    /// # Errors
    /// Where the shape does not fit, an id is not in the vocabulary, and where the tap fails or stops.
    pub fn forward(&self, ids: &Tensor, tap: &mut dyn Tap) -> Result<TextOutput> {
        check_ids(ids, self.config.max_position_embeddings)?;
        self.forward_embedded(&self.embed(ids)?, ids, tap)
    }

    /// The token embeddings (B, T, D) of `ids` (B, T), positions not added: what [`Self::forward_embedded`] takes.
    ///
    /// # Errors
    /// Where an id is not in the vocabulary.
    pub fn embed(&self, ids: &Tensor) -> Result<Tensor> {
        self.text_model.embeddings.token_embedding.forward(ids)
    }

    /// Encodes token embeddings (B, T, D) in the place of those of `ids` (B, T), which still say where each prompt ends.
    ///
    /// # Errors
    /// Where shapes do not fit, and where the tap fails or stops.
    pub fn forward_embedded(&self, embedded: &Tensor, ids: &Tensor, tap: &mut dyn Tap) -> Result<TextOutput> {
        let (batch, tokens) = check_ids(ids, self.config.max_position_embeddings)?;
        let size = self.config.hidden_size;
        if embedded.dims() != [batch, tokens, size] {
            bail!(
                "text encoder: ids ({batch},{tokens}) need embeddings ({batch},{tokens},{size}), found {:?}",
                embedded.dims()
            );
        }
        let hidden_states = self.text_model.forward(embedded.clone(), tap)?;
        let last_hidden_state = self.text_model.finish(&hidden_states, tap)?;
        let pooled = pool(&last_hidden_state, &ends(ids, self.config.eos_token_id)?)?;
        let project = |projection: &Projection| projection.forward(&pooled, tap);
        let projected = self.text_projection.as_ref().map(project).transpose()?;
        Ok(TextOutput { last_hidden_state, pooled, projected, hidden_states })
    }

    /// What [`TextOutput::last_hidden_state`] is with the last `skip` layers left out ("clip skip"): the final norm of an earlier
    /// hidden state. 0 leaves none out.
    ///
    /// # Errors
    /// Where the model has fewer layers.
    pub fn skip(&self, output: &TextOutput, skip: usize) -> Result<Tensor> {
        let layers = output.hidden_states.len().saturating_sub(1);
        if skip > layers {
            bail!("text encoder: {skip} of {layers} layers cannot be left out; expected 0 to {layers}");
        }
        self.text_model.final_layer_norm.forward(&output.hidden_states[layers - skip])
    }
}

/// (B, T) of ids that the model can take.
fn check_ids(ids: &Tensor, longest: usize) -> Result<(usize, usize)> {
    let &[batch, tokens] = ids.dims() else {
        bail!("text encoder: expected ids (B,T), found {:?}", ids.dims())
    };
    if batch == 0 || tokens == 0 || tokens > longest {
        bail!(
            "text encoder: expected ids (B,T) with 1 to {longest} tokens and 1 prompt or more, found ({batch},{tokens})"
        );
    }
    Ok((batch, tokens))
}

/// Where each prompt's end-of-text is: the first of it, and 0 where there is none; the highest id where the configuration has the
/// wrong id 2 of older files.
fn ends(ids: &Tensor, eos: i64) -> Result<Vec<usize>> {
    let rows = ids.to_dtype(DType::I64)?.to_vec2::<i64>()?;
    let end = |row: &Vec<i64>| {
        let wanted = if eos == 2 { row.iter().max().copied().unwrap_or(eos) } else { eos };
        row.iter().position(|id| *id == wanted).unwrap_or(0)
    };
    Ok(rows.iter().map(end).collect())
}

/// Row `at[b]` of each `x[b]`.
fn pool(x: &Tensor, at: &[usize]) -> Result<Tensor> {
    let (batch, tokens, size) = x.dims3()?;
    let rows: Vec<u32> = at.iter().enumerate().map(|(row, at)| (row * tokens + at) as u32).collect();
    x.reshape((batch * tokens, size))?.index_select(&Tensor::new(rows, x.device())?, 0)
}

/// `text_model`: all but the projection.
#[derive(Clone, Debug)]
struct Transformer {
    embeddings: Embeddings,
    encoder: Encoder,
    final_layer_norm: LayerNorm,
    output: Site,
}

impl Transformer {
    fn new(scope: &mut Scope<'_>, config: &TextConfig) -> Result<Self> {
        let (size, eps) = (config.hidden_size, config.layer_norm_eps);
        Ok(Self {
            embeddings: Embeddings::new(&mut scope.child("embeddings"), config)?,
            encoder: Encoder::new(&mut scope.child("encoder"), &Sizes::from(config))?,
            final_layer_norm: LayerNorm::new(&mut scope.child("final_layer_norm"), size, eps)?,
            output: scope.child("final_layer_norm").site(Kind::Feature),
        })
    }

    fn forward(&self, embedded: Tensor, tap: &mut dyn Tap) -> Result<Vec<Tensor>> {
        self.encoder.forward(self.embeddings.forward(embedded, tap)?, tap)
    }

    fn finish(&self, streams: &[Tensor], tap: &mut dyn Tap) -> Result<Tensor> {
        let Some(last) = streams.last() else { bail!("text encoder: an encoder without a stream") };
        self.output.offer(self.final_layer_norm.forward(last)?, tap)
    }
}

#[derive(Clone, Debug)]
struct Embeddings {
    token_embedding: Embedding,
    position_embedding: Embedding,
    token: Site,
    output: Site,
}

impl Embeddings {
    fn new(scope: &mut Scope<'_>, config: &TextConfig) -> Result<Self> {
        let (size, positions) = (config.hidden_size, config.max_position_embeddings);
        Ok(Self {
            token_embedding: Embedding::new(&mut scope.child("token_embedding"), config.vocab_size, size)?,
            position_embedding: Embedding::new(&mut scope.child("position_embedding"), positions, size)?,
            token: scope.child("token_embedding").site(Kind::Feature),
            output: scope.site(Kind::Stream),
        })
    }

    fn forward(&self, embedded: Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        let embedded = self.token.offer(embedded, tap)?;
        let positions = self.position_embedding.weight().narrow(0, 0, embedded.dims()[1])?;
        self.output.offer(embedded.broadcast_add(&positions)?, tap)
    }
}

/// A linear layer without a bias behind a pooled vector, with its site.
#[derive(Clone, Debug)]
pub(super) struct Projection {
    linear: Linear,
    output: Site,
}

impl Projection {
    pub(super) fn new(scope: &mut Scope<'_>, [inputs, outputs]: [usize; 2]) -> Result<Self> {
        Ok(Self { linear: Linear::without_bias(scope, inputs, outputs)?, output: scope.site(Kind::Feature) })
    }

    pub(super) fn forward(&self, x: &Tensor, tap: &mut dyn Tap) -> Result<Tensor> {
        self.output.offer(self.linear.forward(x)?, tap)
    }
}
