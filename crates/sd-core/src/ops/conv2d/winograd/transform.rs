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

use crate::ops::simd::Sixteen;

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

/// Bᵀ applied to one line of six.
#[inline(always)]
fn data_line<V: Sixteen>(d: [V; IN]) -> [V; IN] {
    let (even_a, odd_a) = (less(Q, d[2], d[4]), less(Q, d[1], d[3]));
    let (even_b, odd_b) = (less(P, d[2], d[4]), less(P, d[1], d[3]));
    [
        more(P * Q, d[0], less(P + Q, d[2], d[4])),
        more(A, odd_a, even_a),
        less(A, odd_a, even_a),
        more(B, odd_b, even_b),
        less(B, odd_b, even_b),
        more(P * Q, d[1], less(P + Q, d[3], d[5])),
    ]
}

/// Aᵀ applied to one line of six.
#[inline(always)]
fn output_line<V: Sixteen>(m: [V; IN]) -> [V; OUT] {
    let (sum_a, gap_a) = (m[1] + m[2], m[1] - m[2]);
    let (sum_b, gap_b) = (m[3] + m[4], m[3] - m[4]);
    [
        m[0] + (sum_a + sum_b),
        more(A, gap_a, times(B, gap_b)),
        more(P, sum_a, times(Q, sum_b)),
        more(A * P, gap_a, more(B * Q, gap_b, m[5])),
    ]
}

/// A applied to one line of four: the transpose of [`output_line`].
#[inline(always)]
fn gradient_line<V: Sixteen>(y: [V; OUT]) -> [V; IN] {
    let (even_a, odd_a) = (more(P, y[2], y[0]), more(P, y[3], y[1]));
    let (even_b, odd_b) = (more(Q, y[2], y[0]), more(Q, y[3], y[1]));
    [
        y[0],
        more(A, odd_a, even_a),
        less(A, odd_a, even_a),
        more(B, odd_b, even_b),
        less(B, odd_b, even_b),
        y[3],
    ]
}

/// G applied to one line of three.
#[inline(always)]
fn weight_line<V: Sixteen>(g: [V; 3]) -> [V; IN] {
    let (even_a, odd_a) = (more(P, g[2], g[0]), times(A, g[1]));
    let (even_b, odd_b) = (more(Q, g[2], g[0]), times(B, g[1]));
    [
        times(1.0 / (P * Q), g[0]),
        times(KA, even_a + odd_a),
        times(KA, even_a - odd_a),
        times(KB, even_b + odd_b),
        times(KB, even_b - odd_b),
        g[2],
    ]
}

/// Gᵀ applied to one line of six: the transpose of [`weight_line`].
#[inline(always)]
fn weight_gradient_line<V: Sixteen>(u: [V; IN]) -> [V; 3] {
    let (sum_a, gap_a) = (u[1] + u[2], u[1] - u[2]);
    let (sum_b, gap_b) = (u[3] + u[4], u[3] - u[4]);
    [
        more(1.0 / (P * Q), u[0], more(KA, sum_a, times(KB, sum_b))),
        more(KA * A, gap_a, times(KB * B, gap_b)),
        more(KA * P, sum_a, more(KB * Q, sum_b, u[5])),
    ]
}

/// `c · x`.
#[inline(always)]
fn times<V: Sixteen>(c: f32, x: V) -> V {
    V::splat(c) * x
}

/// `y + c · x`, rounded once.
#[inline(always)]
fn more<V: Sixteen>(c: f32, x: V, y: V) -> V {
    V::splat(c).multiply_add(x, y)
}

/// `y − c · x`, rounded once.
#[inline(always)]
fn less<V: Sixteen>(c: f32, x: V, y: V) -> V {
    V::splat(c).negated_multiply_add(x, y)
}

/// Lines transformed along one axis, then along the other: `lines[i]` is line i after the first; the result's line j is along the
/// second.
macro_rules! along_columns {
    ($lines:expr, $out:literal, $function:ident, ($row:ident, $column:ident, $value:ident) $store:block) => {
        for $column in 0..$out {
            let mut line = [V::splat(0.0); _];
            for (value, along) in line.iter_mut().zip(&$lines) {
                *value = along[$column];
            }
            for ($row, $value) in $function(line).into_iter().enumerate() $store
        }
    };
}

/// Sixteen patches of 6×6 → BᵀdB. Lane l reads rows `stride` apart from `window[offsets[l]]`, eight floats a row; product
/// (i, j) goes to `out[(6i + j) · step ..][..16]`.
///
/// # Safety
/// The machine has the registers of `V`; `window` may be read at `offsets[l] + 5·stride + 7` and below, `out` written as said.
#[inline(always)]
pub(super) unsafe fn data<V: Sixteen>(
    window: *const f32,
    offsets: &[u32; 16],
    stride: usize,
    out: *mut f32,
    step: usize,
) {
    let mut lines = [[V::splat(0.0); IN]; IN];
    for (row, line) in lines.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *line = data_line(unsafe { six_columns(window.wrapping_add(row * stride), offsets) });
    }
    along_columns!(lines, 6, data_line, (row, column, value) {
        // SAFETY: the caller's promise.
        unsafe { value.write(out.add((row * IN + column) * step)) }
    });
}

/// Sixteen patches of 4×4 → A dy Aᵀ, read and stored as in [`data`] (four floats a row).
///
/// # Safety
/// As for [`data`], with `offsets[l] + 3·stride + 3`.
#[inline(always)]
pub(super) unsafe fn gradient<V: Sixteen>(
    window: *const f32,
    offsets: &[u32; 16],
    stride: usize,
    out: *mut f32,
    step: usize,
) {
    let mut lines = [[V::splat(0.0); IN]; OUT];
    for (row, line) in lines.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *line = gradient_line(unsafe { four_columns(window.wrapping_add(row * stride), offsets) });
    }
    along_columns!(lines, 6, gradient_line, (row, column, value) {
        // SAFETY: the caller's promise.
        unsafe { value.write(out.add((row * IN + column) * step)) }
    });
}

/// AᵀMA + bias of sixteen tiles: product (i, j) of the tiles lies at `m[(6i + j) · step ..][..16]`. Vector j of row i of what
/// returns holds that row of tiles j, 4 + j, 8 + j and 12 + j.
///
/// # Safety
/// The machine has the registers of `V`; `m` may be read as said.
#[inline(always)]
pub(super) unsafe fn output<V: Sixteen>(m: *const f32, step: usize, bias: V) -> [[V; OUT]; OUT] {
    let mut lines = [[V::splat(0.0); OUT]; IN];
    for (row, line) in lines.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *line = output_line(unsafe { six_points(m.add(row * IN * step), step) });
    }
    let mut rows = [[V::splat(0.0); OUT]; OUT];
    along_columns!(lines, 4, output_line, (row, column, value) {
        rows[row][column] = value + bias;
    });
    for row in &mut rows {
        *row = V::transpose_in_lanes(*row);
    }
    rows
}

/// Six vectors, `step` apart.
///
/// # Safety
/// The machine has the registers of `V`; they may be read.
#[inline(always)]
unsafe fn six_points<V: Sixteen>(m: *const f32, step: usize) -> [V; IN] {
    let mut six = [V::splat(0.0); IN];
    for (i, vector) in six.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *vector = unsafe { V::read(m.add(i * step)) };
    }
    six
}

/// GgGᵀ for sixteen kernels at once, `g[3u + v]` being tap (u, v) of each; product (i, j) is at 6i + j.
#[inline(always)]
pub(super) fn weight<V: Sixteen>(g: [V; 9]) -> [V; POINTS] {
    let mut lines = [[V::splat(0.0); IN]; 3];
    for (row, line) in lines.iter_mut().enumerate() {
        *line = weight_line([g[3 * row], g[3 * row + 1], g[3 * row + 2]]);
    }
    let mut points = [V::splat(0.0); POINTS];
    along_columns!(lines, 6, weight_line, (row, column, value) {
        points[row * IN + column] = value;
    });
    points
}

/// Gᵀ dU G for sixteen kernels at once; product (i, j) lies at `u[(6i + j) · step ..][..16]`. Returns the nine taps.
///
/// # Safety
/// The machine has the registers of `V`; `u` may be read as said.
#[inline(always)]
pub(super) unsafe fn weight_gradient<V: Sixteen>(u: *const f32, step: usize) -> [V; 9] {
    let mut lines = [[V::splat(0.0); 3]; IN];
    for (row, line) in lines.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        *line = weight_gradient_line(unsafe { six_points(u.add(row * IN * step), step) });
    }
    let mut taps = [V::splat(0.0); 9];
    along_columns!(lines, 3, weight_gradient_line, (row, column, value) {
        taps[3 * row + column] = value;
    });
    taps
}

/// The first six floats at each of sixteen places, as six vectors over the places.
///
/// # Safety
/// The machine has the registers of `V`; eight floats may be read at every `from + offsets[l]`.
#[inline(always)]
unsafe fn six_columns<V: Sixteen>(from: *const f32, offsets: &[u32; 16]) -> [V; IN] {
    // Vector i holds the eight floats of two places, i < 4: places i and i + 4; else i + 4 and i + 8: the order that makes the last
    // shuffle put the places in order.
    let mut pairs = [V::splat(0.0); 8];
    for (i, pair) in pairs.iter_mut().enumerate() {
        let first = if i < 4 { i } else { i + 4 };
        // SAFETY: the caller's promise.
        unsafe {
            *pair = V::octets(from.add(offsets[first] as usize), from.add(offsets[first + 4] as usize));
        }
    }
    let [a, b] = [
        V::transpose_in_lanes([pairs[0], pairs[1], pairs[2], pairs[3]]),
        V::transpose_in_lanes([pairs[4], pairs[5], pairs[6], pairs[7]]),
    ];
    [
        a[0].even_lanes(b[0]),
        a[1].even_lanes(b[1]),
        a[2].even_lanes(b[2]),
        a[3].even_lanes(b[3]),
        a[0].odd_lanes(b[0]),
        a[1].odd_lanes(b[1]),
    ]
}

/// The first four floats at each of sixteen places, as four vectors over the places.
///
/// # Safety
/// The machine has the registers of `V`; four floats may be read at every `from + offsets[l]`.
#[inline(always)]
unsafe fn four_columns<V: Sixteen>(from: *const f32, offsets: &[u32; 16]) -> [V; 4] {
    let mut quads = [V::splat(0.0); 4];
    for (i, quad) in quads.iter_mut().enumerate() {
        let place = |lane: usize| from.wrapping_add(offsets[4 * lane + i] as usize);
        // SAFETY: the caller's promise.
        *quad = unsafe { V::quads([place(0), place(1), place(2), place(3)]) };
    }
    V::transpose_in_lanes(quads)
}

/// Transposes sixteen vectors of sixteen.
#[inline(always)]
pub(super) fn transpose<V: Sixteen>(x: [V; 16]) -> [V; 16] {
    let mut quads = [[V::splat(0.0); 4]; 4];
    for (i, quad) in quads.iter_mut().enumerate() {
        *quad = V::transpose_in_lanes([x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]]);
    }
    let mut out = [V::splat(0.0); 16];
    for j in 0..4 {
        // Lane l of quads[i][j] holds rows 4i.. of column 4l + j: a transpose of 4×4 lanes remains.
        let (even, odd) = (quads[0][j].even_lanes(quads[1][j]), quads[0][j].odd_lanes(quads[1][j]));
        let (even_2, odd_2) = (quads[2][j].even_lanes(quads[3][j]), quads[2][j].odd_lanes(quads[3][j]));
        out[j] = even.even_lanes(even_2);
        out[8 + j] = even.odd_lanes(even_2);
        out[4 + j] = odd.even_lanes(odd_2);
        out[12 + j] = odd.odd_lanes(odd_2);
    }
    out
}
