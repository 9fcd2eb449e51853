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

    /// `count` rows from `first` on.
    pub(crate) fn some_rows(self, first: usize, count: usize) -> Self {
        Self { data: &self.data[first * self.row_stride..], rows: count, ..self }
    }

    fn last(&self) -> usize {
        self.rows.saturating_sub(1) * self.row_stride + self.columns.saturating_sub(1) * self.column_stride
    }
}

/// `out = a · b`, or `out += a · b` where `accumulate`; `out` has rows `row_stride` apart and columns adjacent.
pub(crate) fn product<T: Real>(
    out: &mut [T],
    row_stride: usize,
    a: View<'_, T>,
    b: View<'_, T>,
    accumulate: bool,
) {
    assert_eq!(a.columns, b.rows, "inner dimensions differ");
    assert!(a.last() < a.data.len() && b.last() < b.data.len(), "operand shorter than its shape");
    assert!(
        (a.rows - 1) * row_stride + b.columns <= out.len() && row_stride >= b.columns,
        "result too short"
    );
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
