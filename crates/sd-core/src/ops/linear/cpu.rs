//! The linear layer on the CPU: products of the `gemm` crate on pieces cut by shape, bias and activation while a piece is hot.

use super::{Sizes, Wanted};
use crate::ops::Real;
use crate::ops::activation::{Activation, activate, activate_grad};
use crate::ops::buffer::written;
use crate::ops::matmul::{View, product};
use crate::ops::pieces::{each, each_rectangle, rows_for};
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

/// Rows and columns of a piece of the product. A piece of many rows packs the weights for them all, so pieces are as tall as there
/// are rows, up to 256, and where that makes fewer than eight of them, narrower.
fn piece_of_product(height: usize, width: usize) -> [usize; 2] {
    let rows = height.min(256);
    let across = 8usize.div_ceil(height.div_ceil(rows));
    [rows, width.div_ceil(across).clamp(64.min(width), width)]
}

/// y, and z where it is kept.
pub(super) fn forward<T: Real>(
    x: &[T],
    w: &[T],
    after: &After<'_, T>,
    s: &Sizes,
) -> (Vec<T>, Option<Vec<T>>) {
    let (len, piece) = (s.rows * s.outputs, piece_of_product(s.rows, s.outputs));
    let multiply = |row: usize, column: usize, [rows, columns]: [usize; 2], z: &mut [T]| {
        let x = View::new(&x[row * s.inputs..][..rows * s.inputs], rows, s.inputs);
        let w = View::new(&w[column * s.inputs..][..columns * s.inputs], columns, s.inputs);
        product(z, columns, x, w.transposed(), false);
        add_bias(z, after.bias.map(|bias| &bias[column..column + columns]));
    };
    let fill = |row: usize, column: usize, size: [usize; 2], [y]: [&mut [T]; 1]| {
        multiply(row, column, size, y);
        if after.activation != Activation::None {
            let z = y.to_vec();
            activate(y, &z, after.activation);
        }
    };
    if !after.keep {
        // SAFETY: the rectangles cover y.
        return (unsafe { written(len, |y| each_rectangle([y], s.outputs, piece, fill)) }, None);
    }
    let fill = |row: usize, column: usize, size: [usize; 2], [y, z]: [&mut [T]; 2]| {
        multiply(row, column, size, z);
        activate(y, z, after.activation);
    };
    let mut z = Vec::new();
    // SAFETY: the rectangles cover both buffers.
    let write = |y: &mut [T]| z = unsafe { written(len, |z| each_rectangle([y, z], s.outputs, piece, fill)) };
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
    let piece = piece_of_product(s.rows, s.inputs);
    each_rectangle([dx], s.inputs, piece, |row, column, [rows, columns], [dx]| {
        let dz = View::new(&dz[row * s.outputs..][..rows * s.outputs], rows, s.outputs);
        let w = View { data: &w[column..], rows: s.outputs, columns, row_stride: s.inputs, column_stride: 1 };
        product(dx, columns, dz, w, false);
    });
}

fn weight_grad<T: Real>(dw: &mut [T], x: &[T], dz: &[T], s: &Sizes) {
    let rows = s.outputs.div_ceil(8).clamp(32, 256);
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
