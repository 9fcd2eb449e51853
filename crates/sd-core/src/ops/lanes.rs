//! Element-wise loops over slices in vectors of [`LANES`] elements; a row's last, incomplete vector is computed in a padded
//! copy, so that short rows are vector code too. An element's value depends on that element alone.

use super::Real;

/// Elements of a vector: 512 bits of `f32`.
pub(crate) const LANES: usize = 16;

/// `out[i] = f(inputs[0][i], inputs[1][i], …)`.
#[inline(always)]
pub(crate) fn map<T: Real, const N: usize>(out: &mut [T], inputs: [&[T]; N], f: impl Fn([T; N]) -> T + Copy) {
    let len = out.len();
    let inputs = inputs.map(|slice| &slice[..len]);
    let whole = len - len % LANES;
    for start in (0..whole).step_by(LANES) {
        let inputs = inputs.map(|slice| &slice[start..start + LANES]);
        let out = &mut out[start..start + LANES];
        for lane in 0..LANES {
            out[lane] = f(inputs.map(|slice| slice[lane]));
        }
    }
    if whole < len {
        let inputs = inputs.map(|slice| padded(&slice[whole..]));
        let mut last = [T::zero(); LANES];
        for lane in 0..LANES {
            last[lane] = f(inputs.map(|slice| slice[lane]));
        }
        out[whole..].copy_from_slice(&last[..len - whole]);
    }
}

/// `out[i] = f(out[i], [inputs[0][i], …])`; `out` must hold values where `f` uses them.
#[inline(always)]
pub(crate) fn update<T: Real, const N: usize>(
    out: &mut [T],
    inputs: [&[T]; N],
    f: impl Fn(T, [T; N]) -> T + Copy,
) {
    let len = out.len();
    let inputs = inputs.map(|slice| &slice[..len]);
    let whole = len - len % LANES;
    for start in (0..whole).step_by(LANES) {
        let inputs = inputs.map(|slice| &slice[start..start + LANES]);
        let out = &mut out[start..start + LANES];
        for lane in 0..LANES {
            out[lane] = f(out[lane], inputs.map(|slice| slice[lane]));
        }
    }
    if whole < len {
        let mut last = padded(&out[whole..]);
        let inputs = inputs.map(|slice| padded(&slice[whole..]));
        for lane in 0..LANES {
            last[lane] = f(last[lane], inputs.map(|slice| slice[lane]));
        }
        out[whole..].copy_from_slice(&last[..len - whole]);
    }
}

/// `[a[i], b[i]] = f(inputs[0][i], …)`.
#[inline(always)]
pub(crate) fn map_pair<T: Real, const N: usize>(
    a: &mut [T],
    b: &mut [T],
    inputs: [&[T]; N],
    f: impl Fn([T; N]) -> [T; 2] + Copy,
) {
    let len = a.len();
    let (b, inputs) = (&mut b[..len], inputs.map(|slice| &slice[..len]));
    let whole = len - len % LANES;
    for start in (0..whole).step_by(LANES) {
        let inputs = inputs.map(|slice| &slice[start..start + LANES]);
        let (a, b) = (&mut a[start..start + LANES], &mut b[start..start + LANES]);
        for lane in 0..LANES {
            [a[lane], b[lane]] = f(inputs.map(|slice| slice[lane]));
        }
    }
    if whole < len {
        let inputs = inputs.map(|slice| padded(&slice[whole..]));
        let mut last = [[T::zero(); LANES]; 2];
        for lane in 0..LANES {
            [last[0][lane], last[1][lane]] = f(inputs.map(|slice| slice[lane]));
        }
        a[whole..].copy_from_slice(&last[0][..len - whole]);
        b[whole..].copy_from_slice(&last[1][..len - whole]);
    }
}

#[inline(always)]
fn padded<T: Real>(values: &[T]) -> [T; LANES] {
    let mut all = [T::zero(); LANES];
    all[..values.len()].copy_from_slice(values);
    all
}
