//! Which rows a pass has, and where each is under way.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use candle_core::Tensor;
use sd_core::models::unet::{Going, RowPlan};
use sd_core::taps::Site;

use super::tap::{Copied, CopyTap};
use super::{Change, Donor, Half, Run};
use crate::network::Network;

/// A row of the UNet's batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    /// Place of its latents among the chunk's runs.
    pub(super) latents: usize,
    /// The run whose text it is told; none without a prompt.
    pub(super) told_by: Option<usize>,
}

/// The rows of a chunk: without the prompt, with it, and companions that have a run's latents and another text.
pub(super) struct Layout<'a> {
    network: &'a Network,
    rows: Vec<Row>,
    /// Rows that are restored.
    patched: Vec<Patched<'a>>,
    /// For each row: the first row that has the same text and is not restored, where that is another one.
    like: Vec<Option<usize>>,
    half: Half,
}

struct Patched<'a> {
    row: usize,
    donor: usize,
    sites: &'a [Site],
    change: Change,
}

/// One pass of the UNet.
pub(super) struct Pass {
    pub(super) plan: RowPlan,
    pub(super) tap: CopyTap,
    pub(super) row_passes: f64,
}

/// How a row goes through a pass, in places: before the first module is 0, behind module m is m + 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// All the way.
    Whole,
    /// It comes in at `at` as a copy.
    Late { at: usize, copy: Going },
    /// It leaves at `from`, before the first module where that is 0, and comes back at `to`.
    Gap { from: usize, to: usize, copy: Going },
}

impl Way {
    fn is_active(self, place: usize) -> bool {
        match self {
            Self::Whole => true,
            Self::Late { at, .. } => place >= at,
            Self::Gap { from, to, .. } => place < from || place >= to,
        }
    }

    /// What happens at a place where it is active.
    fn going(self, row: usize, place: usize) -> Going {
        match self {
            Self::Late { at, copy } if place == at => copy,
            Self::Gap { to, copy, .. } if place == to => copy,
            _ => Going::on(row),
        }
    }
}

impl<'a> Layout<'a> {
    pub(super) fn new(
        network: &'a Network,
        runs: &'a [Run],
        chunk: &[usize],
        half: Half,
        guided: bool,
    ) -> Result<Self> {
        let count = chunk.len();
        let own = |latents: usize, told_by| Row { latents, told_by };
        let mut rows: Vec<Row> = Vec::new();
        if guided {
            rows.extend((0..count).map(|place| own(place, None)));
        }
        let cond = rows.len();
        rows.extend((0..count).map(|place| own(place, Some(chunk[place]))));
        let mut patched = Vec::new();
        for (place, &index) in chunk.iter().enumerate() {
            let Some(patch) = &runs[index].patch else { continue };
            let (sites, change) = (patch.sites.as_slice(), patch.change);
            match patch.donor {
                Donor::Run(donor) => {
                    let donor = chunk.iter().position(|&run| run == donor);
                    let donor = donor.context("a donor is missing from its chunk")?;
                    if guided && half.has_uncond() {
                        patched.push(Patched { row: place, donor, sites, change });
                    }
                    if half.has_cond() {
                        patched.push(Patched { row: cond + place, donor: cond + donor, sites, change });
                    }
                }
                Donor::OwnLatent(text) => {
                    if !half.has_cond() {
                        bail!(
                            "values of a run's own latents differ in the half with the prompt alone; restore that"
                        );
                    }
                    patched.push(Patched { row: cond + place, donor: rows.len(), sites, change });
                    rows.push(own(place, Some(text)));
                }
            }
        }
        let like = likes(&rows, &patched, runs);
        Ok(Self { network, rows, patched, like, half })
    }

    pub(super) fn rows(&self) -> impl Iterator<Item = Row> {
        self.rows.iter().copied()
    }

    /// Latents (N, C, h, w) of the runs as the rows of the batch.
    pub(super) fn input(&self, latents: &Tensor) -> Result<Tensor> {
        let order: Vec<u32> = self.rows.iter().map(|row| row.latents as u32).collect();
        Ok(latents.index_select(&Tensor::new(order, latents.device())?, 0)?)
    }

    /// A pass in which rows are `restored` or not, and in which rows may be left out where it is `scheduled`; in the `first` step all
    /// latents are equal.
    pub(super) fn pass(&self, restored: bool, scheduled: bool, first: bool, noise: [u64; 2]) -> Result<Pass> {
        let patched: &[Patched<'_>] = if restored { &self.patched } else { &[] };
        let end = self.network.modules().len();
        let mut ways = vec![Way::Whole; self.rows.len()];
        if first {
            self.share_first(&mut ways, patched, end)?;
        }
        if scheduled {
            for one in patched {
                self.leave_dead(&mut ways[one.row], one);
            }
        }
        self.planned(&ways, patched, end, noise)
    }

    /// In the first step rows with equal text are one until their first patch.
    fn share_first(&self, ways: &mut [Way], patched: &[Patched<'_>], end: usize) -> Result<()> {
        let mut first_patch: BTreeMap<usize, usize> = BTreeMap::new();
        for one in patched {
            for site in one.sites {
                let home = self.network.home(site)?;
                first_patch.entry(one.row).and_modify(|at| *at = home.min(*at)).or_insert(home);
            }
        }
        for (row, way) in ways.iter_mut().enumerate() {
            let Some(like) = self.like[row] else { continue };
            // Rows without the prompt give values to each other where that half is restored; then all of them go.
            if self.rows[row].told_by.is_none() && self.half.has_uncond() {
                continue;
            }
            // A donor must be under way where its values are taken.
            let gives = patched.iter().any(|one| one.donor == row);
            if gives {
                continue;
            }
            let at = first_patch.get(&row).copied().unwrap_or(end);
            if at > 0 {
                *way = Way::Late { at, copy: Going::copy(row, like) };
            }
        }
        Ok(())
    }

    /// A row that gets a whole residual stream from another needs nothing before but the skip connections that are used behind it.
    fn leave_dead(&self, way: &mut Way, one: &Patched<'_>) {
        let [site] = one.sites else { return };
        let Some((module, last_skip)) = self.network.resnet(site).filter(|_| one.change == Change::None)
        else {
            return;
        };
        let to = module + 1;
        *way = match *way {
            Way::Late { copy, .. } => {
                Way::Late { at: to, copy: Going { row: one.row, from: one.donor, skips: copy.skips } }
            }
            _ => {
                let copy = Going { row: one.row, from: one.donor, skips: one.row };
                Way::Gap { from: last_skip.map_or(0, |skip| skip + 1), to, copy }
            }
        };
    }

    fn planned(&self, ways: &[Way], patched: &[Patched<'_>], end: usize, noise: [u64; 2]) -> Result<Pass> {
        let active = |place: usize| -> Vec<usize> {
            (0..ways.len()).filter(|&row| ways[row].is_active(place)).collect()
        };
        let mut now = active(0);
        let mut plan = RowPlan::entering(now.clone());
        let mut under_way = vec![now.clone()];
        let mut row_modules = 0;
        for (index, module) in self.network.modules().iter().enumerate() {
            row_modules += now.len();
            let next = active(index + 1);
            let comes = |&row: &usize| ways[row].going(row, index + 1) != Going::on(row);
            if next != now || next.iter().any(comes) {
                plan.go_on(module, next.iter().map(|&row| ways[row].going(row, index + 1)).collect());
            }
            now = next;
            under_way.push(now.clone());
        }
        let mut tap = CopyTap::new(noise);
        for one in patched {
            // A row that comes back as a copy of its donor's stream is restored by that.
            let is_copied = |way: Way, module: usize| match way {
                Way::Late { at, copy } => at == module + 1 && copy.from == one.donor,
                Way::Gap { to, .. } => to == module + 1,
                Way::Whole => false,
            };
            for site in one.sites {
                let home = self.network.home(site)?;
                if one.sites.len() == 1
                    && is_copied(ways[one.row], home)
                    && self.network.resnet(site).is_some()
                {
                    continue;
                }
                let place = |row: usize| under_way[home].iter().position(|&other| other == row);
                let (Some(from), Some(to)) = (place(one.donor), place(one.row)) else {
                    bail!("{site}: row {} or its donor {} is not under way there", one.row, one.donor);
                };
                tap.add(site, Copied { from, to, change: one.change });
            }
        }
        Ok(Pass { plan, tap, row_passes: row_modules as f64 / end.max(1) as f64 })
    }
}

/// For each row the first one with the same text that is not restored.
fn likes(rows: &[Row], patched: &[Patched<'_>], runs: &[Run]) -> Vec<Option<usize>> {
    let text = |row: &Row| row.told_by.map(|run| runs[run].text);
    let plain: Vec<bool> = (0..rows.len()).map(|row| patched.iter().all(|one| one.row != row)).collect();
    let like = |row: usize| {
        let found = (0..rows.len()).find(|&other| plain[other] && text(&rows[other]) == text(&rows[row]));
        found.filter(|&other| other != row)
    };
    (0..rows.len()).map(like).collect()
}
