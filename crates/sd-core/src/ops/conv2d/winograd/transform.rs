//! The Winograd transforms F(4×4, 3×3) on sixteen tiles at once, one a lane.
//!
//! `y = Aᵀ[(G g Gᵀ) ⊙ (Bᵀ d B)]A` (Lavin and Gray 2016, equation 8) with the points 0, ±a, ±b, ∞ for a = 5/8, b = 3/2. The textbook's
//! points 0, ±1, ±2 have more than twice the rounding error: what is multiplied by high powers of 2 is later divided by them.
//! With p = a², q = b² the matrices are, k_a = 1/(2p(p−q)) and k_b = 1/(2q(q−p)) moved from B to G:
//!
//! ```text
//!      ⎡pq   0  −(p+q)  0    1  0⎤        ⎡ 1/(pq)    0       0   ⎤         ⎡1  1   1   1   1   0⎤
//!      ⎢ 0  −aq   −q    a    1  0⎥        ⎢  k_a    k_a·a   k_a·p ⎥    Aᵀ = ⎢0  a  −a   b  −b   0⎥
//! Bᵀ = ⎢ 0   aq   −q   −a    1  0⎥    G = ⎢  k_a   −k_a·a   k_a·p ⎥         ⎢0  p   p   q   q   0⎥
//!      ⎢ 0  −bp   −p    b    1  0⎥        ⎢  k_b    k_b·b   k_b·q ⎥         ⎣0  a³ −a³  b³ −b³  1⎦
//!      ⎢ 0   bp   −p   −b    1  0⎥        ⎢  k_b   −k_b·b   k_b·q ⎥
//!      ⎣ 0   pq    0  −(p+q) 0  1⎦        ⎣   0       0       1   ⎦
//! ```

use std::arch::x86_64::*;

/// Outputs along one side of a tile.
pub(super) const OUT: usize = 4;
/// Inputs along one side of a tile, and products along one side of a transformed tile.
pub(super) const IN: usize = 6;
/// Products of a transformed tile.
pub(super) const POINTS: usize = IN * IN;

const A: f32 = 0.625;
const B: f32 = 1.5;
const P: f32 = A * A;
const Q: f32 = B * B;
const KA: f32 = 1.0 / (2.0 * P * (P - Q));
const KB: f32 = 1.0 / (2.0 * Q * (Q - P));

type Six = [__m512; IN];

/// Bᵀ applied to one line of six.
#[target_feature(enable = "avx512f")]
#[inline]
fn data_line(d: Six) -> Six {
    let c = |x: f32| _mm512_set1_ps(x);
    let ends = |near, middle, far| _mm512_fmadd_ps(c(P * Q), near, _mm512_fnmadd_ps(c(P + Q), middle, far));
    let (even_a, odd_a) = (_mm512_fnmadd_ps(c(Q), d[2], d[4]), _mm512_fnmadd_ps(c(Q), d[1], d[3]));
    let (even_b, odd_b) = (_mm512_fnmadd_ps(c(P), d[2], d[4]), _mm512_fnmadd_ps(c(P), d[1], d[3]));
    [
        ends(d[0], d[2], d[4]),
        _mm512_fmadd_ps(c(A), odd_a, even_a),
        _mm512_fnmadd_ps(c(A), odd_a, even_a),
        _mm512_fmadd_ps(c(B), odd_b, even_b),
        _mm512_fnmadd_ps(c(B), odd_b, even_b),
        ends(d[1], d[3], d[5]),
    ]
}

/// Aᵀ applied to one line of six.
#[target_feature(enable = "avx512f")]
#[inline]
fn output_line(m: Six) -> [__m512; OUT] {
    let c = |x: f32| _mm512_set1_ps(x);
    let (sum_a, gap_a) = (_mm512_add_ps(m[1], m[2]), _mm512_sub_ps(m[1], m[2]));
    let (sum_b, gap_b) = (_mm512_add_ps(m[3], m[4]), _mm512_sub_ps(m[3], m[4]));
    [
        _mm512_add_ps(m[0], _mm512_add_ps(sum_a, sum_b)),
        _mm512_fmadd_ps(c(A), gap_a, _mm512_mul_ps(c(B), gap_b)),
        _mm512_fmadd_ps(c(P), sum_a, _mm512_mul_ps(c(Q), sum_b)),
        _mm512_fmadd_ps(c(A * P), gap_a, _mm512_fmadd_ps(c(B * Q), gap_b, m[5])),
    ]
}

/// A applied to one line of four: the transpose of [`output_line`].
#[target_feature(enable = "avx512f")]
#[inline]
fn gradient_line(y: [__m512; OUT]) -> Six {
    let c = |x: f32| _mm512_set1_ps(x);
    let (even_a, odd_a) = (_mm512_fmadd_ps(c(P), y[2], y[0]), _mm512_fmadd_ps(c(P), y[3], y[1]));
    let (even_b, odd_b) = (_mm512_fmadd_ps(c(Q), y[2], y[0]), _mm512_fmadd_ps(c(Q), y[3], y[1]));
    [
        y[0],
        _mm512_fmadd_ps(c(A), odd_a, even_a),
        _mm512_fnmadd_ps(c(A), odd_a, even_a),
        _mm512_fmadd_ps(c(B), odd_b, even_b),
        _mm512_fnmadd_ps(c(B), odd_b, even_b),
        y[3],
    ]
}

/// G applied to one line of three.
#[target_feature(enable = "avx512f")]
#[inline]
fn weight_line(g: [__m512; 3]) -> Six {
    let c = |x: f32| _mm512_set1_ps(x);
    let (even_a, odd_a) = (_mm512_fmadd_ps(c(P), g[2], g[0]), _mm512_mul_ps(c(A), g[1]));
    let (even_b, odd_b) = (_mm512_fmadd_ps(c(Q), g[2], g[0]), _mm512_mul_ps(c(B), g[1]));
    [
        _mm512_mul_ps(c(1.0 / (P * Q)), g[0]),
        _mm512_mul_ps(c(KA), _mm512_add_ps(even_a, odd_a)),
        _mm512_mul_ps(c(KA), _mm512_sub_ps(even_a, odd_a)),
        _mm512_mul_ps(c(KB), _mm512_add_ps(even_b, odd_b)),
        _mm512_mul_ps(c(KB), _mm512_sub_ps(even_b, odd_b)),
        g[2],
    ]
}

/// Gᵀ applied to one line of six: the transpose of [`weight_line`].
#[target_feature(enable = "avx512f")]
#[inline]
fn weight_gradient_line(u: Six) -> [__m512; 3] {
    let c = |x: f32| _mm512_set1_ps(x);
    let (sum_a, gap_a) = (_mm512_add_ps(u[1], u[2]), _mm512_sub_ps(u[1], u[2]));
    let (sum_b, gap_b) = (_mm512_add_ps(u[3], u[4]), _mm512_sub_ps(u[3], u[4]));
    let first = _mm512_fmadd_ps(c(KA), sum_a, _mm512_mul_ps(c(KB), sum_b));
    [
        _mm512_fmadd_ps(c(1.0 / (P * Q)), u[0], first),
        _mm512_fmadd_ps(c(KA * A), gap_a, _mm512_mul_ps(c(KB * B), gap_b)),
        _mm512_fmadd_ps(c(KA * P), sum_a, _mm512_fmadd_ps(c(KB * Q), sum_b, u[5])),
    ]
}

/// Lines transformed along one axis, then along the other: `lines[i]` is line i after the first; the result's line j is along the
/// second. `N` lines in, `M` numbers a line out.
macro_rules! along_columns {
    ($lines:expr, $out:literal, $function:ident, $store:expr) => {
        for column in 0..$out {
            let mut line = [_mm512_setzero_ps(); _];
            for (value, along) in line.iter_mut().zip(&$lines) {
                *value = along[column];
            }
            for (row, value) in $function(line).into_iter().enumerate() {
                $store(row, column, value);
            }
        }
    };
}

/// Sixteen patches of 6×6 → BᵀdB. Lane l reads rows `stride` apart from `window[offsets[l]]`, eight floats a row; product
/// (i, j) goes to `out[(6i + j) · step ..][..16]`.
///
/// # Safety
/// AVX-512F; `window` may be read at `offsets[l] + 5·stride + 7` and below, `out` written as said.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn data(
    window: *const f32,
    offsets: &[u32; 16],
    stride: usize,
    out: *mut f32,
    step: usize,
) {
    let mut lines = [[_mm512_setzero_ps(); IN]; IN];
    for (row, line) in lines.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *line = data_line(unsafe { six_columns(window.wrapping_add(row * stride), offsets) });
    }
    along_columns!(lines, 6, data_line, |row, column, value| {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(out.add((row * IN + column) * step), value) }
    });
}

/// Sixteen patches of 4×4 → A dy Aᵀ, read and stored as in [`data`] (four floats a row).
///
/// # Safety
/// As for [`data`], with `offsets[l] + 3·stride + 3`.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn gradient(
    window: *const f32,
    offsets: &[u32; 16],
    stride: usize,
    out: *mut f32,
    step: usize,
) {
    let mut lines = [[_mm512_setzero_ps(); IN]; OUT];
    for (row, line) in lines.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *line = gradient_line(unsafe { four_columns(window.wrapping_add(row * stride), offsets) });
    }
    along_columns!(lines, 6, gradient_line, |row, column, value| {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(out.add((row * IN + column) * step), value) }
    });
}

/// AᵀMA + bias of sixteen tiles: product (i, j) of the tiles lies at `m[(6i + j) · step ..][..16]`. Vector j of row i of what
/// returns holds that row of tiles j, 4 + j, 8 + j and 12 + j.
///
/// # Safety
/// AVX-512F; `m` may be read as said.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) unsafe fn output(m: *const f32, step: usize, bias: __m512) -> [[__m512; OUT]; OUT] {
    let mut lines = [[_mm512_setzero_ps(); OUT]; IN];
    for (row, line) in lines.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *line = output_line(unsafe { six_points(m.add(row * IN * step), step) });
    }
    let mut rows = [[_mm512_setzero_ps(); OUT]; OUT];
    along_columns!(lines, 4, output_line, |row: usize, column: usize, value| rows[row][column] =
        _mm512_add_ps(value, bias));
    for row in &mut rows {
        *row = transpose_in_lanes(*row);
    }
    rows
}

/// Six vectors, `step` apart.
///
/// # Safety
/// AVX-512F; they may be read.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn six_points(m: *const f32, step: usize) -> Six {
    let mut six = [_mm512_setzero_ps(); IN];
    for (i, vector) in six.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *vector = unsafe { _mm512_loadu_ps(m.add(i * step)) };
    }
    six
}

/// GgGᵀ for sixteen kernels at once, `g[3u + v]` being tap (u, v) of each; product (i, j) is handed to `store`.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn weight(g: [__m512; 9], mut store: impl FnMut(usize, __m512)) {
    let mut lines = [[_mm512_setzero_ps(); IN]; 3];
    for (row, line) in lines.iter_mut().enumerate() {
        *line = weight_line([g[3 * row], g[3 * row + 1], g[3 * row + 2]]);
    }
    along_columns!(lines, 6, weight_line, |row, column, value| store(row * IN + column, value));
}

/// Gᵀ dU G for sixteen kernels at once; product (i, j) lies at `u[(6i + j) · step ..][..16]`. Returns the nine taps.
///
/// # Safety
/// AVX-512F; `u` may be read as said.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) unsafe fn weight_gradient(u: *const f32, step: usize) -> [__m512; 9] {
    let mut lines = [[_mm512_setzero_ps(); 3]; IN];
    for (row, line) in lines.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *line = weight_gradient_line(unsafe { six_points(u.add(row * IN * step), step) });
    }
    let mut taps = [_mm512_setzero_ps(); 9];
    along_columns!(lines, 3, weight_gradient_line, |row: usize, column: usize, value| taps
        [3 * row + column] =
        value);
    taps
}

/// The first six floats at each of sixteen places, as six vectors over the places.
///
/// # Safety
/// AVX-512F; eight floats may be read at every `from + offsets[l]`.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn six_columns(from: *const f32, offsets: &[u32; 16]) -> Six {
    // Register i holds the eight floats of two places, i < 4: places i and i + 4; else i + 4 and i + 8: the order that makes the last
    // shuffle put the places in order.
    let mut pairs = [_mm512_setzero_ps(); 8];
    for (i, pair) in pairs.iter_mut().enumerate() {
        let first = if i < 4 { i } else { i + 4 };
        // SAFETY: the caller's promise.
        unsafe {
            let low = _mm256_castps_pd(_mm256_loadu_ps(from.add(offsets[first] as usize)));
            let high = _mm256_castps_pd(_mm256_loadu_ps(from.add(offsets[first + 4] as usize)));
            *pair = _mm512_castpd_ps(_mm512_insertf64x4::<1>(_mm512_castpd256_pd512(low), high));
        }
    }
    let [a, b] = [
        transpose_in_lanes([pairs[0], pairs[1], pairs[2], pairs[3]]),
        transpose_in_lanes([pairs[4], pairs[5], pairs[6], pairs[7]]),
    ];
    [
        _mm512_shuffle_f32x4::<0x88>(a[0], b[0]),
        _mm512_shuffle_f32x4::<0x88>(a[1], b[1]),
        _mm512_shuffle_f32x4::<0x88>(a[2], b[2]),
        _mm512_shuffle_f32x4::<0x88>(a[3], b[3]),
        _mm512_shuffle_f32x4::<0xdd>(a[0], b[0]),
        _mm512_shuffle_f32x4::<0xdd>(a[1], b[1]),
    ]
}

/// The first four floats at each of sixteen places, as four vectors over the places.
///
/// # Safety
/// AVX-512F; four floats may be read at every `from + offsets[l]`.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn four_columns(from: *const f32, offsets: &[u32; 16]) -> [__m512; 4] {
    let mut quads = [_mm512_setzero_ps(); 4];
    for (i, quad) in quads.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        unsafe {
            *quad = _mm512_castps128_ps512(_mm_loadu_ps(from.add(offsets[i] as usize)));
            *quad = _mm512_insertf32x4::<1>(*quad, _mm_loadu_ps(from.add(offsets[4 + i] as usize)));
            *quad = _mm512_insertf32x4::<2>(*quad, _mm_loadu_ps(from.add(offsets[8 + i] as usize)));
            *quad = _mm512_insertf32x4::<3>(*quad, _mm_loadu_ps(from.add(offsets[12 + i] as usize)));
        }
    }
    transpose_in_lanes(quads)
}

/// Transposes the 4×4 blocks that the four 128-bit lanes of four registers form.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn transpose_in_lanes(x: [__m512; 4]) -> [__m512; 4] {
    let (a, b) = (_mm512_unpacklo_ps(x[0], x[1]), _mm512_unpackhi_ps(x[0], x[1]));
    let (c, d) = (_mm512_unpacklo_ps(x[2], x[3]), _mm512_unpackhi_ps(x[2], x[3]));
    let (a, b) = (_mm512_castps_pd(a), _mm512_castps_pd(b));
    let (c, d) = (_mm512_castps_pd(c), _mm512_castps_pd(d));
    [
        _mm512_castpd_ps(_mm512_unpacklo_pd(a, c)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(a, c)),
        _mm512_castpd_ps(_mm512_unpacklo_pd(b, d)),
        _mm512_castpd_ps(_mm512_unpackhi_pd(b, d)),
    ]
}

/// Transposes sixteen vectors of sixteen.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn transpose(x: [__m512; 16]) -> [__m512; 16] {
    let mut quads = [[_mm512_setzero_ps(); 4]; 4];
    for (i, quad) in quads.iter_mut().enumerate() {
        *quad = transpose_in_lanes([x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]]);
    }
    let mut out = [_mm512_setzero_ps(); 16];
    for j in 0..4 {
        // Lane l of quads[i][j] holds rows 4i.. of column 4l + j: a transpose of 4×4 lanes remains.
        let (low, high) = (
            _mm512_shuffle_f32x4::<0x88>(quads[0][j], quads[1][j]),
            _mm512_shuffle_f32x4::<0xdd>(quads[0][j], quads[1][j]),
        );
        let (low2, high2) = (
            _mm512_shuffle_f32x4::<0x88>(quads[2][j], quads[3][j]),
            _mm512_shuffle_f32x4::<0xdd>(quads[2][j], quads[3][j]),
        );
        out[j] = _mm512_shuffle_f32x4::<0x88>(low, low2);
        out[8 + j] = _mm512_shuffle_f32x4::<0xdd>(low, low2);
        out[4 + j] = _mm512_shuffle_f32x4::<0x88>(high, high2);
        out[12 + j] = _mm512_shuffle_f32x4::<0xdd>(high, high2);
    }
    out
}
