//! Sixteen `f32` in one AVX-512 register.

use std::arch::x86_64::*;
use std::ops::{Add, Div, Mul, Neg, Sub};

use super::{Sixteen, Vector};
use crate::ops::math::Single;

/// Sixteen `f32`. Its methods are AVX-512 instructions: it may be used only in code that runs where
/// [`Isa::of_machine`](super::Isa::of_machine) is `Avx512`, which [`vectorised!`](super::vectorised) sees to.
#[derive(Clone, Copy)]
pub(crate) struct Zmm(__m512);

/// An instruction on registers alone.
macro_rules! instruction {
    ($($call:tt)*) => {
        // SAFETY: the instruction touches no memory, and a `Zmm` is used only where the processor has AVX-512 (see there).
        unsafe { $($call)* }
    };
}

macro_rules! operator {
    ($Trait:ident, $method:ident, $instruction:ident) => {
        impl $Trait for Zmm {
            type Output = Self;

            #[inline(always)]
            fn $method(self, other: Self) -> Self {
                Self(instruction!($instruction(self.0, other.0)))
            }
        }
    };
}
operator!(Add, add, _mm512_add_ps);
operator!(Sub, sub, _mm512_sub_ps);
operator!(Mul, mul, _mm512_mul_ps);
operator!(Div, div, _mm512_div_ps);

impl Neg for Zmm {
    type Output = Self;

    #[inline(always)]
    fn neg(self) -> Self {
        Self(instruction!(_mm512_xor_ps(self.0, _mm512_set1_ps(-0.0))))
    }
}

impl Single for Zmm {
    #[inline(always)]
    fn of(x: f32) -> Self {
        Self(instruction!(_mm512_set1_ps(x)))
    }

    #[inline(always)]
    fn multiply_add(self, a: Self, b: Self) -> Self {
        Self(instruction!(_mm512_fmadd_ps(self.0, a.0, b.0)))
    }

    #[inline(always)]
    fn absolute(self) -> Self {
        Self(instruction!(_mm512_abs_ps(self.0)))
    }

    #[inline(always)]
    fn if_less(self, bound: Self, yes: Self, no: Self) -> Self {
        Self(instruction!(_mm512_mask_blend_ps(
            _mm512_cmp_ps_mask::<_CMP_LT_OQ>(self.0, bound.0),
            no.0,
            yes.0
        )))
    }

    #[inline(always)]
    fn scale(self, n: Self) -> Self {
        Self(instruction!(_mm512_scalef_ps(self.0, n.0)))
    }
}

by_arithmetic!(Zmm);

/// The lowest `count` of sixteen bits.
#[inline(always)]
fn mask(count: usize) -> __mmask16 {
    if count >= 16 { 0xffff } else { (1 << count) - 1 }
}

impl Vector<f32> for Zmm {
    const LANES: usize = 16;

    #[inline(always)]
    fn splat(x: f32) -> Self {
        Self::of(x)
    }

    #[inline(always)]
    fn load(from: &[f32], start: usize) -> Self {
        let rest = &from[start..];
        if rest.len() >= 16 {
            // SAFETY: sixteen elements lie from the pointer on; AVX-512 is there (see `Zmm`).
            return Self(unsafe { _mm512_loadu_ps(rest.as_ptr()) });
        }
        // SAFETY: the mask keeps the load inside the slice; AVX-512 is there.
        Self(unsafe { _mm512_maskz_loadu_ps(mask(rest.len()), rest.as_ptr()) })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32], start: usize) {
        let rest = &mut to[start..];
        if rest.len() >= 16 {
            // SAFETY: sixteen elements lie from the pointer on; AVX-512 is there (see `Zmm`).
            unsafe { _mm512_storeu_ps(rest.as_mut_ptr(), self.0) };
        } else {
            // SAFETY: the mask keeps the store inside the slice; AVX-512 is there.
            unsafe { _mm512_mask_storeu_ps(rest.as_mut_ptr(), mask(rest.len()), self.0) };
        }
    }

    #[inline(always)]
    fn keep(self, count: usize) -> Self {
        Self(instruction!(_mm512_maskz_mov_ps(mask(count), self.0)))
    }

    #[inline(always)]
    fn larger(self, other: Self) -> Self {
        // The instruction gives its second operand where one of the two is NaN.
        Self(instruction!(_mm512_max_ps(other.0, self.0)))
    }

    #[inline(always)]
    fn total(self) -> f32 {
        instruction! {{
            let upper = _mm256_castpd_ps(_mm512_extractf64x4_pd::<1>(_mm512_castps_pd(self.0)));
            let eight = _mm256_add_ps(_mm512_castps512_ps256(self.0), upper);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }}
    }

    #[inline(always)]
    fn largest(self) -> f32 {
        instruction!(_mm512_reduce_max_ps(self.0))
    }
}

impl Sixteen for Zmm {
    #[inline(always)]
    unsafe fn read(from: *const f32) -> Self {
        // SAFETY: the caller's promise.
        Self(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    unsafe fn read_first(from: *const f32, count: usize) -> Self {
        // SAFETY: the mask keeps the load inside what the caller promises.
        Self(unsafe { _mm512_maskz_loadu_ps(mask(count), from) })
    }

    #[inline(always)]
    unsafe fn write(self, to: *mut f32) {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_ps(to, self.0) };
    }

    #[inline(always)]
    unsafe fn write_first(self, to: *mut f32, count: usize) {
        // SAFETY: the mask keeps the store inside what the caller promises.
        unsafe { _mm512_mask_storeu_ps(to, mask(count), self.0) };
    }

    #[inline(always)]
    unsafe fn gather(from: *const f32, offsets: &[i32; 16]) -> Self {
        // SAFETY: sixteen integers are read from an array of sixteen; the caller's promise for `from`.
        Self(unsafe { _mm512_i32gather_ps::<4>(_mm512_loadu_si512(offsets.as_ptr().cast()), from.cast()) })
    }

    #[inline(always)]
    unsafe fn octets(low: *const f32, high: *const f32) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let (low, high) =
                (_mm256_castps_pd(_mm256_loadu_ps(low)), _mm256_castps_pd(_mm256_loadu_ps(high)));
            Self(_mm512_castpd_ps(_mm512_insertf64x4::<1>(_mm512_castpd256_pd512(low), high)))
        }
    }

    #[inline(always)]
    unsafe fn quads(from: [*const f32; 4]) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let quads = _mm512_castps128_ps512(_mm_loadu_ps(from[0]));
            let quads = _mm512_insertf32x4::<1>(quads, _mm_loadu_ps(from[1]));
            let quads = _mm512_insertf32x4::<2>(quads, _mm_loadu_ps(from[2]));
            Self(_mm512_insertf32x4::<3>(quads, _mm_loadu_ps(from[3])))
        }
    }

    #[inline(always)]
    fn quarters(self) -> [__m128; 4] {
        instruction!([
            _mm512_extractf32x4_ps::<0>(self.0),
            _mm512_extractf32x4_ps::<1>(self.0),
            _mm512_extractf32x4_ps::<2>(self.0),
            _mm512_extractf32x4_ps::<3>(self.0),
        ])
    }

    #[inline(always)]
    fn negated_multiply_add(self, a: Self, b: Self) -> Self {
        Self(instruction!(_mm512_fnmadd_ps(self.0, a.0, b.0)))
    }

    #[inline(always)]
    fn rounded(self) -> Self {
        const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
        Self(instruction!(_mm512_roundscale_ps::<NEAREST>(self.0)))
    }

    #[inline(always)]
    fn first(self, count: usize, other: Self) -> Self {
        Self(instruction!(_mm512_mask_mov_ps(other.0, mask(count), self.0)))
    }

    #[inline(always)]
    fn transpose_in_lanes([a, b, c, d]: [Self; 4]) -> [Self; 4] {
        instruction! {{
            let (ab, cd) = (_mm512_unpacklo_ps(a.0, b.0), _mm512_unpacklo_ps(c.0, d.0));
            let (ab_high, cd_high) = (_mm512_unpackhi_ps(a.0, b.0), _mm512_unpackhi_ps(c.0, d.0));
            let (ab, cd) = (_mm512_castps_pd(ab), _mm512_castps_pd(cd));
            let (ab_high, cd_high) = (_mm512_castps_pd(ab_high), _mm512_castps_pd(cd_high));
            [
                Self(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd))),
                Self(_mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd))),
                Self(_mm512_castpd_ps(_mm512_unpacklo_pd(ab_high, cd_high))),
                Self(_mm512_castpd_ps(_mm512_unpackhi_pd(ab_high, cd_high))),
            ]
        }}
    }

    #[inline(always)]
    fn even_lanes(self, other: Self) -> Self {
        Self(instruction!(_mm512_shuffle_f32x4::<0x88>(self.0, other.0)))
    }

    #[inline(always)]
    fn odd_lanes(self, other: Self) -> Self {
        Self(instruction!(_mm512_shuffle_f32x4::<0xdd>(self.0, other.0)))
    }
}
