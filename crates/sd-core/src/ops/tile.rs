//! One register tile of a matrix product from packed panels, with AVX-512: the inner loop of convolution and attention.
//!
//! `C[r, j] (+)= Σ_k A[k, r] · B[k, j]` for at most [`MAX_ROWS`] rows r and 16·NV columns j. B lies packed: the 16·NV columns of
//! one k are adjacent and are read as vectors. A is read one scalar at a time, broadcast to all lanes. The sums stay in
//! registers over the whole depth: 14 × 2 of the 32 vector registers, the rest holds B and one broadcast.

use std::arch::x86_64::{
    __m512, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

/// Lanes of a vector register.
pub(crate) const LANES: usize = 16;
/// The most rows a tile has.
pub(crate) const MAX_ROWS: usize = 14;

/// Whether this machine can run [`product`].
pub(crate) fn available() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// The depth of a product: `blocks` pieces of `depth` steps each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depth {
    pub(crate) depth: usize,
    pub(crate) blocks: usize,
    /// Elements from one block of A to the next.
    pub(crate) a_block: usize,
    /// Elements from one block of B to the next.
    pub(crate) b_block: usize,
}

impl Depth {
    /// A single piece.
    pub(crate) fn flat(depth: usize) -> Self {
        Self { depth, blocks: 1, a_block: 0, b_block: 0 }
    }
}

/// The length of the rows of [`Rows::Of128`] and [`Rows::Turned128`].
pub(crate) const LONG_ROW: usize = 128;

/// How A lies inside a block.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rows {
    /// `A[k, r]` at `k · rows + r`: packed for this number of rows.
    Adjacent,
    /// `A[k, r]` at `r · 32 + k`: rows of 32 steps.
    Of32,
    /// `A[k, r]` at `r · 128 + k`: rows of 128 steps.
    Of128,
    /// `A[k, r]` at `k · 128 + r`: the transpose of a matrix with rows of 128.
    Turned128,
}

/// Computes one tile of `rows` × 16·NV; row r of C begins at `r · c_row`.
///
/// # Safety
/// The machine has AVX-512F ([`available`]); `rows` is 1 ..= 14 and NV 1 ..= 2; `a` and `b` may be read wherever `depth` and `order`
/// say, and `c` may be read and written at `r · c_row + j` for every r and j of the tile.
#[inline]
pub(crate) unsafe fn product<const NV: usize>(
    rows: usize,
    order: Rows,
    depth: Depth,
    a: *const f32,
    b: *const f32,
    c: (*mut f32, usize),
    accumulate: bool,
) {
    macro_rules! pick {
        ($($rows:literal),*) => {
            match (rows, order) {
                // SAFETY: the caller's promise; the constant is the number of rows it promised for.
                $(($rows, Rows::Adjacent) => unsafe { tile::<$rows, NV, 1, $rows>(depth, a, b, c, accumulate) },
                // SAFETY: as above.
                ($rows, Rows::Of32) => unsafe { tile::<$rows, NV, 32, 1>(depth, a, b, c, accumulate) },
                // SAFETY: as above.
                ($rows, Rows::Of128) => unsafe { tile::<$rows, NV, LONG_ROW, 1>(depth, a, b, c, accumulate) },
                // SAFETY: as above.
                ($rows, Rows::Turned128) => unsafe { tile::<$rows, NV, 1, LONG_ROW>(depth, a, b, c, accumulate) },)*
                _ => unreachable!("a tile has 1 to 14 rows"),
            }
        };
    }
    pick!(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14);
}

/// [`product`] with constant sizes: `A[k, r]` at `k · STEP + r · ROW`.
#[target_feature(enable = "avx512f")]
unsafe fn tile<const M: usize, const NV: usize, const ROW: usize, const STEP: usize>(
    d: Depth,
    a: *const f32,
    b: *const f32,
    (c, c_row): (*mut f32, usize),
    accumulate: bool,
) {
    let mut sums = [[_mm512_setzero_ps(); NV]; M];
    for block in 0..d.blocks {
        // SAFETY: within what the caller lets us read.
        let (mut a, mut b) = unsafe { (a.add(block * d.a_block), b.add(block * d.b_block)) };
        for _ in 0..d.depth {
            let mut vectors = [_mm512_setzero_ps(); NV];
            for (v, vector) in vectors.iter_mut().enumerate() {
                // SAFETY: as above.
                *vector = unsafe { _mm512_loadu_ps(b.add(v * LANES)) };
            }
            for (r, row) in sums.iter_mut().enumerate() {
                // SAFETY: as above.
                let scalar = _mm512_set1_ps(unsafe { *a.add(r * ROW) });
                for (sum, vector) in row.iter_mut().zip(vectors) {
                    *sum = _mm512_fmadd_ps(scalar, vector, *sum);
                }
            }
            // SAFETY: at most one past the end.
            unsafe {
                a = a.add(STEP);
                b = b.add(NV * LANES);
            }
        }
    }
    for (r, row) in sums.into_iter().enumerate() {
        for (v, sum) in row.into_iter().enumerate() {
            // SAFETY: the caller lets us read and write the tile of C.
            unsafe { finish(c.add(r * c_row + v * LANES), sum, accumulate) };
        }
    }
}

/// Stores a sum, or adds it to what is there.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn finish(c: *mut f32, sum: __m512, accumulate: bool) {
    // SAFETY: the caller lets us read and write 16 elements at `c`.
    unsafe {
        let sum = if accumulate { _mm512_add_ps(_mm512_loadu_ps(c), sum) } else { sum };
        _mm512_storeu_ps(c, sum);
    }
}

/// `length` cut into the fewest pieces of at most `most`, as equal as can be: the first ones are one longer.
pub(crate) fn even_pieces(
    length: usize,
    most: usize,
) -> impl Iterator<Item = std::ops::Range<usize>> + Clone {
    let pieces = length.div_ceil(most).max(1);
    (0..pieces).map(move |i| i * length / pieces..(i + 1) * length / pieces)
}

/// A pointer that several threads may hold because each writes its own elements.
#[derive(Clone, Copy)]
pub(crate) struct Shared(pub(crate) *mut f32);
// SAFETY: whoever dereferences it does so in an `unsafe` block that argues that no two threads touch one element.
unsafe impl Send for Shared {}
// SAFETY: as above.
unsafe impl Sync for Shared {}

impl Shared {
    /// The pointer moved by `offset` elements.
    ///
    /// # Safety
    /// `offset` stays within the allocation.
    pub(crate) unsafe fn at(self, offset: usize) -> *mut f32 {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(offset) }
    }
}
