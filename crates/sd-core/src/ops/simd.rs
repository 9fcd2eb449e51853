//! One source, several instruction sets: [`vectorised!`] compiles a function for baseline x86-64, AVX2 and AVX-512 and calls the
//! widest that the machine has. The loops are plain Rust over slices; what they call is `#[inline(always)]`.
//!
//! A product is fused with a sum exactly where the source says so ([`super::math::Math::fused`]) and lanes are cut by the
//! source, so every instruction set gives the same bits.

use std::sync::OnceLock;

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
        *FOUND.get_or_init(Self::detect)
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

/// Defines a generic function whose body is compiled for every [`Isa`].
macro_rules! vectorised {
    ($(#[$meta:meta])* $vis:vis fn $name:ident<$T:ident $(, const $N:ident: $NT:ty)?>($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$meta])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name<$T: $crate::ops::Real $(, const $N: $NT)?>($($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn plain<$T: $crate::ops::Real $(, const $N: $NT)?>($($arg: $ty),*) $(-> $ret)? $body

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2<$T: $crate::ops::Real $(, const $N: $NT)?>($($arg: $ty),*) $(-> $ret)? {
                plain::<$T $(, $N)?>($($arg),*)
            }

            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
            #[allow(clippy::too_many_arguments)]
            fn avx512<$T: $crate::ops::Real $(, const $N: $NT)?>($($arg: $ty),*) $(-> $ret)? {
                plain::<$T $(, $N)?>($($arg),*)
            }

            match $crate::ops::simd::Isa::of_machine() {
                $crate::ops::simd::Isa::Baseline => plain::<$T $(, $N)?>($($arg),*),
                // SAFETY: `Isa::of_machine` gives this value only where the processor has AVX2 and FMA.
                #[cfg(target_arch = "x86_64")]
                $crate::ops::simd::Isa::Avx2 => unsafe { avx2::<$T $(, $N)?>($($arg),*) },
                // SAFETY: `Isa::of_machine` gives this value only where the processor has AVX2, FMA and AVX-512 F, BW, DQ, VL.
                #[cfg(target_arch = "x86_64")]
                $crate::ops::simd::Isa::Avx512 => unsafe { avx512::<$T $(, $N)?>($($arg),*) },
            }
        }
    };
}
pub(crate) use vectorised;
