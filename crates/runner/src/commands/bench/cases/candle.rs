//! The same functions made of candle's own operations, as its layers make them. Only those whose gradient candle gets right.

use candle_core::{D, Result, Tensor};

/// `conv2d` with a bias.
pub(super) fn conv2d(leaves: &[Tensor], stride: usize, padding: usize) -> Result<Tensor> {
    let [x, w, bias] = leaves else { return Err(super::ops::leaves(3, leaves)) };
    let bias = bias.reshape((1, bias.elem_count(), 1, 1))?;
    x.conv2d(w, padding, stride, 1, 1)?.broadcast_add(&bias)
}

/// Group norm as candle-nn's layer writes it, then SiLU.
pub(super) fn group_norm_silu(leaves: &[Tensor], groups: usize) -> Result<Tensor> {
    let [x, gamma, beta] = leaves else { return Err(super::ops::leaves(3, leaves)) };
    let (batch, channels, h, w) = x.dims4()?;
    let rows = x.reshape((batch, groups, channels / groups * h * w))?;
    let rows = normalised(&rows, 2)?.reshape((batch, channels, h, w))?;
    let affine = rows.broadcast_mul(&gamma.reshape((1, channels, 1, 1))?)?;
    affine.broadcast_add(&beta.reshape((1, channels, 1, 1))?)?.silu()
}

/// Layer norm by the path that has a gradient.
pub(super) fn layer_norm(leaves: &[Tensor]) -> Result<Tensor> {
    let [x, gamma, beta] = leaves else { return Err(super::ops::leaves(3, leaves)) };
    normalised(x, x.rank() - 1)?.broadcast_mul(gamma)?.broadcast_add(beta)
}

/// Batch norm with the batch's statistics.
pub(super) fn batch_norm(leaves: &[Tensor]) -> Result<Tensor> {
    let [x, gamma, beta] = leaves else { return Err(super::ops::leaves(3, leaves)) };
    let (batch, channels, h, w) = x.dims4()?;
    let rows = x.transpose(0, 1)?.reshape((channels, batch * h * w))?;
    let rows = normalised(&rows, 1)?.broadcast_mul(&gamma.reshape((channels, 1))?)?;
    let rows = rows.broadcast_add(&beta.reshape((channels, 1))?)?;
    rows.reshape((channels, batch, h, w))?.transpose(0, 1)
}

fn normalised(x: &Tensor, axis: usize) -> Result<Tensor> {
    let centred = x.broadcast_sub(&x.mean_keepdim(axis)?)?;
    let variance = centred.sqr()?.mean_keepdim(axis)?;
    centred.broadcast_div(&(variance + 1e-5)?.sqrt()?)
}

/// Attention through its map.
pub(super) fn attention(leaves: &[Tensor], scale: f64) -> Result<Tensor> {
    let [q, k, v] = leaves else { return Err(super::ops::leaves(3, leaves)) };
    let logits = (q * scale)?.matmul(&k.t()?)?;
    let powers = logits.broadcast_sub(&logits.max_keepdim(D::Minus1)?)?.exp()?;
    powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?.matmul(v)
}

/// GEGLU.
pub(super) fn geglu(leaves: &[Tensor]) -> Result<Tensor> {
    let [x] = leaves else { return Err(super::ops::leaves(1, leaves)) };
    let halves = x.chunk(2, D::Minus1)?;
    let [u, g] = halves.as_slice() else { return Err(super::ops::leaves(2, &halves)) };
    u * g.gelu_erf()?
}
