//! Attention against its definition, finite differences, every layout, every path and every thread count.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};

use super::{Dims, attention, attention_map, attention_with_map, cpu};
use crate::ops::testing::{check_gradient, check_registers, distance, layouts, normal};

/// (batch, heads, queries, keys, head size, causal): cut tiles and panels, one query, one key, several blocks of keys and of queries and
/// several parts of these, head sizes that fill one register, two, and two and a half.
const CASES: [(usize, usize, usize, usize, usize, bool); 14] = [
    (1, 1, 1, 1, 1, false),
    (1, 2, 3, 5, 8, false),
    (2, 1, 31, 33, 20, false),
    (1, 1, 7, 7, 16, true),
    (1, 2, 40, 40, 40, true),
    (1, 1, 130, 257, 40, false),
    (1, 1, 257, 131, 80, true),
    (1, 1, 5, 300, 64, true),
    (1, 1, 15, 20, 160, false),
    (1, 1, 113, 129, 17, false),
    (2, 3, 77, 77, 64, true),
    (1, 1, 14, 128, 33, false),
    (1, 1, 600, 70, 24, true),
    (1, 1, 300, 2000, 3, false),
];

struct Case {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    dy: Tensor,
    scale: f64,
    causal: bool,
}

impl Case {
    fn new((b, h, queries, keys, d, causal): (usize, usize, usize, usize, usize, bool)) -> Self {
        let (q, k, v) =
            (normal(1, &[b, h, queries, d]), normal(2, &[b, h, keys, d]), normal(3, &[b, h, keys, d]));
        Self { q, k, v, dy: normal(4, &[b, h, queries, d]), scale: 1.5 / (d as f64).sqrt(), causal }
    }

    fn dims(&self) -> Dims {
        Dims::new(&self.q, &self.k, &self.v, self.scale, self.causal).unwrap()
    }

    /// y, dq, dk, dv in a dtype.
    fn passes(&self, dtype: DType) -> [Tensor; 4] {
        let [q, k, v] =
            [&self.q, &self.k, &self.v].map(|x| Var::from_tensor(&x.to_dtype(dtype).unwrap()).unwrap());
        let y = attention(&q, &k, &v, self.scale, self.causal).unwrap();
        let loss = (&y * self.dy.to_dtype(dtype).unwrap()).unwrap().sum_all().unwrap();
        let gradients = loss.backward().unwrap();
        let [dq, dk, dv] = [&q, &k, &v].map(|var| gradients.get(var).unwrap().clone());
        [y.detach(), dq, dk, dv]
    }

    fn reference(&self) -> [Tensor; 4] {
        let flat = [&self.q, &self.k, &self.v, &self.dy].map(flat);
        let values = cpu::reference(&self.dims(), [&flat[0], &flat[1], &flat[2], &flat[3]]);
        let shapes = [&self.q, &self.q, &self.k, &self.v];
        let mut shapes = shapes.into_iter();
        values.map(|values| Tensor::from_vec(values, shapes.next().unwrap().dims(), &Device::Cpu).unwrap())
    }
}

fn flat(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn values_and_gradients_are_those_of_the_definition() {
    for sizes in CASES {
        let case = Case::new(sizes);
        let exact = case.reference();
        for (dtype, tolerance) in [(DType::F64, 1e-11), (DType::F32, 2e-5)] {
            for (which, (ours, exact)) in case.passes(dtype).iter().zip(&exact).enumerate() {
                let error = distance(ours, exact);
                assert!(error <= tolerance, "{sizes:?} {dtype:?}, tensor {which}: {error:e}");
            }
        }
    }
}

/// What processors without AVX2 take for `f32`, called by name since the machines of the tests have it.
#[test]
fn the_general_way_is_near_the_definition_in_single_precision() {
    for sizes in CASES {
        let case = Case::new(sizes);
        let dims = case.dims();
        let [q, k, v, dy] = [&case.q, &case.k, &case.v, &case.dy]
            .map(|x| flat(x).iter().map(|x| *x as f32).collect::<Vec<_>>());
        let (y, lse) = cpu::forward(&dims, &q, &k, &v);
        let saved = cpu::Saved { q: &q, k: &k, v: &v, y: &y, dy: &dy, lse: &lse };
        let [dq, dk, dv] = cpu::backward(&dims, &saved);
        for (which, (ours, exact)) in [&y, &dq, &dk, &dv].into_iter().zip(case.reference()).enumerate() {
            let ours = Tensor::new(ours.as_slice(), &Device::Cpu).unwrap().reshape(exact.dims()).unwrap();
            let error = distance(&ours, &exact);
            assert!(error <= 2e-5, "{sizes:?}, tensor {which}: {error:e}");
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for sizes in [(1, 2, 3, 5, 4, false), (1, 1, 6, 6, 3, true), (2, 1, 4, 2, 3, true)] {
        let Case { q, k, v, scale, causal, .. } = Case::new(sizes);
        check_gradient(&[q, k, v], |i| attention(&i[0], &i[1], &i[2], scale, causal));
    }
}

#[test]
fn one_tensor_as_query_key_and_value_gets_all_its_gradients() {
    let x = normal(5, &[1, 2, 5, 4]);
    check_gradient(std::slice::from_ref(&x), |i| attention(&i[0], &i[0], &i[0], 0.5, false)? + &i[0]);
    check_gradient(&[x], |i| &i[0] + attention(&i[0], &i[0], &i[0], 0.5, true)?);
}

#[test]
fn any_layout_gives_the_values_of_the_contiguous_one() {
    let Case { q, k, v, scale, .. } = Case::new((2, 3, 9, 11, 6, false));
    let expected = attention(&q, &k, &v, scale, false).unwrap();
    for (q, (k, v)) in layouts(&q).iter().zip(layouts(&k).iter().zip(layouts(&v))) {
        assert_eq!(distance(&attention(q, k, &v, scale, false).unwrap(), &expected), 0.0);
    }
}

#[test]
fn both_paths_agree_and_the_tap_may_change_the_map() {
    for causal in [false, true] {
        let Case { q, k, v, scale, .. } = Case::new((2, 2, 9, 11, 6, causal));
        let fused = attention(&q, &k, &v, scale, causal).unwrap();
        let mut sums = None;
        let through = attention_with_map(&q, &k, &v, scale, causal, &mut |map| {
            sums = Some(map.sum(3)?);
            Ok(map)
        });
        assert!(distance(&through.unwrap(), &fused) <= 1e-12);
        assert!(
            distance(&sums.unwrap(), &Tensor::ones((2, 2, 9), DType::F64, &Device::Cpu).unwrap()) <= 1e-12
        );
        let nothing = attention_with_map(&q, &k, &v, scale, causal, &mut |map| map.zeros_like()).unwrap();
        assert_eq!(distance(&nothing, &q.zeros_like().unwrap()), 0.0);
    }
}

#[test]
fn the_path_through_the_map_has_the_gradient_of_finite_differences() {
    let Case { q, k, v, scale, .. } = Case::new((1, 2, 4, 5, 3, true));
    check_gradient(&[q, k, v], |i| {
        let mut square = |map: Tensor| &map * &map;
        let squared = attention_with_map(&i[0], &i[1], &i[2], scale, true, &mut square)?;
        squared + attention_with_map(&i[0], &i[1], &i[2], scale, true, &mut Ok)?
    });
    let map = attention_map(&normal(1, &[1, 1, 2, 3]), &normal(2, &[1, 1, 4, 3]), 1.0, false).unwrap();
    assert_eq!(map.dims(), [1, 1, 2, 4]);
}

#[test]
fn every_thread_count_gives_the_same_bits() {
    // Heads for everybody, and one head that is shared.
    for (sizes, dtype) in [
        ((2, 2, 130, 140, 24, true), DType::F32),
        ((1, 1, 700, 140, 24, false), DType::F32),
        ((1, 1, 600, 3000, 4, true), DType::F64),
    ] {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let passes = pool.install(|| Case::new(sizes).passes(dtype));
            passes.map(|tensor| flat(&tensor.to_dtype(DType::F64).unwrap()))
        };
        assert!(run(1) == run(3), "{sizes:?}");
    }
}

#[test]
fn both_kinds_of_registers_give_the_same_bits() {
    for sizes in CASES {
        // The larger scale brings weights down to subnormal numbers and zero.
        for sharper in [1.0, 60.0] {
            let mut case = Case::new(sizes);
            case.scale *= sharper;
            check_registers(|| {
                case.passes(DType::F32).map(|x| x.flatten_all().unwrap().to_vec1::<f32>().unwrap())
            });
        }
    }
}

#[test]
fn large_logits_do_not_overflow_and_nan_does_not_hide() {
    let case = Case::new((1, 1, 40, 70, 16, false));
    let single = |x: &Tensor, factor: f64| (x * factor).unwrap().to_dtype(DType::F32).unwrap();
    let sharp =
        attention(&single(&case.q, 300.0), &single(&case.k, 300.0), &single(&case.v, 1.0), 1.0, false)
            .unwrap();
    assert!(flat(&sharp.to_dtype(DType::F64).unwrap()).iter().all(|y| y.is_finite()));
    let nan = attention(&single(&case.q, f64::NAN), &single(&case.k, 1.0), &single(&case.v, 1.0), 1.0, false)
        .unwrap();
    assert!(flat(&nan.to_dtype(DType::F64).unwrap()).iter().all(|y| y.is_nan()));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let (q, k) = (normal(0, &[1, 2, 3, 4]), normal(0, &[1, 2, 5, 4]));
    let message =
        |q: &Tensor, k: &Tensor, v: &Tensor, scale| attention(q, k, v, scale, false).unwrap_err().to_string();
    assert!(message(&q, &normal(0, &[1, 3, 5, 4]), &k, 1.0).contains("needs k and v (1,2,Tk,4)"));
    assert!(message(&q, &k, &normal(0, &[1, 2, 6, 4]), 1.0).contains("[1, 2, 6, 4]"));
    assert!(message(&normal(0, &[2, 3, 4]), &k, &k, 1.0).contains("(B,H,Tq,D)"));
    assert!(message(&q, &k, &k, f64::NAN).contains("finite"));
    let single = k.to_dtype(DType::F32).unwrap();
    assert!(message(&q, &single, &single, 1.0).contains("one dtype"));
    let empty = Tensor::zeros((1, 2, 0, 4), DType::F64, &Device::Cpu).unwrap();
    assert!(message(&q, &empty, &empty, 1.0).contains("no element"));
    let tap =
        attention_with_map(&q, &k, &k, 1.0, false, &mut |map| map.narrow(3, 0, 2)).unwrap_err().to_string();
    assert!(tap.contains("the tap"), "{tap}");
}
