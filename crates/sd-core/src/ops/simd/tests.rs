//! Every instruction set gives the same bits.

use super::{Isa, Pair, Sixteen, Vector, Zmm, alone};
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

/// Element by element, where the numbers are none, without bound, or a zero with a sign; every NaN as one.
#[inline(always)]
fn edges<V: Vector<f32>>(x: &[f32]) -> Vec<u64> {
    let turned: Vec<f32> = x.iter().rev().copied().collect();
    let mut out = vec![0.0; x.len()];
    let mut bits: Vec<u64> = Vec::new();
    let mut note = |out: &[f32]| {
        bits.extend(out.iter().map(|x| if x.is_nan() { u64::MAX } else { u64::from(x.to_bits()) }));
    };
    map!(f32, V, &mut out, [x: x, y: &turned], x.larger(y));
    note(&out);
    map!(f32, V, &mut out, [x: x], (-(x * x)).exp_of_negative());
    note(&out);
    map!(f32, V, &mut out, [x: x], x.sigmoids().0);
    note(&out);
    map!(f32, V, &mut out, [x: x], x.normal_cdf_and_density().0);
    note(&out);
    map!(f32, V, &mut out, [x: x], x.normal_cdf_and_density().1);
    note(&out);
    bits
}

/// Edges in every lane, beside one another in both orders.
fn edge_values() -> Vec<f32> {
    let edges = [f32::NAN, -0.0, f32::NEG_INFINITY, 0.0, 1e-40, f32::INFINITY, -103.9, f32::MIN, -1e-40];
    (0..edges.len() * 19).map(|i| edges[i * i % edges.len()]).chain(edges).collect()
}

#[target_feature(enable = "avx2,fma")]
fn on_avx2(x: &[f32]) -> Vec<u64> {
    [everything::<f32>(x), everything::<Pair>(x)].concat()
}

#[target_feature(enable = "avx2,fma")]
fn edges_on_avx2(x: &[f32]) -> Vec<u64> {
    [edges::<f32>(x), edges::<Pair>(x)].concat()
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn on_avx512(x: &[f32]) -> [Vec<u64>; 2] {
    [everything::<Zmm>(x), edges::<Zmm>(&edge_values())]
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let _alone = alone();
    let x = values(1000);
    let (baseline, at_edges) = (everything::<f32>(&x), edges::<f32>(&edge_values()));
    assert!(baseline.iter().collect::<std::collections::HashSet<_>>().len() > 1000);
    if Isa::of_machine() != Isa::Baseline {
        // SAFETY: the machine has more than the baseline, which is AVX2 and FMA at least.
        let (ours, edges) = unsafe { (on_avx2(&x), edges_on_avx2(&edge_values())) };
        assert!(ours == baseline.repeat(2), "AVX2 differs");
        assert!(edges == at_edges.repeat(2), "AVX2 differs at edges");
    }
    if Isa::of_machine() == Isa::Avx512 {
        // SAFETY: the machine has what the function needs.
        assert!(unsafe { on_avx512(&x) } == [baseline, at_edges], "AVX-512 differs");
    }
}

/// What [`Sixteen`] adds to arithmetic, on vectors that hold 0, 1, …, each method's result after the other.
#[inline(always)]
unsafe fn methods<V: Sixteen>(numbers: &[f32; 80]) -> Vec<[f32; 16]> {
    let at = numbers.as_ptr();
    let mut all = Vec::new();
    let mut note = |x: V| {
        let mut lanes = [0.0; 16];
        // SAFETY: sixteen numbers into an array of sixteen.
        unsafe { x.write(lanes.as_mut_ptr()) };
        all.push(lanes);
    };
    // SAFETY: everything read lies in the eighty numbers.
    unsafe {
        let rows = [0, 16, 32, 48].map(|start| V::read(at.add(start)));
        note(V::read_first(at.add(1), 0));
        note(V::read_first(at.add(1), 5));
        note(V::read_first(at.add(1), 13));
        note(V::read_first(at.add(1), 16));
        note(V::gather(at, &std::array::from_fn(|lane| (5 * lane as i32) % 17)));
        note(V::octets(at.add(3), at.add(20)));
        note(V::quads([3, 40, 1, 70].map(|start| at.add(start))));
        note(rows[1].negated_multiply_add(rows[0], rows[2]));
        note((rows[0] * V::splat(0.5)).rounded());
        note((rows[0] - V::splat(8.5)).rounded());
        for count in [0, 3, 8, 11, 16] {
            note(rows[0].first(count, rows[1]));
        }
        V::transpose_in_lanes(rows).into_iter().for_each(&mut note);
        note(rows[0].even_lanes(rows[1]));
        note(rows[0].odd_lanes(rows[1]));
        for count in [0, 6, 9, 16] {
            let mut part = [-1.0; 16];
            rows[0].write_first(part.as_mut_ptr(), count);
            note(V::read(part.as_ptr()));
        }
        let [a, b, c, d] = rows[0].quarters().map(|quarter| {
            let mut four = [0.0f32; 4];
            std::arch::x86_64::_mm_storeu_ps(four.as_mut_ptr(), quarter);
            four
        });
        note(V::read([a, b, c, d].concat().as_ptr()));
    }
    all
}

on_sixteen! {
    /// # Safety
    /// The machine has AVX2.
    unsafe fn methods_here<V>(numbers: &[f32; 80]) -> Vec<[f32; 16]> {
        // SAFETY: the caller's promise.
        unsafe { methods::<V>(numbers) }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn methods_of_pairs(numbers: &[f32; 80]) -> Vec<[f32; 16]> {
    // SAFETY: the registers of a `Pair` are AVX2's.
    unsafe { methods::<Pair>(numbers) }
}

/// The same in plain words.
fn methods_in_words(n: &[f32; 80]) -> Vec<[f32; 16]> {
    let lanes = |f: &dyn Fn(usize) -> f32| std::array::from_fn::<f32, 16, _>(f);
    let starting = |count: usize| lanes(&|i| if i < count { n[1 + i] } else { 0.0 });
    let mut all = vec![starting(0), starting(5), starting(13), starting(16)];
    all.push(lanes(&|i| n[(5 * i) % 17]));
    all.push(lanes(&|i| if i < 8 { n[3 + i] } else { n[20 + i - 8] }));
    all.push(lanes(&|i| n[[3, 40, 1, 70][i / 4] + i % 4]));
    all.push(lanes(&|i| n[32 + i] - n[16 + i] * n[i]));
    all.push(lanes(&|i| (n[i] * 0.5).round_ties_even()));
    all.push(lanes(&|i| (n[i] - 8.5).round_ties_even()));
    for count in [0, 3, 8, 11, 16] {
        all.push(lanes(&|i| if i < count { n[i] } else { n[16 + i] }));
    }
    for column in 0..4 {
        all.push(lanes(&|i| n[16 * (i % 4) + i / 4 * 4 + column]));
    }
    for first in [0, 4] {
        all.push(lanes(&|i| n[16 * (i / 8) + first + 8 * (i / 4 % 2) + i % 4]));
    }
    for count in [0, 6, 9, 16] {
        all.push(lanes(&|i| if i < count { n[i] } else { -1.0 }));
    }
    all.push(lanes(&|i| n[i]));
    all
}

#[test]
fn sixteen_lanes_do_what_their_names_say_on_every_instruction_set() {
    let _alone = alone();
    let numbers: [f32; 80] = std::array::from_fn(|i| i as f32);
    let expected = methods_in_words(&numbers);
    if Isa::of_machine() != Isa::Baseline {
        // SAFETY: the machine has AVX2 at least.
        let (here, pairs) = unsafe { (methods_here(&numbers), methods_of_pairs(&numbers)) };
        assert_eq!(here, expected);
        assert_eq!(pairs, expected);
    }
}
