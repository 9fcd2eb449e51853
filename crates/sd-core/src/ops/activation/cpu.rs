//! Activations on the CPU: one pass over memory each.

use super::Activation;
use crate::ops::Real;
use crate::ops::buffer::written;
use crate::ops::lanes::{map, map_pair};
use crate::ops::pieces::{each, rows_for};
use crate::ops::simd::{Vector, vectorised};

/// Elements in a piece of work.
const PIECE: usize = 1 << 14;

/// The slope of quick-GELU's logistic function.
const QUICK: f64 = 1.702;
/// √(2/π) and the weight of the cube in the tanh form of GELU.
const TANH: [f64; 2] = [0.797_884_560_802_865_4, 0.044_715];

pub(super) fn forward<T: Real>(x: &[T], activation: Activation) -> Vec<T> {
    let write = |y: &mut [T]| {
        each(y, PIECE, |piece, y| activate(y, &x[piece * PIECE..], activation));
    };
    // SAFETY: the pieces cover y, and `activate` stores every element of its piece.
    unsafe { written(x.len(), write) }
}

vectorised! {
    /// `y = f(x)` for as many elements as y has.
    pub(crate) fn activate<T, V>(y: &mut [T], x: &[T], activation: Activation) {
        match activation {
            Activation::None => y.copy_from_slice(&x[..y.len()]),
            Activation::Silu => map!(T, V, y, [x: x], x * x.sigmoid()),
            Activation::Gelu => map!(T, V, y, [x: x], gelu::<T, V>(x)),
            Activation::GeluTanh => map!(T, V, y, [x: x], x * tanh_gate::<T, V>(x).0),
            Activation::QuickGelu => map!(T, V, y, [x: x], x * (x * V::splat(T::from_f64(QUICK))).sigmoid()),
        }
    }
}

#[inline(always)]
fn gelu<T, V: Vector<T>>(x: V) -> V {
    x * x.normal_cdf_and_density().0
}

/// g = ½(1 + tanh(√(2/π)(x + 0.044715x³))) and dg/dx. Since ½(1 + tanh v) = σ(2v), g is a logistic function.
#[inline(always)]
fn tanh_gate<T: Real, V: Vector<T>>(x: V) -> (V, V) {
    let [root, cube] = TANH;
    let one = V::splat(T::from_f64(2.0 * root));
    let square = x * x;
    let v = x * square.fused(V::splat(T::from_f64(2.0 * root * cube)), one);
    let slope = square.fused(V::splat(T::from_f64(6.0 * root * cube)), one);
    let (gate, complement) = v.sigmoids();
    (gate, gate * complement * slope)
}

pub(super) fn backward<T: Real>(x: &[T], dy: &[T], activation: Activation) -> Vec<T> {
    let write = |dx: &mut [T]| {
        each(dx, PIECE, |piece, dx| {
            let start = piece * PIECE;
            activate_grad(dx, &x[start..], &dy[start..], activation);
        });
    };
    // SAFETY: the pieces cover dx, and `activate_grad` stores every element of its piece.
    unsafe { written(x.len(), write) }
}

vectorised! {
    /// `dx = dy·f'(x)` for as many elements as dx has.
    pub(crate) fn activate_grad<T, V>(dx: &mut [T], x: &[T], dy: &[T], activation: Activation) {
        match activation {
            Activation::None => dx.copy_from_slice(&dy[..dx.len()]),
            Activation::Silu => map!(T, V, dx, [x: x, dy: dy], dy * swish_slope::<T, V>(x, 1.0)),
            Activation::Gelu => map!(T, V, dx, [x: x, dy: dy], {
                let (cdf, density) = x.normal_cdf_and_density();
                dy * x.fused(density, cdf)
            }),
            Activation::GeluTanh => map!(T, V, dx, [x: x, dy: dy], {
                let (gate, slope) = tanh_gate::<T, V>(x);
                dy * x.fused(slope, gate)
            }),
            Activation::QuickGelu => map!(T, V, dx, [x: x, dy: dy], dy * swish_slope::<T, V>(x, QUICK)),
        }
    }
}

/// d(x·σ(ax))/dx = s·(1 + ax·(1 − s)).
#[inline(always)]
fn swish_slope<T: Real, V: Vector<T>>(x: V, a: f64) -> V {
    let v = x * V::splat(T::from_f64(a));
    let (s, complement) = v.sigmoids();
    s * v.fused(complement, V::splat(T::one()))
}

pub(super) fn geglu<T: Real>(x: &[T], size: usize) -> Vec<T> {
    let rows = rows_for(size, PIECE);
    let write = |y: &mut [T]| {
        each(y, rows * size, |piece, y| geglu_rows(y, &x[piece * rows * 2 * size..], size));
    };
    // SAFETY: the pieces cover y, and `geglu_rows` stores every element of its piece.
    unsafe { written(x.len() / 2, write) }
}

vectorised! {
    fn geglu_rows<T, V>(y: &mut [T], x: &[T], size: usize) {
        for (y, x) in y.chunks_exact_mut(size).zip(x.chunks_exact(2 * size)) {
            let (u, g) = x.split_at(size);
            map!(T, V, y, [u: u, g: g], u * gelu::<T, V>(g));
        }
    }
}

pub(super) fn geglu_grad<T: Real>(x: &[T], dy: &[T], size: usize) -> Vec<T> {
    let rows = rows_for(2 * size, PIECE);
    let write = |dx: &mut [T]| {
        each(dx, rows * 2 * size, |piece, dx| {
            let start = piece * rows * size;
            geglu_grad_rows(dx, &x[2 * start..], &dy[start..], size);
        });
    };
    // SAFETY: the pieces cover dx, and `geglu_grad_rows` stores every element of its piece.
    unsafe { written(x.len(), write) }
}

vectorised! {
    /// du = dy·g·Φ(g), dg = dy·u·(Φ(g) + g·φ(g)).
    fn geglu_grad_rows<T, V>(dx: &mut [T], x: &[T], dy: &[T], size: usize) {
        let rows = dx.chunks_exact_mut(2 * size).zip(x.chunks_exact(2 * size)).zip(dy.chunks_exact(size));
        for ((dx, x), dy) in rows {
            let ((du, dg), (u, g)) = (dx.split_at_mut(size), x.split_at(size));
            map_pair!(T, V, du, dg, [u: u, g: g, dy: dy], {
                let (cdf, density) = g.normal_cdf_and_density();
                (dy * g * cdf, dy * u * g.fused(density, cdf))
            });
        }
    }
}
