//! Taps for the common purposes.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, bail};

use super::{Action, Site, Tap};

/// Which sites a tap is about.
#[derive(Clone, Debug)]
pub enum Choice {
    /// Every site.
    All,
    /// These.
    These(Vec<Site>),
    /// Those for which this holds.
    Where(fn(&Site) -> bool),
}

impl Choice {
    /// Whether `site` is one of them.
    #[must_use]
    pub fn has(&self, site: &Site) -> bool {
        match self {
            Self::All => true,
            Self::These(sites) => sites.contains(site),
            Self::Where(holds) => holds(site),
        }
    }
}

/// Keeps activations. They stay part of the graph of gradients, and share memory with the pass.
#[derive(Clone, Debug)]
pub struct Record {
    choice: Choice,
    /// What came by, in the order of the pass.
    pub seen: Vec<(Site, Tensor)>,
}

impl Record {
    /// Of the sites of `choice`.
    #[must_use]
    pub fn new(choice: Choice) -> Self {
        Self { choice, seen: Vec::new() }
    }

    /// What was seen at `site`, the last where there were several passes.
    #[must_use]
    pub fn at(&self, site: &Site) -> Option<&Tensor> {
        self.seen.iter().rev().find_map(|(seen, value)| (seen == site).then_some(value))
    }
}

impl Tap for Record {
    fn wants(&self, site: &Site) -> bool {
        self.choice.has(site)
    }

    fn visit(&mut self, site: &Site, value: &Tensor) -> Result<Action> {
        self.seen.push((site.clone(), value.clone()));
        Ok(Action::Keep)
    }
}

/// Puts given tensors in the place of activations, whole or in some rows of the batch.
#[derive(Clone, Debug, Default)]
pub struct Replace {
    values: BTreeMap<Site, (Option<Vec<usize>>, Tensor)>,
}

impl Replace {
    /// `value`, of the activation's shape, in the place of the activation at `site`.
    #[must_use]
    pub fn whole(mut self, site: Site, value: Tensor) -> Self {
        self.values.insert(site, (None, value));
        self
    }

    /// Row i of `value` in the place of row `rows[i]` of the activation at `site`.
    #[must_use]
    pub fn rows(mut self, site: Site, rows: Vec<usize>, value: Tensor) -> Self {
        self.values.insert(site, (Some(rows), value));
        self
    }
}

impl Tap for Replace {
    fn wants(&self, site: &Site) -> bool {
        self.values.contains_key(site)
    }

    fn visit(&mut self, site: &Site, value: &Tensor) -> Result<Action> {
        Ok(match self.values.get(site) {
            None => Action::Keep,
            Some((None, other)) => Action::Replace(other.clone()),
            Some((Some(rows), other)) => Action::Replace(put_rows(site, value, rows, other)?),
        })
    }
}

fn put_rows(site: &Site, value: &Tensor, rows: &[usize], other: &Tensor) -> Result<Tensor> {
    if other.rank() == 0 || other.dims()[0] != rows.len() {
        bail!(
            "{site}: {} rows are to be replaced by {:?}; expected one row of it for each",
            rows.len(),
            other.dims()
        );
    }
    let batch = Tensor::cat(&[value, other], 0)?;
    let own = value.dims()[0];
    let pairs: Vec<(usize, usize)> = rows.iter().enumerate().map(|(i, &row)| (own + i, row)).collect();
    take_rows(&batch, own, &pairs).map_err(|error| error.context(site.to_string()))
}

/// Copies rows of the batch over others of the same activation, at chosen sites: the patch of lockstep tracing.
#[derive(Clone, Debug, Default)]
pub struct CopyRows {
    pairs: BTreeMap<Site, Vec<(usize, usize)>>,
}

impl CopyRows {
    /// At `site`, row `from` over row `to`, beside what was asked before.
    pub fn add(&mut self, site: &Site, from: usize, to: usize) {
        self.pairs.entry(site.clone()).or_default().push((from, to));
    }
}

impl Tap for CopyRows {
    fn wants(&self, site: &Site) -> bool {
        self.pairs.contains_key(site)
    }

    fn visit(&mut self, site: &Site, value: &Tensor) -> Result<Action> {
        Ok(match self.pairs.get(site) {
            None => Action::Keep,
            Some(pairs) => {
                Action::Replace(copy_rows(value, pairs).map_err(|error| error.context(site.to_string()))?)
            }
        })
    }
}

/// `value` with row `from` over row `to` for each (from, to): every `from` is a row as it was before.
///
/// # Errors
/// Where a row is not in the batch.
pub fn copy_rows(value: &Tensor, pairs: &[(usize, usize)]) -> Result<Tensor> {
    take_rows(value, value.dims().first().copied().unwrap_or(0), pairs)
}

/// The first `rows` rows of `batch`, those of `pairs` taken from elsewhere in it: a copy of bits.
fn take_rows(batch: &Tensor, rows: usize, pairs: &[(usize, usize)]) -> Result<Tensor> {
    let held = batch.dims().first().copied().unwrap_or(0);
    if let Some((_, row)) = pairs.iter().find(|(from, to)| *from >= held || *to >= rows) {
        bail!("row {row} cannot be replaced in a batch of {rows}; rows are counted from 0");
    }
    let mut order: Vec<u32> = (0..rows as u32).collect();
    for &(from, to) in pairs {
        order[to] = from as u32;
    }
    batch.contiguous()?.index_select(&Tensor::new(order, batch.device())?, 0)
}

/// Stops the pass at a site, with what came by there.
#[derive(Clone, Debug)]
pub struct StopAt {
    site: Site,
    /// The activation, once the pass came by.
    pub value: Option<Tensor>,
}

impl StopAt {
    /// At `site`.
    #[must_use]
    pub fn new(site: Site) -> Self {
        Self { site, value: None }
    }
}

impl Tap for StopAt {
    fn wants(&self, site: &Site) -> bool {
        *site == self.site
    }

    fn visit(&mut self, _: &Site, value: &Tensor) -> Result<Action> {
        self.value = Some(value.clone());
        Ok(Action::Stop)
    }
}
