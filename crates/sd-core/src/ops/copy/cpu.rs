//! Strided arrays brought into row-major order on the CPU, by all threads.

use crate::ops::Real;
use crate::ops::buffer::written;
use crate::ops::pieces::{each, rows_for};

/// Elements a piece, about.
const PIECE: usize = 1 << 14;
/// Side of the squares that a transpose is cut into: a cache line of `f32` both ways.
const SQUARE: usize = 16;

/// The planes (A × B) that the last two axes make, and what lies before them.
struct Planes<'a> {
    outer: &'a [usize],
    outer_strides: &'a [usize],
    a: usize,
    b: usize,
    a_stride: usize,
    b_stride: usize,
}

/// The elements of the array whose first element is `from[0]`, in row-major order.
pub(crate) fn gather<T: Real>(from: &[T], dims: &[usize], strides: &[usize]) -> Vec<T> {
    let count = dims.iter().product();
    if count == 0 {
        return Vec::new();
    }
    let (dims, strides) = padded(dims, strides);
    let n = dims.len() - 2;
    let planes = Planes {
        outer: &dims[..n],
        outer_strides: &strides[..n],
        a: dims[n],
        b: dims[n + 1],
        a_stride: strides[n],
        b_stride: strides[n + 1],
    };
    let rows = rows_for(planes.b, PIECE);
    let fill = |piece: usize, out: &mut [T]| planes.fill(from, piece * rows, out);
    // SAFETY: the pieces cover the buffer and `fill` stores every element of its piece.
    unsafe { written(count, |out| each(out, rows * planes.b, fill)) }
}

/// At least two axes: missing ones have size 1.
fn padded(dims: &[usize], strides: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let missing = 2usize.saturating_sub(dims.len());
    let ones = std::iter::repeat_n(1, missing);
    let zeros = std::iter::repeat_n(0, missing);
    (ones.chain(dims.iter().copied()).collect(), zeros.chain(strides.iter().copied()).collect())
}

impl Planes<'_> {
    /// Fills whole rows, from row `first` on, counted over all planes.
    fn fill<T: Real>(&self, from: &[T], first: usize, out: &mut [T]) {
        let (mut row, mut out) = (first, out);
        while !out.is_empty() {
            let start = row % self.a;
            let count = (self.a - start).min(out.len() / self.b);
            let (here, rest) = out.split_at_mut(count * self.b);
            self.fill_rows(&from[self.offset(row / self.a) + start * self.a_stride..], here);
            (row, out) = (row + count, rest);
        }
    }

    /// Where plane `index` begins.
    fn offset(&self, mut index: usize) -> usize {
        let mut offset = 0;
        for (size, stride) in self.outer.iter().zip(self.outer_strides).rev() {
            offset += index % size * stride;
            index /= size;
        }
        offset
    }

    /// Rows of one plane; `from` begins at the first of them.
    fn fill_rows<T: Real>(&self, from: &[T], out: &mut [T]) {
        match (self.a_stride, self.b_stride) {
            (_, 1) => self.each_row(out, |i, out| out.copy_from_slice(&from[i * self.a_stride..][..self.b])),
            (_, 0) => self.each_row(out, |i, out| out.fill(from[i * self.a_stride])),
            (1, _) => self.transpose(from, out),
            _ => self.each_row(out, |i, out| {
                out.iter_mut()
                    .enumerate()
                    .for_each(|(j, out)| *out = from[i * self.a_stride + j * self.b_stride]);
            }),
        }
    }

    fn each_row<T>(&self, out: &mut [T], fill: impl Fn(usize, &mut [T])) {
        out.chunks_exact_mut(self.b).enumerate().for_each(|(i, out)| fill(i, out));
    }

    /// Square by square, so that neither side leaves the cache between two uses of a line.
    fn transpose<T: Real>(&self, from: &[T], out: &mut [T]) {
        let rows = out.len() / self.b;
        for i in (0..rows).step_by(SQUARE) {
            for j in (0..self.b).step_by(SQUARE) {
                for j in j..(j + SQUARE).min(self.b) {
                    let column = &from[j * self.b_stride..];
                    for i in i..(i + SQUARE).min(rows) {
                        out[i * self.b + j] = column[i];
                    }
                }
            }
        }
    }
}
