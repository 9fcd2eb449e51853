//! Element-wise loops and sums over slices, a [`Vector`](super::simd::Vector) at a time.
//!
//! These are macros rather than functions of closures: a closure that the compiler does not inline into the function compiled for
//! AVX-512 would be compiled without it, and every instruction in it would become a call.

use super::Real;
use super::simd::Vector;

/// `map!(T, V, out, [x: a, y: b], f)`: `out[i] = f` with x = a[i] and y = b[i]. An element depends on its own inputs alone.
macro_rules! map {
    ($T:ty, $V:ty, $out:expr, [$($name:ident: $slice:expr),*], $body:expr) => {{
        let out: &mut [$T] = $out;
        let len = out.len();
        $(let $name: &[$T] = &$slice[..len];)*
        let mut start = 0;
        while start < len {
            let value: $V = {
                $(let $name = <$V as $crate::ops::simd::Vector<$T>>::load($name, start);)*
                $body
            };
            value.store(out, start);
            start += <$V as $crate::ops::simd::Vector<$T>>::LANES;
        }
    }};
}
pub(crate) use map;

/// `update!(T, V, old, out, [x: a], f)`: as [`map!`], with `old` = `out[i]` as it was.
macro_rules! update {
    ($T:ty, $V:ty, $old:ident, $out:expr, [$($name:ident: $slice:expr),*], $body:expr) => {{
        let out: &mut [$T] = $out;
        let len = out.len();
        $(let $name: &[$T] = &$slice[..len];)*
        let mut start = 0;
        while start < len {
            let $old = <$V as $crate::ops::simd::Vector<$T>>::load(out, start);
            let value: $V = {
                $(let $name = <$V as $crate::ops::simd::Vector<$T>>::load($name, start);)*
                $body
            };
            value.store(out, start);
            start += <$V as $crate::ops::simd::Vector<$T>>::LANES;
        }
    }};
}
pub(crate) use update;

/// `map_pair!(T, V, a, b, [x: c], f)`: `(a[i], b[i]) = f` with x = c[i].
macro_rules! map_pair {
    ($T:ty, $V:ty, $a:expr, $b:expr, [$($name:ident: $slice:expr),*], $body:expr) => {{
        let (a, b): (&mut [$T], &mut [$T]) = ($a, $b);
        let len = a.len();
        let b = &mut b[..len];
        $(let $name: &[$T] = &$slice[..len];)*
        let mut start = 0;
        while start < len {
            let (first, second): ($V, $V) = {
                $(let $name = <$V as $crate::ops::simd::Vector<$T>>::load($name, start);)*
                $body
            };
            first.store(a, start);
            second.store(b, start);
            start += <$V as $crate::ops::simd::Vector<$T>>::LANES;
        }
    }};
}
pub(crate) use map_pair;

/// `block_sums!(T, V, [x: a, y: b], (f, g))`: Σ f and Σ g over the elements of slices of equal length, in lanes of `T`. Element i
/// goes to lane i mod 64 as long as 64 are left, then to lane i mod 16; the lanes are joined as a tree. The bits depend neither
/// on threads nor on the instruction set.
macro_rules! block_sums {
    ($T:ty, $V:ty, [$head:ident: $first:expr $(, $name:ident: $slice:expr)*], ($f:expr, $g:expr)) => {{
        use $crate::ops::lanes::{CHAINS, LANES, STRIDE};
        let $head: &[$T] = $first;
        let len = $head.len();
        $(let $name: &[$T] = &$slice[..len];)*
        let zero = <$V as $crate::ops::simd::Vector<$T>>::splat(<$T as candle_core::WithDType>::from_f64(0.0));
        let mut start = 0;
        if <$V as $crate::ops::simd::Vector<$T>>::LANES == LANES {
            let (mut fs, mut gs) = ([zero; CHAINS], [zero; CHAINS]);
            while start + STRIDE <= len {
                for chain in 0..CHAINS {
                    let at = start + chain * LANES;
                    let $head = <$V as $crate::ops::simd::Vector<$T>>::load($head, at);
                    $(let $name = <$V as $crate::ops::simd::Vector<$T>>::load($name, at);)*
                    fs[chain] += $f;
                    gs[chain] += $g;
                }
                start += STRIDE;
            }
            let mut f = (fs[0] + fs[1]) + (fs[2] + fs[3]);
            let mut g = (gs[0] + gs[1]) + (gs[2] + gs[3]);
            while start < len {
                let $head = <$V as $crate::ops::simd::Vector<$T>>::load($head, start);
                $(let $name = <$V as $crate::ops::simd::Vector<$T>>::load($name, start);)*
                f += ($f).keep(len - start);
                g += ($g).keep(len - start);
                start += LANES;
            }
            (f.total(), g.total())
        } else {
            let (mut fs, mut gs) = ([zero; STRIDE], [zero; STRIDE]);
            while start + STRIDE <= len {
                for lane in 0..STRIDE {
                    let $head = <$V as $crate::ops::simd::Vector<$T>>::load($head, start + lane);
                    $(let $name = <$V as $crate::ops::simd::Vector<$T>>::load($name, start + lane);)*
                    fs[lane] += $f;
                    gs[lane] += $g;
                }
                start += STRIDE;
            }
            $crate::ops::lanes::join_chains::<$T, $V>(&mut fs);
            $crate::ops::lanes::join_chains::<$T, $V>(&mut gs);
            for index in start..len {
                let $head = <$V as $crate::ops::simd::Vector<$T>>::load($head, index);
                $(let $name = <$V as $crate::ops::simd::Vector<$T>>::load($name, index);)*
                let lane = (index - start) % LANES;
                fs[lane] += $f;
                gs[lane] += $g;
            }
            let join = $crate::ops::lanes::join_lanes::<$T, $V>;
            (join(&mut fs), join(&mut gs))
        }
    }};
}
pub(crate) use block_sums;

/// Lanes of a sum: a register of 512 bits of `f32`.
pub(crate) const LANES: usize = 16;
/// Registers of lanes in flight: an addition takes several cycles, and one can start in each.
pub(crate) const CHAINS: usize = 4;
/// Lanes of all chains.
pub(crate) const STRIDE: usize = LANES * CHAINS;

/// Adds the chains of scalar lanes up in the first.
#[inline(always)]
pub(crate) fn join_chains<T: Real, V: Vector<T>>(lanes: &mut [V; STRIDE]) {
    for lane in 0..LANES {
        let late = lanes[2 * LANES + lane] + lanes[3 * LANES + lane];
        lanes[lane] = (lanes[lane] + lanes[LANES + lane]) + late;
    }
}

/// Σ of the first chain of scalar lanes as a tree.
#[inline(always)]
pub(crate) fn join_lanes<T: Real, V: Vector<T>>(lanes: &mut [V; STRIDE]) -> T {
    let mut half = LANES / 2;
    while half > 0 {
        for lane in 0..half {
            let upper = lanes[lane + half];
            lanes[lane] += upper;
        }
        half /= 2;
    }
    lanes[0].total()
}

/// The largest element of a row that is not empty; a NaN is passed over unless it comes first.
#[inline(always)]
pub(crate) fn largest<T: Real, V: Vector<T>>(row: &[T]) -> T {
    let mut top = V::splat(row[0]);
    let whole = row.len() - row.len() % V::LANES;
    let mut start = 0;
    while start < whole {
        top = top.larger(V::load(row, start));
        start += V::LANES;
    }
    let mut top = top.largest();
    for &x in &row[whole..] {
        top = if x > top { x } else { top };
    }
    top
}
