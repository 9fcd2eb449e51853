//! Pictures of bytes made larger or smaller as Pillow does it (`Image.resize` with `BICUBIC`), to the last bit.
//!
//! An output pixel is a weighted sum of the input pixels under the filter `w(t)`, Keys' cubic with a = −½, stretched by the scale where
//! the picture shrinks. Weights are integers of 22 fractional bits, and each pass rounds to bytes, so that their order shows: rows are
//! resampled before columns unless the height loses more than twice what the width does. That rule is Pillow 13's; older ones always
//! begin with the rows, and differ for such tall pictures by a few of 255.

/// Fractional bits of a weight: 8 bits of a byte and 2 of headroom are left of 32.
const BITS: u32 = 22;
/// Where the cubic ends on each side.
const SUPPORT: f64 = 2.0;

/// Which input pixels an output pixel is made of.
struct Taps {
    first: usize,
    weights: Vec<i32>,
}

/// `rgb` (height × width × 3) as (`to[0]` × `to[1]` × 3). Sizes are at least 1 and `rgb` is as long as they say.
pub(super) fn bicubic(rgb: &[u8], [height, width]: [usize; 2], to: [usize; 2]) -> Vec<u8> {
    let (lower, narrower) = (height.saturating_sub(to[0]), width.saturating_sub(to[1]));
    if lower > 2 * narrower {
        let rgb = columns(rgb, [height, width], to[0]);
        rows(&rgb, [to[0], width], to[1])
    } else {
        let rgb = rows(rgb, [height, width], to[1]);
        columns(&rgb, [height, to[1]], to[0])
    }
}

/// Every row made `out` pixels long.
fn rows(rgb: &[u8], [height, width]: [usize; 2], out: usize) -> Vec<u8> {
    if out == width {
        return rgb.to_vec();
    }
    pass(rgb, &taps(width, out), [height, out], |row, at| (row * width + at) * 3)
}

/// Every column made `out` pixels long.
fn columns(rgb: &[u8], [height, width]: [usize; 2], out: usize) -> Vec<u8> {
    if out == height {
        return rgb.to_vec();
    }
    let turned = pass(rgb, &taps(height, out), [width, out], |column, at| (at * width + column) * 3);
    transpose(&turned, [width, out])
}

/// Each of `lines` lines resampled: (lines × out × 3). `place` says where a line's pixel stands in `from`.
fn pass(
    from: &[u8],
    taps: &[Taps],
    [lines, out]: [usize; 2],
    place: impl Fn(usize, usize) -> usize,
) -> Vec<u8> {
    let mut result = Vec::with_capacity(lines * out * 3);
    for line in 0..lines {
        for tap in taps {
            let mut sums = [1i64 << (BITS - 1); 3];
            for (index, weight) in tap.weights.iter().enumerate() {
                let pixel = &from[place(line, tap.first + index)..][..3];
                sums.iter_mut()
                    .zip(pixel)
                    .for_each(|(sum, byte)| *sum += i64::from(*byte) * i64::from(*weight));
            }
            result.extend(sums.map(|sum| (sum >> BITS).clamp(0, 255) as u8));
        }
    }
    result
}

/// (a × b × 3) as (b × a × 3).
fn transpose(from: &[u8], [a, b]: [usize; 2]) -> Vec<u8> {
    (0..b).flat_map(|j| (0..a).flat_map(move |i| (0..3).map(move |c| from[(i * b + j) * 3 + c]))).collect()
}

/// The weights of every output pixel, `size` input pixels becoming `out`.
fn taps(size: usize, out: usize) -> Vec<Taps> {
    let scale = size as f64 / out as f64;
    let stretch = scale.max(1.0);
    let reach = SUPPORT * stretch;
    let one = |place: usize| {
        let centre = (place as f64 + 0.5) * scale;
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let last = ((centre + reach + 0.5) as usize).min(size);
        let weights: Vec<f64> =
            (first..last).map(|at| cubic((at as f64 - centre + 0.5) * (1.0 / stretch))).collect();
        let sum: f64 = weights.iter().sum();
        Taps { first, weights: weights.into_iter().map(|weight| fixed(weight * (1.0 / sum))).collect() }
    };
    (0..out).map(one).collect()
}

/// A weight with [`BITS`] fractional bits, halves rounded away from 0.
fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << BITS);
    (scaled + 0.5f64.copysign(weight)) as i32
}

/// Keys' cubic, a = −½.
fn cubic(t: f64) -> f64 {
    const A: f64 = -0.5;
    let t = t.abs();
    if t < 1.0 {
        ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0
    } else if t < 2.0 {
        (((t - 5.0) * t + 8.0) * t - 4.0) * A
    } else {
        0.0
    }
}
