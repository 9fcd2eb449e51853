//! Rows of a batch that leave a pass for a while.
//!
//! Runs that advance together in one batch may share a part of their way: a run whose activation is to be replaced behind a module by
//! that of another run needs nothing before it but the skip connections that are used after it. A [`RowPlan`] says behind which modules
//! which rows go on. What a row computes is what it would compute in a full batch, to the bit.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor, bail};

use super::blocks::Condition;

/// A row of the batch, and the row of the batch whose values it goes on with: itself, or one that it enters as a copy of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Going {
    /// Number of the row in the batch.
    pub row: usize,
    /// The row whose activation it takes; it must be among those that came here.
    pub from: usize,
    /// The row whose skip connections it takes from before it was under way itself.
    pub skips: usize,
}

impl Going {
    /// A row that goes on as it came.
    #[must_use]
    pub fn on(row: usize) -> Self {
        Self { row, from: row, skips: row }
    }

    /// A row that comes in as a copy of another: until here the two were one.
    #[must_use]
    pub fn copy(row: usize, of: usize) -> Self {
        Self { row, from: of, skips: of }
    }
}

/// Which rows go on behind which modules, from there to the next module that the plan names.
///
/// Modules are residual blocks (`down_blocks.0.resnets.1`), transformers (`mid_block.attentions.0`), samplers
/// (`up_blocks.0.upsamplers.0`) and `conv_in`. Rows that are not named before the first of them all go. At the end all rows must be
/// there, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RowPlan {
    behind: BTreeMap<String, Vec<Going>>,
    /// Rows of the input that enter the pass; all where nothing is said.
    enter: Option<Vec<usize>>,
}

impl RowPlan {
    /// These rows enter; the others come in later as copies.
    #[must_use]
    pub fn entering(rows: Vec<usize>) -> Self {
        Self { enter: Some(rows), ..Self::default() }
    }

    /// Behind `module` these rows go on, in this order.
    pub fn go_on(&mut self, module: impl Into<String>, rows: Vec<Going>) {
        self.behind.insert(module.into(), rows);
    }

    /// The rows that enter a pass of `batch` rows.
    fn first(&self, batch: usize) -> Vec<usize> {
        self.enter.clone().unwrap_or_else(|| (0..batch).collect())
    }

    /// The rows that go on behind `module`, where the plan names it.
    fn behind(&self, module: &str) -> Option<&[Going]> {
        self.behind.get(module).map(Vec::as_slice)
    }
}

/// The rows under way.
pub(super) struct Rows<'a> {
    plan: Option<&'a RowPlan>,
    /// Numbers of the rows under way, in the order in which they lie in a tensor.
    active: Vec<usize>,
    /// Where a row came in later: the row that it has its skips from.
    skips_of: BTreeMap<usize, usize>,
    batch: usize,
    /// Time and context of all rows.
    all: [&'a Tensor; 2],
    /// Those of the active ones.
    now: [Tensor; 2],
    checkpointing: bool,
    /// Rows that the last module was the last one of: a skip connection behind it still holds them.
    left: Option<(Tensor, Vec<usize>)>,
    /// Modules of the plan that the pass came by.
    met: usize,
}

impl<'a> Rows<'a> {
    pub(super) fn new(plan: Option<&'a RowPlan>, all: [&'a Tensor; 2], checkpointing: bool) -> Result<Self> {
        let batch = all[1].dims()[0];
        let active = plan.map_or_else(|| (0..batch).collect(), |plan| plan.first(batch));
        if let Some(row) = active.iter().find(|&&row| row >= batch) {
            bail!("unet: the plan lets row {row} enter a batch of {batch}; rows are counted from 0");
        }
        let now = all.map(Tensor::clone);
        let mut rows = Self {
            plan,
            active,
            skips_of: BTreeMap::new(),
            batch,
            all,
            now,
            checkpointing,
            left: None,
            met: 0,
        };
        rows.choose()?;
        Ok(rows)
    }

    /// What blocks are given beside the picture.
    pub(super) fn condition(&self) -> Condition<'_> {
        Condition { time: &self.now[0], context: &self.now[1], checkpointing: self.checkpointing }
    }

    /// The rows of `x` (all rows) that enter.
    pub(super) fn enter(&self, x: &Tensor) -> Result<Tensor> {
        if self.is_whole() { Ok(x.clone()) } else { pick(x, &self.active) }
    }

    /// `x`, the output of `module`, as it goes on.
    pub(super) fn behind(&mut self, module: &str, x: Tensor) -> Result<Tensor> {
        self.left = None;
        let Some(going) = self.plan.and_then(|plan| plan.behind(module)) else { return Ok(x) };
        self.met += 1;
        let mut order = Vec::with_capacity(going.len());
        for Going { row, from, skips } in going {
            let Some(place) = self.active.iter().position(|active| active == from) else {
                bail!(
                    "unet: behind `{module}` row {row} is to go on as row {from}, which is not under way there"
                );
            };
            if *row >= self.batch {
                bail!("unet: behind `{module}` row {row} of a batch of {} is to go on", self.batch);
            }
            if row != skips {
                self.skips_of.entry(*row).or_insert(*skips);
            }
            order.push(place);
        }
        let leaving = |place: &usize| !going.iter().any(|going| going.row == self.active[*place]);
        let leaving: Vec<usize> = (0..self.active.len()).filter(leaving).collect();
        if !leaving.is_empty() {
            let rows = leaving.iter().map(|&place| self.active[place]).collect();
            self.left = Some((pick(&x, &leaving)?, rows));
        }
        self.active = going.iter().map(|going| going.row).collect();
        self.choose()?;
        pick(&x, &order)
    }

    /// The skip connection that `value`, the output of the last module, leaves: with the rows that left behind it.
    pub(super) fn keep(&self, value: Tensor) -> Result<Skip> {
        let mut rows = self.active.clone();
        let value = match &self.left {
            None => value,
            Some((left, leaving)) => {
                rows.extend(leaving);
                Tensor::cat(&[&value, left], 0)?
            }
        };
        Ok(Skip { value, rows })
    }

    /// The rows of a skip connection that are under way now.
    pub(super) fn join(&self, skip: Skip) -> Result<Tensor> {
        if skip.rows == self.active {
            return Ok(skip.value);
        }
        let place = |row: usize| {
            let held = |row: &usize| skip.rows.iter().position(|held| held == row);
            held(&row).or_else(|| self.skips_of.get(&row).and_then(held)).ok_or(row)
        };
        let order: std::result::Result<Vec<usize>, usize> =
            self.active.iter().map(|&row| place(row)).collect();
        match order {
            Ok(order) => pick(&skip.value, &order),
            Err(row) => {
                bail!("unet: the plan lets row {row} join a skip connection that it has left no value for")
            }
        }
    }

    /// All rows must have come to the end, and all modules that the plan names must have been there.
    pub(super) fn finish(&self) -> Result<()> {
        let named = self.plan.map_or(0, |plan| plan.behind.len());
        if self.met != named {
            bail!("unet: the plan names {named} modules, of which {} are in this network", self.met);
        }
        if !self.is_whole() {
            bail!(
                "unet: the plan ends with rows {:?}; expected all {} in their order",
                self.active,
                self.batch
            );
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.active.len() == self.batch && self.active.iter().enumerate().all(|(place, row)| place == *row)
    }

    fn choose(&mut self) -> Result<()> {
        self.now = match self.is_whole() {
            true => self.all.map(Tensor::clone),
            false => [pick(self.all[0], &self.active)?, pick(self.all[1], &self.active)?],
        };
        Ok(())
    }
}

/// What the way down leaves for the way up.
pub(super) struct Skip {
    pub(super) value: Tensor,
    rows: Vec<usize>,
}

/// These rows of `x`: a copy of bits.
fn pick(x: &Tensor, rows: &[usize]) -> Result<Tensor> {
    let rows: Vec<u32> = rows.iter().map(|&row| row as u32).collect();
    x.contiguous()?.index_select(&Tensor::new(rows, x.device())?, 0)
}
