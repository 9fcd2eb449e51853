//! What a multistep sampler remembers of one batch.

use candle_core::{Result, Tensor, bail};

/// What a sampler remembers between the steps of one batch. A run begins with a fresh one; nothing else is kept anywhere.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Steps taken.
    pub(super) calls: usize,
    /// The index of the last one.
    last: Option<usize>,
    /// Earlier answers of the model, in the form that the sampler needs, the newest last.
    pub(super) history: Vec<Tensor>,
    /// The sample that several evaluations start from.
    pub(super) base: Option<Tensor>,
    /// The sum of Runge and Kutta's weighted answers.
    pub(super) sum: Option<Tensor>,
}

impl State {
    /// Nothing remembered.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Remembers `answer`, and no more than `most`.
    pub(super) fn remember(&mut self, answer: Tensor, most: usize) {
        self.history.push(answer);
        let surplus = self.history.len().saturating_sub(most);
        self.history.drain(..surplus);
    }

    /// Answer number `back` before the newest.
    pub(super) fn answer(&self, back: usize) -> Result<&Tensor> {
        match self.history.len().checked_sub(back + 1) {
            Some(index) => Ok(&self.history[index]),
            None => bail!("{} answers remembered, {} needed", self.history.len(), back + 1),
        }
    }

    /// Whether step `i` of a batch like `x` may come now.
    pub(super) fn check(&self, i: usize, x: &Tensor) -> Result<()> {
        if let Some(last) = self.last.filter(|last| last + 1 != i) {
            bail!(
                "step {i} after step {last}: this sampler builds on the steps before; take them in order, and start \
                 every run with a new State"
            );
        }
        if let Some(other) = self.history.last().filter(|other| other.dims() != x.dims()) {
            bail!(
                "a batch {:?} with the State of a batch {:?}; start every run with a new State",
                x.dims(),
                other.dims()
            );
        }
        Ok(())
    }

    /// Step `i` was taken.
    pub(super) fn advance(&mut self, i: usize) {
        self.calls += 1;
        self.last = Some(i);
    }
}
