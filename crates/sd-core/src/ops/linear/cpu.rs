//! The linear layer on the CPU: products of the `gemm` crate on pieces cut by shape, bias and activation while a piece is hot.

use super::{Sizes, Wanted};
use crate::ops::Real;
use crate::ops::activation::{Activation, activate, activate_grad};
use crate::ops::buffer::written;
use crate::ops::matmul::{View, product};
use crate::ops::pieces::{each, each_pair, rows_for};
use crate::ops::simd::vectorised;

/// Elements in a piece of element-wise work.
const PIECE: usize = 1 << 14;
/// Rows of gradient that are summed in `T` before they are added in `f64`.
const RUN: usize = 32;

/// What follows the product.
#[derive(Clone, Copy)]
pub(super) struct After<'a, T> {
    pub(super) bias: Option<&'a [T]>,
    pub(super) activation: Activation,
    /// Whether z, the argument of the activation, is wanted as well.
    pub(super) keep: bool,
}

/// Rows of a product in a piece: an eighth, but enough to pay for packing the other operand again in every piece.
fn rows_of_product(rows: usize) -> usize {
    rows.div_ceil(8).clamp(32, 256)
}

/// y, and z where it is kept.
pub(super) fn forward<T: Real>(
    x: &[T],
    w: &[T],
    after: &After<'_, T>,
    s: &Sizes,
) -> (Vec<T>, Option<Vec<T>>) {
    let rows = rows_of_product(s.rows);
    let len = s.rows * s.outputs;
    let multiply = |piece: usize, z: &mut [T]| {
        let count = z.len() / s.outputs;
        let x = View::new(&x[piece * rows * s.inputs..][..count * s.inputs], count, s.inputs);
        product(z, s.outputs, x, View::new(w, s.outputs, s.inputs).transposed(), false);
        add_bias(z, after.bias);
    };
    if !after.keep {
        let fill = |piece: usize, y: &mut [T]| {
            multiply(piece, y);
            if after.activation != Activation::None {
                let z = y.to_vec();
                activate(y, &z, after.activation);
            }
        };
        // SAFETY: the pieces cover y, and the product stores every element of its piece.
        return (unsafe { written(len, |y| each(y, rows * s.outputs, fill)) }, None);
    }
    let mut z = Vec::new();
    let write = |y: &mut [T]| {
        // SAFETY: the pieces cover both buffers; the product stores every element of z and `activate` every one of y.
        z = unsafe {
            written(len, |z| {
                each_pair((y, rows * s.outputs), (z, rows * s.outputs), |piece, y, z| {
                    multiply(piece, z);
                    activate(y, z, after.activation);
                });
            })
        };
    };
    // SAFETY: as above.
    (unsafe { written(len, write) }, Some(z))
}

fn add_bias<T: Real>(z: &mut [T], bias: Option<&[T]>) {
    let Some(bias) = bias else { return };
    for row in z.chunks_exact_mut(bias.len()) {
        row.iter_mut().zip(bias).for_each(|(z, bias)| *z += *bias);
    }
}

/// dz = dy·f'(z).
pub(super) fn through<T: Real>(dy: &[T], z: &[T], activation: Activation) -> Vec<T> {
    let write = |dz: &mut [T]| {
        each(dz, PIECE, |piece, dz| activate_grad(dz, &z[piece * PIECE..], &dy[piece * PIECE..], activation));
    };
    // SAFETY: the pieces cover dz, and `activate_grad` stores every element of its piece.
    unsafe { written(dy.len(), write) }
}

/// Those of dx = dz·w, dw = dzᵀ·x and dbias = Σ dz that are wanted, one after the other.
pub(super) fn backward<T: Real>(x: &[T], w: &[T], dz: &[T], s: &Sizes, wanted: Wanted) -> Vec<T> {
    let parts = wanted.parts(s);
    let write = |flat: &mut [T]| {
        let (dx, rest) = flat.split_at_mut(parts[0]);
        let (dw, dbias) = rest.split_at_mut(parts[1]);
        if wanted.x {
            input_grad(dx, w, dz, s);
        }
        if wanted.w {
            weight_grad(dw, x, dz, s);
        }
        if wanted.bias {
            bias_grad(dbias, dz, s.outputs);
        }
    };
    // SAFETY: the three parts make up the buffer, and each of those that are not empty is stored wholly: products store all of
    // their result, and `bias_grad` walks over its own.
    unsafe { written(parts.iter().sum(), write) }
}

fn input_grad<T: Real>(dx: &mut [T], w: &[T], dz: &[T], s: &Sizes) {
    let rows = rows_of_product(s.rows);
    each(dx, rows * s.inputs, |piece, dx| {
        let count = dx.len() / s.inputs;
        let dz = View::new(&dz[piece * rows * s.outputs..][..count * s.outputs], count, s.outputs);
        product(dx, s.inputs, dz, View::new(w, s.outputs, s.inputs), false);
    });
}

fn weight_grad<T: Real>(dw: &mut [T], x: &[T], dz: &[T], s: &Sizes) {
    let rows = rows_of_product(s.outputs);
    each(dw, rows * s.inputs, |piece, dw| {
        let columns = View {
            data: &dz[piece * rows..],
            rows: dw.len() / s.inputs,
            columns: s.rows,
            row_stride: 1,
            column_stride: s.outputs,
        };
        product(dw, s.inputs, columns, View::new(x, s.rows, s.inputs), false);
    });
}

fn bias_grad<T: Real>(dbias: &mut [T], dz: &[T], outputs: usize) {
    let rows = rows_for(outputs, PIECE);
    let mut partial = vec![0.0; dz.len().div_ceil(rows * outputs) * outputs];
    each(&mut partial, outputs, |piece, sums| {
        let end = ((piece + 1) * rows * outputs).min(dz.len());
        column_sums(sums, &dz[piece * rows * outputs..end]);
    });
    for (column, dbias) in dbias.iter_mut().enumerate() {
        *dbias = T::from_f64(partial.iter().skip(column).step_by(outputs).sum());
    }
}

vectorised! {
    fn column_sums<T, V>(sums: &mut [f64], dz: &[T]) {
        let mut run = vec![T::zero(); sums.len()];
        for block in dz.chunks(RUN * sums.len()) {
            run.fill(T::zero());
            for row in block.chunks_exact(sums.len()) {
                run.iter_mut().zip(row).for_each(|(sum, dz)| *sum += *dz);
            }
            sums.iter_mut().zip(&run).for_each(|(sum, run)| *sum += run.to_f64());
        }
    }
}
