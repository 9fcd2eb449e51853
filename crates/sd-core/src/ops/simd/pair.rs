//! Sixteen `f32` in two AVX registers: what [`Zmm`](super::Zmm) is on machines without AVX-512, lane by lane the same bits.

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Neg, Sub};

use super::{Sixteen, Vector};
use crate::ops::math::Single;

/// Sixteen `f32`. Its methods are AVX2 and FMA instructions: it may be used only in code that runs where
/// [`Isa::of_machine`](super::Isa::of_machine) is `Avx2` or more, which [`vectorised!`](super::vectorised) and
/// [`on_sixteen!`](super::on_sixteen) see to.
#[derive(Clone, Copy)]
pub(crate) struct Pair(__m256, __m256);

/// An instruction on registers alone.
macro_rules! instruction {
    ($($call:tt)*) => {
        // SAFETY: the instruction touches no memory, and a `Pair` is used only where the processor has AVX2 and FMA (see there).
        unsafe { $($call)* }
    };
}

macro_rules! operator {
    ($Trait:ident, $method:ident, $instruction:ident) => {
        impl $Trait for Pair {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                instruction!(Self($instruction(self.0, other.0), $instruction(self.1, other.1)))
            }
        }
    };
}
operator!(Add, add, _mm256_add_ps);
operator!(Sub, sub, _mm256_sub_ps);
operator!(Mul, mul, _mm256_mul_ps);
operator!(Div, div, _mm256_div_ps);

impl Neg for Pair {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        let sign = Self::of(-0.0);
        instruction!(Self(_mm256_xor_ps(self.0, sign.0), _mm256_xor_ps(self.1, sign.1)))
    }
}

/// `x · 2ⁿ` for whole n, in two halves: the first product is exact, the second rounds where the result is subnormal.
#[inline(always)]
fn scale(x: __m256, n: __m256) -> __m256 {
    instruction! {{
        let n = _mm256_cvtps_epi32(n);
        let half = _mm256_srai_epi32::<1>(n);
        let power = |n| _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127))));
        _mm256_mul_ps(_mm256_mul_ps(x, power(half)), power(_mm256_sub_epi32(n, half)))
    }}
}

impl Single for Pair {
    #[inline(always)]
    fn of(x: f32) -> Self {
        instruction!(Self(_mm256_set1_ps(x), _mm256_set1_ps(x)))
    }

    #[inline(always)]
    fn multiply_add(self, a: Self, b: Self) -> Self {
        instruction!(Self(_mm256_fmadd_ps(self.0, a.0, b.0), _mm256_fmadd_ps(self.1, a.1, b.1)))
    }

    #[inline(always)]
    fn absolute(self) -> Self {
        let sign = Self::of(-0.0);
        instruction!(Self(_mm256_andnot_ps(sign.0, self.0), _mm256_andnot_ps(sign.1, self.1)))
    }

    #[inline(always)]
    fn if_less(self, bound: Self, yes: Self, no: Self) -> Self {
        instruction!(Self(
            _mm256_blendv_ps(no.0, yes.0, _mm256_cmp_ps::<_CMP_LT_OQ>(self.0, bound.0)),
            _mm256_blendv_ps(no.1, yes.1, _mm256_cmp_ps::<_CMP_LT_OQ>(self.1, bound.1)),
        ))
    }

    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        Self(scale(self.0, n.0), scale(self.1, n.1))
    }
}

by_arithmetic!(Pair);

/// All bits of the first `count` of sixteen lanes.
#[inline(always)]
fn masks(count: usize) -> (__m256i, __m256i) {
    let count = count.min(16) as i32;
    instruction! {{
        let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        (
            _mm256_cmpgt_epi32(_mm256_set1_epi32(count), lanes),
            _mm256_cmpgt_epi32(_mm256_set1_epi32(count - 8), lanes),
        )
    }}
}

impl Vector<f32> for Pair {
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self::of(x)
    }

    #[inline(always)]
    fn load(from: &[f32], start: usize) -> Self {
        let rest = &from[start..];
        // SAFETY: no more is read than `rest` holds; AVX2 is there (see `Pair`).
        unsafe {
            if rest.len() >= 16 {
                Self::read(rest.as_ptr())
            } else {
                Self::read_first(rest.as_ptr(), rest.len())
            }
        }
    }

    #[inline(always)]
    fn store(self, to: &mut [f32], start: usize) {
        let rest = &mut to[start..];
        // SAFETY: no more is written than `rest` holds; AVX2 is there (see `Pair`).
        unsafe {
            if rest.len() >= 16 {
                self.write(rest.as_mut_ptr());
            } else {
                self.write_first(rest.as_mut_ptr(), rest.len());
            }
        }
    }

    #[inline(always)]
    fn keep(self, count: usize) -> Self {
        self.first(count, Self::of(0.0))
    }

    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        // The instruction gives its second operand where one of the two is NaN.
        instruction!(Self(_mm256_max_ps(other.0, self.0), _mm256_max_ps(other.1, self.1)))
    }

    #[inline(always)]
    fn total(self) -> f32 {
        instruction! {{
            let eight = _mm256_add_ps(self.0, self.1);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }}
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        instruction! {{
            let eight = _mm256_max_ps(self.0, self.1);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }}
    }
}

/// [`Sixteen::transpose_in_lanes`] of one half.
#[inline(always)]
fn transpose_half([a, b, c, d]: [__m256; 4]) -> [__m256; 4] {
    instruction! {{
        let (ab, cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
        let (ab_high, cd_high) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
        let (ab, cd) = (_mm256_castps_pd(ab), _mm256_castps_pd(cd));
        let (ab_high, cd_high) = (_mm256_castps_pd(ab_high), _mm256_castps_pd(cd_high));
        [
            _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd)),
            _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd)),
            _mm256_castpd_ps(_mm256_unpacklo_pd(ab_high, cd_high)),
            _mm256_castpd_ps(_mm256_unpackhi_pd(ab_high, cd_high)),
        ]
    }}
}

impl Sixteen for Pair {
    #[inline(always)]
    unsafe fn read(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self(_mm256_loadu_ps(from), _mm256_loadu_ps(from.add(8))) }
    }

    #[inline(always)]
    unsafe fn read_first(from: *const f32, count: usize) -> Self {
        let (low, high) = masks(count);
        // SAFETY: the masks keep the loads inside what the caller promises.
        unsafe { Self(_mm256_maskload_ps(from, low), _mm256_maskload_ps(from.wrapping_add(8), high)) }
    }

    #[inline(always)]
    unsafe fn write(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe {
            _mm256_storeu_ps(to, self.0);
            _mm256_storeu_ps(to.add(8), self.1);
        }
    }

    #[inline(always)]
    unsafe fn write_first(self, to: *mut f32, count: usize) {
        let (low, high) = masks(count);
        // SAFETY: the masks keep the stores inside what the caller promises.
        unsafe {
            _mm256_maskstore_ps(to, low, self.0);
            _mm256_maskstore_ps(to.wrapping_add(8), high, self.1);
        }
    }

    #[inline(always)]
    unsafe fn gather(from: *const f32, offsets: &[i32; 16]) -> Self {
        // SAFETY: eight integers are read from either half of the array; the caller's promise for `from`.
        unsafe {
            let (low, high) = (offsets.as_ptr().cast(), offsets.as_ptr().add(8).cast());
            Self(
                _mm256_i32gather_ps::<4>(from, _mm256_loadu_si256(low)),
                _mm256_i32gather_ps::<4>(from, _mm256_loadu_si256(high)),
            )
        }
    }

    #[inline(always)]
    unsafe fn octets(low: *const f32, high: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe { Self(_mm256_loadu_ps(low), _mm256_loadu_ps(high)) }
    }

    #[inline(always)]
    unsafe fn quads(from: [*const f32; 4]) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let [a, b, c, d] =
                [_mm_loadu_ps(from[0]), _mm_loadu_ps(from[1]), _mm_loadu_ps(from[2]), _mm_loadu_ps(from[3])];
            Self(_mm256_set_m128(b, a), _mm256_set_m128(d, c))
        }
    }

    #[inline(always)]
    fn quarters(self) -> [__m128; 4] {
        instruction!([
            _mm256_castps256_ps128(self.0),
            _mm256_extractf128_ps::<1>(self.0),
            _mm256_castps256_ps128(self.1),
            _mm256_extractf128_ps::<1>(self.1),
        ])
    }

    #[inline(always)]
    fn negated_multiply_add(self, a: Self, b: Self) -> Self {
        instruction!(Self(_mm256_fnmadd_ps(self.0, a.0, b.0), _mm256_fnmadd_ps(self.1, a.1, b.1)))
    }

    #[inline(always)]
    fn rounded(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        instruction!(Self(_mm256_round_ps::<NEAREST>(self.0), _mm256_round_ps::<NEAREST>(self.1)))
    }

    #[inline(always)]
    fn first(self, count: usize, other: Self) -> Self {
        let (low, high) = masks(count);
        instruction!(Self(
            _mm256_blendv_ps(other.0, self.0, _mm256_castsi256_ps(low)),
            _mm256_blendv_ps(other.1, self.1, _mm256_castsi256_ps(high)),
        ))
    }

    #[inline(always)]
    fn transpose_in_lanes([a, b, c, d]: [Self; 4]) -> [Self; 4] {
        let low = transpose_half([a.0, b.0, c.0, d.0]);
        let high = transpose_half([a.1, b.1, c.1, d.1]);
        [Self(low[0], high[0]), Self(low[1], high[1]), Self(low[2], high[2]), Self(low[3], high[3])]
    }

    #[inline(always)]
    fn even_lanes(self, other: Self) -> Self {
        instruction!(Self(
            _mm256_permute2f128_ps::<0x20>(self.0, self.1),
            _mm256_permute2f128_ps::<0x20>(other.0, other.1),
        ))
    }

    #[inline(always)]
    fn odd_lanes(self, other: Self) -> Self {
        instruction!(Self(
            _mm256_permute2f128_ps::<0x31>(self.0, self.1),
            _mm256_permute2f128_ps::<0x31>(other.0, other.1),
        ))
    }
}
