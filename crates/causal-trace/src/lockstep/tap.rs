//! The patch itself: rows of an activation in the place of others.

use std::collections::BTreeMap;

use candle_core::{D, DType, Result, Tensor};
use sd_core::rng::Rng;
use sd_core::taps::{Action, Site, Tap, copy_rows};

use super::Change;

/// A row that takes another's values, by their places in the tensor.
#[derive(Clone, Copy, Debug)]
pub(super) struct Copied {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) change: Change,
}

/// Copies rows over others at the sites that it was given.
pub(super) struct CopyTap {
    copies: BTreeMap<Site, Vec<Copied>>,
    /// Seed and step of control N4.
    noise: [u64; 2],
}

impl CopyTap {
    pub(super) fn new(noise: [u64; 2]) -> Self {
        Self { copies: BTreeMap::new(), noise }
    }

    pub(super) fn add(&mut self, site: &Site, copied: Copied) {
        self.copies.entry(site.clone()).or_default().push(copied);
    }
}

impl Tap for CopyTap {
    fn wants(&self, site: &Site) -> bool {
        self.copies.contains_key(site)
    }

    fn visit(&mut self, site: &Site, value: &Tensor) -> Result<Action> {
        let Some(copies) = self.copies.get(site) else { return Ok(Action::Keep) };
        let mut changed: Vec<Tensor> = Vec::new();
        let rows = value.dims()[0];
        let mut pairs = Vec::with_capacity(copies.len());
        for copied in copies {
            let donor = || value.narrow(0, copied.from, 1);
            match copied.change {
                Change::None => pairs.push((copied.from, copied.to)),
                Change::Permuted => {
                    pairs.push((rows + changed.len(), copied.to));
                    changed.push(permuted(&donor()?, site)?);
                }
                Change::Noise => {
                    pairs.push((rows + changed.len(), copied.to));
                    changed.push(noise_like(&donor()?, site, self.noise)?);
                }
            }
        }
        if changed.is_empty() {
            return Ok(Action::Replace(copy_rows(value, &pairs)?));
        }
        changed.insert(0, value.clone());
        let all = Tensor::cat(&changed, 0)?;
        Ok(Action::Replace(copy_rows(&all, &pairs)?.narrow(0, 0, rows)?.contiguous()?))
    }
}

/// The channels of an activation: the second axis of feature maps (B, C, H, W), the last of rows (B, N, C).
fn channel_axis(value: &Tensor) -> usize {
    if value.rank() == 4 { 1 } else { value.rank() - 1 }
}

fn permuted(value: &Tensor, site: &Site) -> Result<Tensor> {
    let axis = channel_axis(value);
    let order =
        Rng::new(0, &format!("causal-trace/permutation/{site}"), 0).permutation(value.dims()[axis] as u32);
    value.contiguous()?.index_select(&Tensor::new(order, value.device())?, axis)
}

fn noise_like(value: &Tensor, site: &Site, [seed, step]: [u64; 2]) -> Result<Tensor> {
    let mut rng = Rng::new(seed, &format!("causal-trace/noise/{site}"), step);
    let normals: Vec<f64> = (0..value.elem_count()).map(|_| rng.normal()).collect();
    let norm = |x: &Tensor| -> Result<f64> {
        x.to_dtype(DType::F64)?.flatten_all()?.sqr()?.sum(D::Minus1)?.sqrt()?.to_scalar()
    };
    let noise = Tensor::from_vec(normals, value.dims(), value.device())?;
    let scale = norm(value)? / norm(&noise)?.max(f64::MIN_POSITIVE);
    (noise * scale)?.to_dtype(value.dtype())
}
