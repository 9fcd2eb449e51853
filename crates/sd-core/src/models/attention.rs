//! Attention between projected rows: heads apart, the map only where a tap asks for it, heads together again.

use candle_core::{Result, Tensor, bail};

use crate::ops::attention::{attention, attention_with_map};
use crate::ops::copy::contiguous;
use crate::taps::{Site, Tap};

/// softmax(q·kᵀ/√D + mask)·v for each head, of q (B, Tq, H·D), k and v (B, Tk, H·D); gives (B, Tq, H·D).
///
/// `map` is the site of the probabilities (B, H, Tq, Tk), which exist only where the tap wants them.
///
/// # Errors
/// Where shapes do not fit, or the tap fails.
pub(crate) fn attend(
    [q, k, v]: [&Tensor; 3],
    heads: usize,
    causal: bool,
    map: &Site,
    tap: &mut dyn Tap,
) -> Result<Tensor> {
    let width = q.dims().last().copied().unwrap_or(0);
    if heads == 0 || !width.is_multiple_of(heads) {
        bail!("attention: {width} channels cannot be split into {heads} heads");
    }
    let scale = ((width / heads) as f64).powf(-0.5);
    let [q, k, v] = [split(q, heads)?, split(k, heads)?, split(v, heads)?];
    let y = if tap.wants(map) {
        attention_with_map(&q, &k, &v, scale, causal, &mut |p| map.offer(p, tap))?
    } else {
        attention(&q, &k, &v, scale, causal)?
    };
    contiguous(&y.transpose(1, 2)?)?.flatten_from(2)
}

/// (B, T, H·D) → (B, H, T, D), a view.
fn split(x: &Tensor, heads: usize) -> Result<Tensor> {
    let (b, t, width) = x.dims3()?;
    x.reshape((b, t, heads, width / heads))?.transpose(1, 2)
}
