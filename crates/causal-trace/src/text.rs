//! Restoration in the text encoder: one hidden state of one token, everything else corrupted (specification, section 2.4).

use std::collections::BTreeMap;

use anyhow::Result;
use candle_core::{Result as TensorResult, Tensor};
use sd_core::models::clip::TextModel;
use sd_core::taps::{Action, Site, Tap};

use crate::components::TextState;
use crate::corruption::Encoded;

/// Rows of a pass at once.
const ROWS: usize = 64;

/// What the UNet is told (T, D) by each restored text encoder: that of the corrupted caption, in which one hidden state is the clean one.
/// All of them are rows of one batch, beside a clean and a corrupted row.
///
/// # Errors
/// Where a state is not in the encoder, or a computation fails.
pub fn restored(text: &TextModel, encoded: &Encoded, states: &[TextState]) -> Result<Vec<Tensor>> {
    let mut all = Vec::with_capacity(states.len());
    for some in states.chunks(ROWS) {
        all.extend(pass(text, encoded, some)?);
    }
    Ok(all)
}

fn pass(text: &TextModel, encoded: &Encoded, states: &[TextState]) -> Result<Vec<Tensor>> {
    let rows: Vec<u32> = [0, 1].into_iter().chain(std::iter::repeat_n(1, states.len())).collect();
    let rows = Tensor::new(rows, encoded.ids.device())?;
    let (embedded, ids) = (encoded.embedded.index_select(&rows, 0)?, encoded.ids.index_select(&rows, 0)?);
    let mut tap = CopyTokens::default();
    for (index, state) in states.iter().enumerate() {
        tap.copies.entry(state.site()).or_default().push(Token {
            from: 0,
            to: 2 + index,
            token: state.token,
        });
    }
    let hidden = text.forward_embedded(&embedded, &ids, &mut tap)?.last_hidden_state;
    anyhow::ensure!(
        tap.seen == tap.copies.len(),
        "the text encoder has no such layer: {:?}",
        tap.copies.keys()
    );
    Ok((0..states.len()).map(|index| hidden.get(2 + index)).collect::<TensorResult<_>>()?)
}

struct Token {
    from: usize,
    to: usize,
    token: usize,
}

/// Copies tokens of one row over those of others.
#[derive(Default)]
struct CopyTokens {
    copies: BTreeMap<Site, Vec<Token>>,
    seen: usize,
}

impl Tap for CopyTokens {
    fn wants(&self, site: &Site) -> bool {
        self.copies.contains_key(site)
    }

    fn visit(&mut self, site: &Site, value: &Tensor) -> TensorResult<Action> {
        let (rows, tokens, width) = value.dims3()?;
        self.seen += 1;
        let mut order: Vec<u32> = (0..(rows * tokens) as u32).collect();
        for Token { from, to, token } in self.copies.get(site).into_iter().flatten() {
            order[to * tokens + token] = (from * tokens + token) as u32;
        }
        let flat = value.contiguous()?.reshape((rows * tokens, width))?;
        let order = Tensor::new(order, value.device())?;
        Ok(Action::Replace(flat.index_select(&order, 0)?.reshape((rows, tokens, width))?))
    }
}
