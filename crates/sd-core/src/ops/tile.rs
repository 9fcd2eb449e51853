//! One register tile of a matrix product from packed panels, with AVX-512 or AVX2: the inner loop of convolution and attention.
//!
//! `C[r, j] (+)= Σ_k A[k, r] · B[k, j]` for at most [`MAX_ROWS`] rows r and 16·NV columns j. B lies packed: the 16·NV columns of
//! one k are adjacent and are read as vectors. A is read one scalar at a time, broadcast to all lanes. The sums stay in
//! registers over the whole depth: 14 × 2 of the 32 vector registers, the rest holds B and one broadcast. AVX2 has 16 registers of half the
//! width: there a tile is done in pieces of at most 6 rows and 16 columns, 6 × 2 registers of sums. An element's sum is taken in the order of k
//! either way, so that both give the same bits.

use super::simd::{Isa, Pair, Sixteen, Zmm};

/// Lanes of a vector register.
pub(crate) const LANES: usize = 16;
/// The most rows a tile has.
pub(crate) const MAX_ROWS: usize = 14;

/// The most rows of a piece of a tile with AVX2.
const FEW_ROWS: usize = 6;

/// Whether this machine can run [`product`].
pub(crate) fn available() -> bool {
    Isa::of_machine() != Isa::Baseline
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
/// The machine has AVX2 at least ([`available`]); `rows` is 1 ..= 14 and NV 1 ..= 2; `a` and `b` may be read wherever `depth` and `order`
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
    if Isa::of_machine() != Isa::Avx512 {
        // SAFETY: the caller's promise.
        return unsafe { in_pieces::<NV>(rows, order, depth, a, b, c, accumulate) };
    }
    macro_rules! pick {
        ($($rows:literal),*) => {
            match (rows, order) {
                // SAFETY: the caller's promise; the constant is the number of rows it promised for.
                $(($rows, Rows::Adjacent) => unsafe { whole::<$rows, NV, 1>(depth, $rows, a, b, c, accumulate) },
                // SAFETY: as above.
                ($rows, Rows::Of32) => unsafe { whole::<$rows, NV, 32>(depth, 1, a, b, c, accumulate) },
                // SAFETY: as above.
                ($rows, Rows::Of128) => unsafe { whole::<$rows, NV, LONG_ROW>(depth, 1, a, b, c, accumulate) },
                // SAFETY: as above.
                ($rows, Rows::Turned128) => unsafe { whole::<$rows, NV, 1>(depth, LONG_ROW, a, b, c, accumulate) },)*
                _ => unreachable!("a tile has 1 to 14 rows"),
            }
        };
    }
    pick!(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14);
}

/// [`product`] with AVX2.
///
/// # Safety
/// As there.
unsafe fn in_pieces<const NV: usize>(
    rows: usize,
    order: Rows,
    depth: Depth,
    a: *const f32,
    b: *const f32,
    (c, c_row): (*mut f32, usize),
    accumulate: bool,
) {
    // Elements from a row of A to the next.
    let row = match order {
        Rows::Adjacent | Rows::Turned128 => 1,
        Rows::Of32 => 32,
        Rows::Of128 => LONG_ROW,
    };
    for few in even_pieces(rows, FEW_ROWS) {
        for column in (0..NV * LANES).step_by(LANES) {
            // SAFETY: rows `few` and sixteen columns of the tile that the caller promises.
            unsafe {
                let (a, b) = (a.add(few.start * row), b.add(column));
                let c = (c.add(few.start * c_row + column), c_row);
                piece::<NV>(few.len(), order, depth, rows, a, b, c, accumulate);
            }
        }
    }
}

/// At most six rows and sixteen columns; `rows` are those that A was packed for.
///
/// # Safety
/// As for [`product`].
#[allow(clippy::too_many_arguments, reason = "those of `product`, and the rows of the piece")]
#[inline]
unsafe fn piece<const NV: usize>(
    few: usize,
    order: Rows,
    depth: Depth,
    rows: usize,
    a: *const f32,
    b: *const f32,
    c: (*mut f32, usize),
    accumulate: bool,
) {
    macro_rules! pick {
        ($($few:literal),*) => {
            match (few, order) {
                // SAFETY: the caller's promise; the constant is the number of rows it promised for.
                $(($few, Rows::Adjacent) => unsafe { narrow::<$few, NV, 1>(depth, rows, a, b, c, accumulate) },
                // SAFETY: as above.
                ($few, Rows::Of32) => unsafe { narrow::<$few, NV, 32>(depth, 1, a, b, c, accumulate) },
                // SAFETY: as above.
                ($few, Rows::Of128) => unsafe { narrow::<$few, NV, LONG_ROW>(depth, 1, a, b, c, accumulate) },
                // SAFETY: as above.
                ($few, Rows::Turned128) => unsafe { narrow::<$few, NV, 1>(depth, LONG_ROW, a, b, c, accumulate) },)*
                _ => unreachable!("a piece has 1 to 6 rows"),
            }
        };
    }
    pick!(1, 2, 3, 4, 5, 6);
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
unsafe fn whole<const M: usize, const NV: usize, const ROW: usize>(
    d: Depth,
    step: usize,
    a: *const f32,
    b: *const f32,
    c: (*mut f32, usize),
    accumulate: bool,
) {
    // SAFETY: the caller's promise.
    unsafe { tile::<Zmm, M, NV, ROW>(d, step, a, (b, NV * LANES), c, accumulate) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn narrow<const M: usize, const NV: usize, const ROW: usize>(
    d: Depth,
    step: usize,
    a: *const f32,
    b: *const f32,
    c: (*mut f32, usize),
    accumulate: bool,
) {
    // SAFETY: the caller's promise.
    unsafe { tile::<Pair, M, 1, ROW>(d, step, a, (b, NV * LANES), c, accumulate) }
}

/// [`product`] with constant sizes: `A[k, r]` at `k · step + r · ROW`, `B[k, j]` at `k · b_row + j`.
///
/// # Safety
/// As for [`product`], on a machine that has the registers of `V`.
#[inline(always)]
unsafe fn tile<V: Sixteen, const M: usize, const NV: usize, const ROW: usize>(
    d: Depth,
    step: usize,
    a: *const f32,
    (b, b_row): (*const f32, usize),
    (c, c_row): (*mut f32, usize),
    accumulate: bool,
) {
    let mut sums = [[V::splat(0.0); NV]; M];
    for block in 0..d.blocks {
        // SAFETY: within what the caller lets us read.
        let (mut a, mut b) = unsafe { (a.add(block * d.a_block), b.add(block * d.b_block)) };
        for _ in 0..d.depth {
            let mut vectors = [V::splat(0.0); NV];
            for (v, vector) in vectors.iter_mut().enumerate() {
                // SAFETY: as above.
                *vector = unsafe { V::read(b.add(v * LANES)) };
            }
            for (r, row) in sums.iter_mut().enumerate() {
                // SAFETY: as above.
                let scalar = V::splat(unsafe { *a.add(r * ROW) });
                for (sum, vector) in row.iter_mut().zip(vectors) {
                    *sum = scalar.multiply_add(vector, *sum);
                }
            }
            // At most one past the end.
            (a, b) = (a.wrapping_add(step), b.wrapping_add(b_row));
        }
    }
    for (r, row) in sums.into_iter().enumerate() {
        for (v, sum) in row.into_iter().enumerate() {
            // SAFETY: the caller lets us read and write the tile of C.
            unsafe {
                let c = c.add(r * c_row + v * LANES);
                let sum = if accumulate { V::read(c) + sum } else { sum };
                sum.write(c);
            }
        }
    }
}

/// `length` cut into the fewest pieces of at most `most`, as equal as can be: no two differ by more than one.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    /// A tile of `rows` × 16·NV over two blocks of 32 steps, by `product` and by the pieces of AVX2, and as it should be.
    fn tiles<const NV: usize>(rows: usize, order: Rows, accumulate: bool) -> [Vec<f32>; 3] {
        let columns = NV * LANES;
        let mut rng = Rng::new(1, "tile", rows as u64);
        let mut drawn = |count: usize| (0..count).map(|_| rng.normal() as f32).collect::<Vec<f32>>();
        let (a_block, row, step) = match order {
            Rows::Adjacent => (32 * rows, 1, rows),
            Rows::Of32 => (32 * MAX_ROWS, 32, 1),
            Rows::Of128 => (32, LONG_ROW, 1),
            Rows::Turned128 => (32 * LONG_ROW, 1, LONG_ROW),
        };
        let (a, b, start) =
            (drawn(a_block + MAX_ROWS * LONG_ROW + 32 * LONG_ROW), drawn(2 * 32 * columns), drawn(rows * 40));
        let depth = Depth { depth: 32, blocks: 2, a_block, b_block: 32 * columns };
        let [mut ours, mut pieces, mut exact] = std::array::from_fn(|_| start.clone());
        // SAFETY: A holds two blocks of 32 steps of any order, B two of 32 × the columns, C has rows of 40.
        unsafe {
            product::<NV>(rows, order, depth, a.as_ptr(), b.as_ptr(), (ours.as_mut_ptr(), 40), accumulate);
            in_pieces::<NV>(
                rows,
                order,
                depth,
                a.as_ptr(),
                b.as_ptr(),
                (pieces.as_mut_ptr(), 40),
                accumulate,
            );
        }
        for (r, j) in (0..rows).flat_map(|r| (0..columns).map(move |j| (r, j))) {
            let terms = (0..64).map(|k| (k / 32, k % 32));
            let sum: f64 = terms
                .map(|(block, k)| {
                    f64::from(a[block * a_block + k * step + r * row])
                        * f64::from(b[(block * 32 + k) * columns + j])
                })
                .sum();
            let before = if accumulate { exact[r * 40 + j] } else { 0.0 };
            exact[r * 40 + j] = before + sum as f32;
        }
        [ours, pieces, exact]
    }

    #[test]
    fn a_tile_has_the_same_bits_whole_and_in_pieces_and_is_the_product() {
        if !available() {
            return;
        }
        let _alone = crate::ops::simd::alone();
        for order in [Rows::Adjacent, Rows::Of32, Rows::Of128, Rows::Turned128] {
            for (rows, accumulate) in (1..=MAX_ROWS).flat_map(|rows| [(rows, true), (rows, false)]) {
                for [ours, pieces, exact] in
                    [tiles::<1>(rows, order, accumulate), tiles::<2>(rows, order, accumulate)]
                {
                    assert_eq!(ours, pieces, "{order:?}, {rows} rows");
                    let error = ours.iter().zip(&exact).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                    assert!(error <= 1e-4, "{order:?}, {rows} rows: {error:e}");
                }
            }
        }
    }
}
