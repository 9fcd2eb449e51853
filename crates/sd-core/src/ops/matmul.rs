//! A bounds-checked door to the `gemm` crate's single-threaded product of strided matrices.

use super::Real;

/// A read-only view of a matrix: element `(i, j)` is `data[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    pub(crate) row_stride: usize,
    pub(crate) column_stride: usize,
}

impl<'a, T> View<'a, T> {
    /// A row-major matrix without gaps.
    pub(crate) fn new(data: &'a [T], rows: usize, columns: usize) -> Self {
        Self { data, rows, columns, row_stride: columns, column_stride: 1 }
    }

    /// The same elements with rows and columns exchanged.
    pub(crate) fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// `count` columns from `start` on.
    fn slice(self, start: usize, count: usize) -> Self {
        Self { data: &self.data[start * self.column_stride..], columns: count, ..self }
    }

    fn at(&self, row: usize, column: usize) -> T
    where
        T: Copy,
    {
        self.data[row * self.row_stride + column * self.column_stride]
    }

    /// `count` rows from `first` on.
    pub(crate) fn some_rows(self, first: usize, count: usize) -> Self {
        Self { data: &self.data[first * self.row_stride..], rows: count, ..self }
    }

    fn last(&self) -> usize {
        self.rows.saturating_sub(1) * self.row_stride + self.columns.saturating_sub(1) * self.column_stride
    }
}

/// Depth of one call of `gemm`. It cuts longer sums itself, but where depends on the other two sizes.
const DEPTH: usize = 512;
/// Results up to which `gemm` sums in another order.
const SMALL: usize = 256;

/// `out = a · b`, or `out += a · b` where `accumulate`; `out` has rows `row_stride` apart and columns adjacent.
///
/// An element's bits hang on its row of `a` and its column of `b` alone, not on how many others there are: so a row of a batch is the
/// row computed by itself. `gemm` has shortcuts for small and narrow results that sum in other orders; they are kept from it.
pub(crate) fn product<T: Real>(
    out: &mut [T],
    row_stride: usize,
    a: View<'_, T>,
    b: View<'_, T>,
    accumulate: bool,
) {
    assert_eq!(a.columns, b.rows, "inner dimensions differ");
    assert!(
        (a.rows - 1) * row_stride + b.columns <= out.len() && row_stride >= b.columns,
        "result too short"
    );
    for start in (0..a.columns).step_by(DEPTH) {
        let depth = DEPTH.min(a.columns - start);
        let (a, b) = (a.slice(start, depth), b.some_rows(start, depth));
        block_product(out, row_stride, a, b, accumulate || start > 0);
    }
}

/// [`product`] over one depth, past `gemm`'s shortcuts.
fn block_product<T: Real>(
    out: &mut [T],
    row_stride: usize,
    a: View<'_, T>,
    b: View<'_, T>,
    accumulate: bool,
) {
    if a.columns <= 2 {
        return shallow_product(out, row_stride, a, b, accumulate);
    }
    if a.rows == 1 || b.columns == 1 {
        return narrow_product(out, row_stride, a, b, accumulate);
    }
    if a.rows * b.columns <= SMALL && a.column_stride == 1 {
        let turned: Vec<T> = (0..a.columns).flat_map(|k| (0..a.rows).map(move |i| a.at(i, k))).collect();
        let a = View { data: &turned, row_stride: 1, column_stride: a.rows, ..a };
        return plain_product(out, row_stride, a, b, accumulate);
    }
    plain_product(out, row_stride, a, b, accumulate);
}

/// Sums of one or two terms.
fn shallow_product<T: Real>(
    out: &mut [T],
    row_stride: usize,
    a: View<'_, T>,
    b: View<'_, T>,
    accumulate: bool,
) {
    for i in 0..a.rows {
        for j in 0..b.columns {
            let first = a.at(i, 0) * b.at(0, j);
            let sum = if a.columns == 2 { a.at(i, 1).fused(b.at(1, j), first) } else { first };
            let out = &mut out[i * row_stride + j];
            *out = if accumulate { *out + sum } else { sum };
        }
    }
}

/// One row or one column: the product of two equal ones, of which one is kept.
fn narrow_product<T: Real>(
    out: &mut [T],
    row_stride: usize,
    a: View<'_, T>,
    b: View<'_, T>,
    accumulate: bool,
) {
    let twice_a = if a.rows == 1 { View { rows: 2, row_stride: 0, ..a } } else { a };
    let twice_b = if b.columns == 1 { View { columns: 2, column_stride: 0, ..b } } else { b };
    let mut twice = vec![T::from_f64(0.0); twice_a.rows * twice_b.columns];
    block_product(&mut twice, twice_b.columns, twice_a, twice_b, false);
    for i in 0..a.rows {
        for j in 0..b.columns {
            let (out, value) = (&mut out[i * row_stride + j], twice[i * twice_b.columns + j]);
            *out = if accumulate { *out + value } else { value };
        }
    }
}

/// [`product`] by one call of `gemm`.
fn plain_product<T: Real>(
    out: &mut [T],
    row_stride: usize,
    a: View<'_, T>,
    b: View<'_, T>,
    accumulate: bool,
) {
    assert!(a.last() < a.data.len() && b.last() < b.data.len(), "operand shorter than its shape");
    assert!((a.rows - 1) * row_stride + b.columns <= out.len() && row_stride >= b.columns);
    let beta = T::from_f64(1.0);
    // SAFETY: the asserts above bound every element that the shapes and strides address in all three slices; `out` is
    // borrowed mutably, so it overlaps neither operand; rows of `out` do not overlap since `row_stride >= columns`. T is
    // f32 or f64 (`Real`), which `gemm` supports.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out.as_mut_ptr(),
            1,
            row_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            beta,
            beta,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn random(count: usize, index: u64) -> Vec<f32> {
        let mut rng = Rng::new(1, "product", index);
        (0..count).map(|_| rng.normal() as f32).collect()
    }

    /// Every count of rows and columns gives the bits of the largest: none of `gemm`'s shortcuts is visible.
    #[test]
    fn a_row_and_a_column_do_not_know_how_many_others_there_are() {
        let (most_rows, most_columns) = (70, 90);
        for depth in [1, 2, 3, 40, 511, 512, 513, 1100] {
            let (a, b) = (random(most_rows * depth, 0), random(most_columns * depth, 1));
            let multiply = |rows: usize, columns: usize, turned: bool| {
                let a = View::new(&a[..rows * depth], rows, depth);
                let b = if turned {
                    View::new(&b[..columns * depth], columns, depth).transposed()
                } else {
                    View { data: &b, rows: depth, columns, row_stride: most_columns, column_stride: 1 }
                };
                let mut out = vec![1.0; rows * columns];
                product(&mut out, columns, a, b, false);
                product(&mut out, columns, a, b, true);
                out
            };
            for turned in [false, true] {
                let all = multiply(most_rows, most_columns, turned);
                for (rows, columns) in
                    [(1, 1), (1, 90), (70, 1), (2, 3), (16, 16), (5, 60), (64, 64), (70, 7), (33, 90)]
                {
                    let some = multiply(rows, columns, turned);
                    let equal = |i: usize| {
                        some[i].to_bits() == all[i / columns * most_columns + i % columns].to_bits()
                    };
                    assert!((0..some.len()).all(equal), "{rows}×{columns}, depth {depth}, turned {turned}");
                }
            }
        }
    }
}
