//! One source, several instruction sets: [`vectorised!`] compiles a function for baseline x86-64, AVX2 and AVX-512 and calls the
//! widest that the machine has.
//!
//! Functions are generic over the element type `T` and a [`Vector`] of it. For `f32` the vector is sixteen elements by name, [`Zmm`] for
//! AVX-512 and [`Pair`] for AVX2; otherwise it is `T` itself, and the loops are left to the compiler (which made gathers of the short ones
//! where it was left alone with 512 bits). What works on registers alone, whatever the element type, is written once for
//! [`Sixteen`] and compiled for both by [`on_sixteen!`]. A product is fused with a sum exactly where the source says so and sums are cut in
//! lanes by the source, so every instruction set gives the same bits.

/// What a kind of registers has by its arithmetic alone.
#[cfg(target_arch = "x86_64")]
macro_rules! by_arithmetic {
    ($V:ty) => {
        impl std::ops::AddAssign for $V {
            #[inline(always)]
            fn add_assign(&mut self, other: Self) {
                *self = *self + other;
            }
        }

        impl $crate::ops::Math for $V {
            #[inline(always)]
            fn fused(self, a: Self, b: Self) -> Self {
                self.multiply_add(a, b)
            }

            #[inline(always)]
            fn exp_of_negative(self) -> Self {
                $crate::ops::math::exp_of_negative(self)
            }

            #[inline(always)]
            fn normal_cdf_and_density(self) -> (Self, Self) {
                $crate::ops::math::normal_cdf_and_density(self)
            }

            #[inline(always)]
            fn sigmoids(self) -> (Self, Self) {
                $crate::ops::math::sigmoids(self)
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
mod pair;
#[cfg(target_arch = "x86_64")]
mod zmm;

use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};
use std::sync::OnceLock;
#[cfg(all(test, target_arch = "x86_64"))]
use std::sync::{
    Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use super::Math;
#[cfg(target_arch = "x86_64")]
use super::math::Single;
#[cfg(target_arch = "x86_64")]
pub(crate) use {pair::Pair, zmm::Zmm};

/// One or more elements on which a kernel computes at once.
pub(crate) trait Vector<T>:
    Math
    + Add<Output = Self>
    + AddAssign
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    /// How many.
    const LANES: usize;
    /// All lanes equal.
    fn splat(x: T) -> Self;
    /// The elements from `start` on, zeros beyond the end of the slice.
    fn load(from: &[T], start: usize) -> Self;
    /// Writes the elements from `start` on, those beyond the end of the slice nowhere.
    fn store(self, to: &mut [T], start: usize);
    /// Zero in the lanes from `count` on.
    fn keep(self, count: usize) -> Self;
    /// `other` where it is larger than `self`, else `self`.
    fn larger(self, other: Self) -> Self;
    /// Σ of the lanes as a tree: upper half to lower half, until one is left.
    fn total(self) -> T;
    /// The largest lane.
    fn largest(self) -> T;
}

macro_rules! scalar_vector {
    ($T:ty) => {
        impl Vector<$T> for $T {
            const LANES: usize = 1;

            #[inline(always)]
            fn splat(x: $T) -> Self {
                x
            }

            #[inline(always)]
            fn load(from: &[$T], start: usize) -> Self {
                from[start]
            }

            #[inline(always)]
            fn store(self, to: &mut [$T], start: usize) {
                to[start] = self;
            }

            #[inline(always)]
            fn keep(self, _count: usize) -> Self {
                self
            }

            #[inline(always)]
            fn larger(self, other: Self) -> Self {
                if other > self { other } else { self }
            }

            #[inline(always)]
            fn total(self) -> $T {
                self
            }

            #[inline(always)]
            fn largest(self) -> $T {
                self
            }
        }
    };
}
scalar_vector!(f32);
scalar_vector!(f64);

/// Sixteen `f32` in registers, with what tiles and transforms need beyond arithmetic. A *lane* of four is 128 bits.
#[cfg(target_arch = "x86_64")]
pub(crate) trait Sixteen: Vector<f32> + Single {
    /// # Safety
    /// Sixteen numbers may be read.
    unsafe fn read(from: *const f32) -> Self;
    /// The first `count` numbers and zeros.
    ///
    /// # Safety
    /// `count` numbers, and no more than sixteen, may be read.
    unsafe fn read_first(from: *const f32, count: usize) -> Self;
    /// # Safety
    /// Sixteen numbers may be written.
    unsafe fn write(self, to: *mut f32);
    /// Writes the first `count` numbers.
    ///
    /// # Safety
    /// `count` numbers, and no more than sixteen, may be written.
    unsafe fn write_first(self, to: *mut f32, count: usize);
    /// The numbers at sixteen offsets.
    ///
    /// # Safety
    /// Each may be read.
    unsafe fn gather(from: *const f32, offsets: &[i32; 16]) -> Self;
    /// Eight numbers from one place and eight from another.
    ///
    /// # Safety
    /// They may be read.
    unsafe fn octets(low: *const f32, high: *const f32) -> Self;
    /// Four numbers from each of four places.
    ///
    /// # Safety
    /// They may be read.
    unsafe fn quads(from: [*const f32; 4]) -> Self;
    /// The four lanes of four.
    fn quarters(self) -> [std::arch::x86_64::__m128; 4];
    /// `b − self · a`, rounded once.
    fn negated_multiply_add(self, a: Self, b: Self) -> Self;
    /// The nearest whole numbers, halves to the even one.
    fn rounded(self) -> Self;
    /// `self` in the first `count` elements, `other` in those behind.
    fn first(self, count: usize, other: Self) -> Self;
    /// Transposes the 4×4 blocks that the four lanes of four vectors form.
    fn transpose_in_lanes(x: [Self; 4]) -> [Self; 4];
    /// Lanes 0 and 2 of `self`, then of `other`.
    fn even_lanes(self, other: Self) -> Self;
    /// Lanes 1 and 3 of `self`, then of `other`.
    fn odd_lanes(self, other: Self) -> Self;
}

/// An instruction set for which the loops were compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isa {
    /// What every processor of the target has.
    Baseline,
    /// AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The widest that this machine has.
    #[inline]
    pub(crate) fn of_machine() -> Self {
        static FOUND: OnceLock<Isa> = OnceLock::new();
        let found = *FOUND.get_or_init(Self::detect);
        #[cfg(all(test, target_arch = "x86_64"))]
        if found == Self::Avx512 && NARROWED.load(Ordering::SeqCst) {
            return Self::Avx2;
        }
        found
    }

    fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let fma = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let wide = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            match (fma, wide) {
                (true, true) => return Self::Avx512,
                (true, false) => return Self::Avx2,
                _ => {}
            }
        }
        Self::Baseline
    }
}

/// Whether [`narrowed`] runs.
#[cfg(all(test, target_arch = "x86_64"))]
static NARROWED: AtomicBool = AtomicBool::new(false);

/// While it is held, no other test narrows the registers: for tests that ask for AVX-512 by name.
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `f` without AVX-512, on all threads: tests beside it then run without, too, which by its claim changes no bit of theirs. Called by
/// who is [`alone`].
#[cfg(all(test, target_arch = "x86_64"))]
pub(crate) fn narrowed<T>(f: impl Fn() -> T) -> T {
    struct Wide;
    impl Drop for Wide {
        fn drop(&mut self) {
            NARROWED.store(false, Ordering::SeqCst);
        }
    }
    NARROWED.store(true, Ordering::SeqCst);
    let _wide = Wide;
    f()
}

/// Defines a function of an element type whose body is compiled for every [`Isa`], with the vector type `$V` to compute on.
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$T:ident, $V:ident>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name<$T: $crate::ops::Real>($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn on<$T: $crate::ops::Real, $V: $crate::ops::simd::Vector<$T>>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2<$T: $crate::ops::Real>($($arg: $ty),*) $(-> $ret)? {
                on::<$T, $T::Double>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
            #[allow(clippy::too_many_arguments)]
            fn avx512<$T: $crate::ops::Real>($($arg: $ty),*) $(-> $ret)? {
                on::<$T, $T::Wide>($($arg),*)
            }

            match $crate::ops::simd::Isa::of_machine() {
                $crate::ops::simd::Isa::Baseline => on::<$T, $T>($($arg),*),
                // SAFETY: `Isa::of_machine` gives this value only where the processor has AVX2 and FMA.
                #[cfg(target_arch = "x86_64")]
                $crate::ops::simd::Isa::Avx2 => unsafe { avx2::<$T>($($arg),*) },
                // SAFETY: `Isa::of_machine` gives this value only where the processor has AVX2, FMA and AVX-512 F, BW, DQ, VL.
                #[cfg(target_arch = "x86_64")]
                $crate::ops::simd::Isa::Avx512 => unsafe { avx512::<$T>($($arg),*) },
            }
        }
    };
}
pub(crate) use vectorised;

/// Defines an unsafe function whose body computes on a [`Sixteen`] `$V`, compiled for AVX2 and for AVX-512. On a machine that has
/// neither it may not be called: [`Isa::of_machine`] is asked before.
#[cfg(target_arch = "x86_64")]
macro_rules! on_sixteen {
    ($(#[$meta:meta])* $vis:vis unsafe fn $name:ident<$V:ident>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis unsafe fn $name($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            unsafe fn on<$V: $crate::ops::simd::Sixteen>($($arg: $ty),*) $(-> $ret)? $body

            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx2($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller's promise.
                unsafe { on::<$crate::ops::simd::Pair>($($arg),*) }
            }

            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
            #[allow(clippy::too_many_arguments)]
            unsafe fn avx512($($arg: $ty),*) $(-> $ret)? {
                // SAFETY: the caller's promise.
                unsafe { on::<$crate::ops::simd::Zmm>($($arg),*) }
            }

            match $crate::ops::simd::Isa::of_machine() {
                // SAFETY: the caller's promise, and the machine has what the function was compiled for.
                $crate::ops::simd::Isa::Avx512 => unsafe { avx512($($arg),*) },
                // SAFETY: as above.
                $crate::ops::simd::Isa::Avx2 => unsafe { avx2($($arg),*) },
                $crate::ops::simd::Isa::Baseline => unreachable!("asked for without AVX2"),
            }
        }
    };
}
#[cfg(target_arch = "x86_64")]
pub(crate) use on_sixteen;

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
