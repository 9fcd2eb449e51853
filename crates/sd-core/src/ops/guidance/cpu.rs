//! The guided step on the CPU: one pass over memory.

use super::DdimStep;
use crate::ops::Real;
use crate::ops::buffer::written;
use crate::ops::lanes::map;
use crate::ops::pieces::each;
use crate::ops::simd::vectorised;

/// Elements in a piece of work.
const PIECE: usize = 1 << 14;

/// x' of x, ε_u and ε_c, and of z where there is noise.
pub(super) fn step<T: Real>([x, uncond, cond]: [&[T]; 3], noise: Option<&[T]>, step: &DdimStep) -> Vec<T> {
    let [keep, turn, sigma] = step.numbers().map(T::from_f64);
    let numbers = [keep, turn, sigma, T::from_f64(step.guidance)];
    let write = |out: &mut [T]| {
        each(out, PIECE, |piece, out| {
            let start = piece * PIECE;
            let latents = [&x[start..], &uncond[start..], &cond[start..]];
            step_piece(out, latents, noise.map(|noise| &noise[start..]), numbers);
        });
    };
    // SAFETY: the pieces cover the buffer, and `step_piece` stores every element of its piece.
    unsafe { written(x.len(), write) }
}

vectorised! {
    fn step_piece<T, V>(out: &mut [T], latents: [&[T]; 3], noise: Option<&[T]>, numbers: [T; 4]) {
        let [x, uncond, cond] = latents;
        let [keep, turn, sigma, guidance] = numbers;
        let (keep, turn, sigma, guidance) = (V::splat(keep), V::splat(turn), V::splat(sigma), V::splat(guidance));
        match noise {
            None => map!(T, V, out, [x: x, u: uncond, c: cond], {
                keep.fused(x, turn * (c - u).fused(guidance, u))
            }),
            Some(noise) => map!(T, V, out, [x: x, u: uncond, c: cond, z: noise], {
                keep.fused(x, (c - u).fused(guidance, u).fused(turn, sigma * z))
            }),
        }
    }
}
