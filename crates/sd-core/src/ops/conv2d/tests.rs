//! Convolution against its definition, finite differences, every layout and every thread count.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};

use super::{Geometry, conv2d, cpu};
use crate::ops::testing::{check_gradient, check_registers, distance, layouts, normal};

/// (batch, c_in, h, w, c_out, kernel, stride, padding): odd sizes, no padding, wide padding, 1×1, several groups and bands, one
/// image whose products are shared.
const CASES: [[usize; 8]; 11] = [
    [2, 3, 5, 7, 4, 3, 1, 1],
    [1, 1, 1, 1, 1, 1, 1, 0],
    [3, 2, 6, 5, 3, 3, 2, 1],
    [2, 4, 8, 8, 2, 1, 1, 0],
    [2, 3, 9, 4, 2, 1, 2, 0],
    [5, 2, 4, 4, 3, 3, 1, 0],
    [2, 2, 5, 5, 2, 2, 3, 2],
    [40, 3, 4, 4, 5, 3, 1, 1],
    [1, 2, 30, 31, 3, 3, 1, 1],
    [1, 70, 33, 20, 130, 1, 1, 0],
    [1, 9, 41, 57, 100, 3, 2, 0],
];

fn tensors(case: usize) -> (Geometry, Tensor, Tensor, Tensor) {
    let [n, c, h, w, o, k, s, p] = CASES[case];
    let (x, kernel) = (normal(1, &[n, c, h, w]), normal(2, &[o, c, k, k]));
    let geometry = Geometry::new(x.dims(), kernel.dims(), s, p).unwrap();
    let dy = normal(3, &[n, o, geometry.out_h(), geometry.out_w()]);
    (geometry, x, kernel, dy)
}

fn flat(x: &Tensor) -> Vec<f64> {
    x.flatten_all().unwrap().to_vec1().unwrap()
}

#[test]
fn values_and_gradients_are_those_of_the_definition() {
    for case in 0..CASES.len() {
        let (g, x, w, dy) = tensors(case);
        let (y, dx, dw) = cpu::reference(&g, &flat(&x), &flat(&w), &flat(&dy));
        let (vx, vw) = (Var::from_tensor(&x).unwrap(), Var::from_tensor(&w).unwrap());
        let ours = conv2d(&vx, &vw, None, g.stride, g.padding).unwrap();
        let gradients = (&ours * &dy).unwrap().sum_all().unwrap().backward().unwrap();
        let pairs = [(&ours, y), (gradients.get(&vx).unwrap(), dx), (gradients.get(&vw).unwrap(), dw)];
        for (which, (ours, reference)) in pairs.into_iter().enumerate() {
            let reference = Tensor::from_vec(reference, ours.dims(), ours.device()).unwrap();
            let error = distance(ours, &reference);
            assert!(error <= 1e-11, "case {case}, tensor {which}: {error:e}");
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    for case in 0..7 {
        let (g, x, w, _) = tensors(case);
        check_gradient(&[x, w], |inputs| conv2d(&inputs[0], &inputs[1], None, g.stride, g.padding));
    }
}

#[test]
fn a_tensor_used_twice_gets_both_gradients_in_either_order() {
    let (x, w) = (normal(4, &[2, 3, 4, 4]), normal(5, &[3, 3, 3, 3]));
    check_gradient(&[x.clone(), w.clone()], |i| conv2d(&i[0], &i[1], None, 1, 1)? + &i[0]);
    check_gradient(&[x, w], |i| &i[0] + conv2d(&i[0], &i[1], None, 1, 1)?);
}

#[test]
fn any_layout_gives_the_values_of_the_contiguous_one() {
    let (x, w) = (normal(6, &[3, 4, 6, 3]), normal(7, &[4, 4, 3, 3]));
    let expected = conv2d(&x, &w, None, 1, 1).unwrap();
    for x in layouts(&x) {
        for w in layouts(&w) {
            assert_eq!(distance(&conv2d(&x, &w, None, 1, 1).unwrap(), &expected), 0.0);
        }
    }
}

#[test]
fn single_precision_is_near_double() {
    let (g, x, w, _) = tensors(8);
    let single = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
    let exact = conv2d(&x, &w, None, g.stride, g.padding).unwrap();
    let error = distance(&conv2d(&single(&x), &single(&w), None, g.stride, g.padding).unwrap(), &exact);
    assert!(error <= 2e-5, "{error:e}");
}

#[test]
fn every_thread_count_gives_the_same_bits() {
    for case in [7, 9, 10] {
        let (g, x, w, dy) = tensors(case);
        let [x, w, dy] = [&x, &w, &dy].map(flat);
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                let gradients = [cpu::weight_grad(&g, &x, &dy), cpu::input_grad(&g, &dy, &w)];
                (gradients, cpu::forward(&g, &x, &w, None))
            })
        };
        assert!(run(1) == run(3), "case {case}");
    }
}

/// (batch, c_in, h, w, c_out, padding) of 3×3 convolutions of stride 1: whole and cut tiles, panels that are not full, a panel of
/// inputs that fills one register, more tiles than a block, more weights than are transformed at a time.
const WINOGRAD: [[usize; 6]; 11] = [
    [1, 1, 4, 4, 1, 1],
    [2, 3, 7, 9, 5, 1],
    [3, 20, 8, 5, 17, 0],
    [2, 33, 12, 13, 30, 2],
    [5, 64, 16, 16, 40, 1],
    [1, 70, 33, 40, 16, 1],
    [9, 16, 4, 4, 48, 1],
    [33, 15, 4, 4, 14, 1],
    [700, 8, 16, 16, 9, 1],
    [1, 512, 4, 4, 300, 1],
    // Five tiles in a line: blocks of tiles begin inside an image, and inside a line of it.
    [60, 64, 20, 20, 16, 1],
];

/// y, dx, dw and dbias in the dtype of the operands.
fn passes(x: &Tensor, w: &Tensor, bias: &Tensor, dy: &Tensor, padding: usize) -> [Tensor; 4] {
    let vars = [x, w, bias].map(|tensor| Var::from_tensor(tensor).unwrap());
    let y = conv2d(&vars[0], &vars[1], Some(&vars[2]), 1, padding).unwrap();
    let gradients = (&y * dy).unwrap().sum_all().unwrap().backward().unwrap();
    let [dx, dw, db] = vars.map(|var| gradients.get(&var).unwrap().clone());
    [y.detach(), dx, dw, db]
}

#[test]
fn single_precision_stays_near_the_direct_sum_in_double() {
    for case @ [n, c, h, w, o, p] in WINOGRAD {
        let (x, kernel, bias) = (normal(1, &[n, c, h, w]), normal(2, &[o, c, 3, 3]), normal(3, &[o]));
        let dy = normal(4, &[n, o, h + 2 * p - 2, w + 2 * p - 2]);
        let single = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
        let ours = passes(&single(&x), &single(&kernel), &single(&bias), &single(&dy), p);
        let exact = passes(&x, &kernel, &bias, &dy, p);
        for (which, (ours, exact)) in ours.iter().zip(&exact).enumerate() {
            let scale = exact.sqr().unwrap().mean_all().unwrap().to_scalar::<f64>().unwrap().sqrt();
            let error = distance(ours, exact) / scale;
            // Rounding grows as the root of the number of terms.
            let terms = [9 * c, 9 * o, dy.elem_count() / o, dy.elem_count() / o][which] as f64;
            assert!(
                error <= 1.5e-5 + 1e-7 * terms.sqrt(),
                "case {case:?}, tensor {which}: {error:e} of the root mean square"
            );
        }
    }
}

/// The figures that the module's documentation states.
#[test]
fn winograd_rounds_little_more_than_the_direct_sum() {
    let (x, w) = (normal(1, &[2, 64, 32, 32]), normal(2, &[64, 64, 3, 3]));
    let g = Geometry::new(x.dims(), w.dims(), 1, 1).unwrap();
    let single = |t: &Tensor| flat(t).into_iter().map(|value| value as f32).collect::<Vec<f32>>();
    let (x, w) = (single(&x), single(&w));
    let double = |values: &[f32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<f64>>();
    let exact = cpu::forward(&g, &double(&x), &double(&w), None);
    let size = exact.iter().map(|y| y * y).sum::<f64>();
    let error = |y: Vec<f32>| {
        let gaps = y.iter().zip(&exact).map(|(y, exact)| (f64::from(*y) - exact).powi(2));
        (gaps.sum::<f64>() / size).sqrt()
    };
    let (direct, fast) = (error(cpu::forward(&g, &x, &w, None)), error(cpu::forward_f32(&g, &x, &w, None)));
    assert!(direct <= 4e-7, "direct {direct:e}");
    assert!(fast <= 1e-6, "fast {fast:e}, direct {direct:e}");
}

/// An image of constants is the case where an edge that reads past the border, or a patch that is not zero, shows at once.
#[test]
fn borders_are_zero() {
    let (x, w) = (
        Tensor::ones((3, 16, 9, 6), DType::F32, &Device::Cpu).unwrap(),
        Tensor::ones((16, 16, 3, 3), DType::F32, &Device::Cpu).unwrap(),
    );
    let y = conv2d(&x, &w, None, 1, 1).unwrap();
    let taps = |i: usize, size: usize| if i == 0 || i == size - 1 { 2.0f64 } else { 3.0 };
    let expected: Vec<f64> =
        (0..9).flat_map(|i| (0..6).map(move |j| 16.0 * taps(i, 9) * taps(j, 6))).collect();
    let expected =
        Tensor::from_vec(expected, (1, 1, 9, 6), &Device::Cpu).unwrap().broadcast_as((3, 16, 9, 6)).unwrap();
    let error = distance(&y, &expected);
    assert!(error <= 1e-3, "{error:e}");
}

#[test]
fn an_infinite_pixel_stays_in_its_image() {
    // The transforms mix the pixels of a tile, so infinities spread inside it; they must not reach another image through shared panels.
    let mut values = vec![0.5f32; 2 * 16 * 4 * 4];
    values[5] = f32::INFINITY;
    let x = Tensor::from_vec(values, (2, 16, 4, 4), &Device::Cpu).unwrap();
    let y = conv2d(&x, &Tensor::ones((16, 16, 3, 3), DType::F32, &Device::Cpu).unwrap(), None, 1, 1).unwrap();
    let other = y.get(1).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
    assert!(other.iter().all(|value| value.is_finite()));
}

/// All passes of a case in single precision.
fn single_passes([n, c, h, w, o, p]: [usize; 6]) -> [Vec<f32>; 4] {
    let single = |seed, shape: &[usize]| normal(seed, shape).to_dtype(DType::F32).unwrap();
    let (x, kernel, bias) = (single(1, &[n, c, h, w]), single(2, &[o, c, 3, 3]), single(3, &[o]));
    let dy = single(4, &[n, o, h + 2 * p - 2, w + 2 * p - 2]);
    passes(&x, &kernel, &bias, &dy, p).map(|tensor| tensor.flatten_all().unwrap().to_vec1().unwrap())
}

#[test]
fn every_thread_count_gives_the_same_bits_in_single_precision() {
    // Products that one thread does alone, and products that are shared.
    for case in [WINOGRAD[3], WINOGRAD[9]] {
        let run = |threads: usize| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| single_passes(case))
        };
        assert!(run(1) == run(3), "case {case:?}");
    }
}

#[test]
fn both_kinds_of_registers_give_the_same_bits() {
    for case in WINOGRAD {
        check_registers(|| single_passes(case));
    }
}

#[test]
fn the_bias_has_a_gradient() {
    let tensors = [normal(1, &[2, 3, 5, 4]), normal(2, &[4, 3, 3, 3]), normal(3, &[4])];
    check_gradient(&tensors, |i| conv2d(&i[0], &i[1], Some(&i[2]), 2, 1));
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let x = normal(0, &[1, 3, 4, 4]);
    let message = |x: &Tensor, w: &Tensor, stride| conv2d(x, w, None, stride, 0).unwrap_err().to_string();
    assert!(message(&x, &normal(0, &[2, 4, 3, 3]), 1).contains("3 channels"));
    assert!(message(&x, &normal(0, &[2, 3, 5, 5]), 1).contains("larger"));
    assert!(message(&x, &normal(0, &[2, 3, 3, 3]), 0).contains("stride 0"));
    assert!(message(&normal(0, &[3, 4, 4]), &normal(0, &[2, 3, 3, 3]), 1).contains("(N,C,H,W)"));
    let empty = Tensor::zeros((0, 3, 4, 4), DType::F64, x.device()).unwrap();
    assert!(message(&empty, &normal(0, &[2, 3, 3, 3]), 1).contains("no element"));
    let single = normal(0, &[2, 3, 3, 3]).to_dtype(DType::F32).unwrap();
    assert!(message(&x, &single, 1).contains("one dtype"));
    let bias = conv2d(&x, &normal(0, &[2, 3, 3, 3]), Some(&normal(0, &[3])), 1, 0).unwrap_err().to_string();
    assert!(bias.contains("a bias (2), found [3]"), "{bias}");
    // Views of one element: nothing of this size is allocated.
    let huge =
        |shape: &[usize]| Tensor::zeros(1, DType::F64, &Device::Cpu).unwrap().broadcast_as(shape).unwrap();
    assert!(message(&huge(&[2, 1, 1 << 15, 1 << 15]), &huge(&[2, 1, 1, 1]), 1).contains("2³¹"));
}
