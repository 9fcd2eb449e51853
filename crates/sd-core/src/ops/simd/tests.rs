//! Every instruction set gives the same bits.

use super::{Isa, Vector, Zmm};
use crate::ops::lanes::{block_sums, largest, map, update};
use crate::ops::moments::moments;
use crate::rng::Rng;

fn values(n: usize) -> Vec<f32> {
    let mut rng = Rng::new(1, "simd", 0);
    let mut values: Vec<f32> = (0..n).map(|_| (rng.normal() * 5.0) as f32).collect();
    values[0] = f32::INFINITY;
    values[1] = -103.5;
    values[2] = 40.0;
    values
}

/// What the ops are made of, on one kind of vector, of slices with and without a remainder.
#[inline(always)]
fn everything<V: Vector<f32>>(x: &[f32]) -> Vec<u64> {
    let mut out = vec![0.0; x.len()];
    let mut bits: Vec<u64> = Vec::new();
    map!(f32, V, &mut out, [x: x], (-(x * x)).exp_of_negative());
    bits.extend(out.iter().map(|x| u64::from(x.to_bits())));
    map!(f32, V, &mut out, [x: x], x.fused(x.sigmoids().0, x.sigmoids().1));
    bits.extend(out.iter().map(|x| u64::from(x.to_bits())));
    map!(f32, V, &mut out, [x: x, y: x], x.normal_cdf_and_density().0 / (y * y + V::splat(1.0)));
    bits.extend(out.iter().map(|x| u64::from(x.to_bits())));
    update!(f32, V, old, &mut out, [x: x], old - x.normal_cdf_and_density().1);
    bits.extend(out.iter().map(|x| u64::from(x.to_bits())));
    for end in (3..=x.len()).step_by(7) {
        let row = &x[1..end];
        let sums = block_sums!(f32, V, [a: row, b: row], (a + b, a * b));
        let found = moments::<f32, V>(row);
        let top = largest::<f32, V>(row);
        bits.extend([sums.0, sums.1, top].map(|x| u64::from(x.to_bits())));
        bits.extend([found.mean, found.squares].map(f64::to_bits));
    }
    bits
}

#[target_feature(enable = "avx2,fma")]
fn on_avx2(x: &[f32]) -> Vec<u64> {
    everything::<f32>(x)
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn on_avx512(x: &[f32]) -> Vec<u64> {
    everything::<Zmm>(x)
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let x = values(1000);
    let baseline = everything::<f32>(&x);
    assert!(baseline.iter().collect::<std::collections::HashSet<_>>().len() > 1000);
    if Isa::of_machine() != Isa::Baseline {
        // SAFETY: the machine has more than the baseline, which is AVX2 and FMA at least.
        assert!(unsafe { on_avx2(&x) } == baseline, "AVX2 differs");
    }
    if Isa::of_machine() == Isa::Avx512 {
        // SAFETY: the machine has what the function needs.
        assert!(unsafe { on_avx512(&x) } == baseline, "AVX-512 differs");
    }
}
