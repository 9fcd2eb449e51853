//! What the executor promises: CUDA's threads, memory and arithmetic.

use kernel_host::{Data, Error};
use sd_core::cuda::{Arg, Element, Matrix, Product, Program, blocks};

use crate::proof::{ORDERS, SOUND, host, once};

const FLOATS: [Element; 3] = [Element::F32, Element::F16, Element::Bf16];

/// Small integers of both signs: exact in every type, and so are their sums.
fn integers(count: usize) -> Vec<f64> {
    (0..count).map(|i| ((i * 7919 + 13) % 17) as f64 - 8.0).collect()
}

#[test]
fn the_kernels_of_a_file_are_those_it_says() {
    let Some(host) = host() else { return };
    assert_eq!(host.kernels(&SOUND).unwrap(), SOUND.kernels);
}

#[test]
fn rows_are_summed_through_barriers_shuffles_and_shared_memory() {
    let Some(host) = host() else { return };
    for element in FLOATS {
        for (rows, columns) in [(1, 1), (3, 31), (5, 257), (2, 1024)] {
            let mut program = Program::new("row sums");
            let x = program.input(element, rows * columns);
            let y = program.output(Element::F32, rows);
            let args = vec![Arg::Buffer(x), Arg::Buffer(y), Arg::I64(rows as i64), Arg::I64(columns as i64)];
            // Fewer blocks than rows: each block takes several.
            program.launch(
                &SOUND,
                &format!("row_sums_{}", element.suffix()),
                [2, 1, 1],
                [128, 1, 1],
                0,
                args,
            );
            let values = integers(rows * columns);
            let expected: Vec<f64> = values.chunks(columns).map(|row| row.iter().sum()).collect();
            for order in ORDERS {
                let got = host.run(&program, &[Data::from_f64(element, &values)], order).unwrap();
                assert_eq!(got[0].to_f64(), expected, "{rows} × {columns}, {element:?}, {order:?}");
            }
        }
    }
}

#[test]
fn blocks_and_threads_have_two_dimensions_and_tiles_their_tails() {
    let Some(host) = host() else { return };
    for element in FLOATS {
        let (rows, columns) = (33, 70);
        let mut program = Program::new("transpose");
        let x = program.input(element, rows * columns);
        let y = program.output(element, rows * columns);
        let args = vec![Arg::Buffer(x), Arg::Buffer(y), Arg::I64(rows as i64), Arg::I64(columns as i64)];
        program.launch(&SOUND, &format!("transpose_{}", element.suffix()), [3, 2, 1], [32, 32, 1], 0, args);
        let values = integers(rows * columns);
        let expected: Vec<f64> = (0..rows * columns).map(|i| values[i % rows * columns + i / rows]).collect();
        let got = host.run(&program, &[Data::from_f64(element, &values)], ORDERS[2]).unwrap();
        assert_eq!(got[0].to_f64(), expected);
    }
}

#[test]
fn the_tensor_cores_product_is_the_product_of_matrices() {
    let Some(host) = host() else { return };
    for element in [Element::F16, Element::Bf16] {
        let batch = 3;
        let mut program = Program::new("small product");
        let a = program.input(element, batch * 256);
        let b = program.input(element, batch * 128);
        let c = program.in_out(Element::F32, batch * 128);
        let args = [a, b, c].map(Arg::Buffer).to_vec();
        program.launch(
            &SOUND,
            &format!("small_product_{}", element.suffix()),
            [3, 1, 1],
            [32, 1, 1],
            0,
            args,
        );
        let (left, right, start) =
            (integers(batch * 256), integers(batch * 128 + 5), integers(batch * 128 + 9));
        let (right, start) = (&right[5..], &start[9..]);
        let at = |i: usize| {
            let (batch, row, column) = (i / 128, i / 8 % 16, i % 8);
            let products =
                (0..16).map(|k| left[batch * 256 + row * 16 + k] * right[batch * 128 + column * 16 + k]);
            start[i] + products.sum::<f64>()
        };
        let expected: Vec<f64> = (0..batch * 128).map(at).collect();
        let inputs = [
            Data::from_f64(element, &left),
            Data::from_f64(element, right),
            Data::from_f64(Element::F32, start),
        ];
        for order in ORDERS {
            assert_eq!(host.run(&program, &inputs, order).unwrap()[0].to_f64(), expected);
        }
    }
}

/// Every exponent with mantissas that round down, up and to even on either side, both signs; the special values.
fn awkward_floats() -> Vec<f32> {
    let mantissas =
        [0u32, 1, 0xfff, 0x1000, 0x1001, 0x2fff, 0x3000, 0x7fff, 0x8000, 0x8001, 0x1_8000, 0x7f_ffff];
    let positive = (0..=255u32).flat_map(|exponent| mantissas.map(|mantissa| exponent << 23 | mantissa));
    positive.flat_map(|bits| [f32::from_bits(bits), f32::from_bits(bits | 1 << 31)]).collect()
}

#[test]
fn sixteen_bit_types_round_as_the_crate_half_does() {
    let Some(host) = host() else { return };
    let values = awkward_floats();
    let given =
        Data::from_bytes(Element::F32, values.iter().flat_map(|x| x.to_le_bytes()).collect()).unwrap();
    for element in [Element::F16, Element::Bf16] {
        let mut program = Program::new("rounding");
        let x = program.input(Element::F32, values.len());
        let y = program.output(element, values.len());
        let args = vec![Arg::Buffer(x), Arg::Buffer(y), Arg::I64(values.len() as i64)];
        let kernel = format!("round_trip_{}", element.suffix());
        program.launch(&SOUND, &kernel, blocks(values.len(), 1024), [256, 1, 1], 0, args);
        let got = host.run(&program, std::slice::from_ref(&given), ORDERS[0]).unwrap();
        for (pair, value) in got[0].bytes().chunks(2).zip(&values) {
            let bits = u16::from_le_bytes([pair[0], pair[1]]);
            let (same, nan) = match element {
                Element::F16 => (half::f16::from_f32(*value).to_bits(), half::f16::from_bits(bits).is_nan()),
                _ => (half::bf16::from_f32(*value).to_bits(), half::bf16::from_bits(bits).is_nan()),
            };
            assert!(
                if value.is_nan() { nan } else { bits == same },
                "{value:e} became {bits:#x}, not {same:#x}"
            );
        }
    }
}

#[test]
fn every_half_widens_to_its_value() {
    let Some(host) = host() else { return };
    let all: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    let given = Data::from_bytes(Element::F16, all).unwrap();
    let mut program = Program::new("widening");
    let x = program.input(Element::F16, 1 << 16);
    let y = program.output(Element::F32, 1 << 16);
    once(&mut program, "widen_f16", 64, 0, vec![Arg::Buffer(x), Arg::Buffer(y), Arg::I64(1 << 16)]);
    let got = host.run(&program, std::slice::from_ref(&given), ORDERS[0]).unwrap();
    for (ours, theirs) in got[0].to_f64().iter().zip(given.to_f64()) {
        assert!(*ours == theirs || (ours.is_nan() && theirs.is_nan()), "{ours} is not {theirs}");
    }
}

#[test]
fn arguments_of_every_kind_arrive() {
    let Some(host) = host() else { return };
    let n = 33;
    let mut program = Program::new("gather");
    let tables = [0, 1, 2].map(|_| program.input(Element::F32, n));
    let out = program.output(Element::F32, n);
    let args = vec![
        Arg::Pointers(tables.to_vec()),
        Arg::Buffer(out),
        Arg::I32(3),
        Arg::I64(n as i64),
        Arg::U64(1 << 33),
        Arg::F32(0.5),
    ];
    once(&mut program, "gather", 8, 8 * 4, args);
    let inputs = [1.0, 2.0, 4.0].map(|x| Data::from_f64(Element::F32, &vec![x * 4096.0; n]));
    let got = host.run(&program, &inputs, ORDERS[1]).unwrap();
    assert_eq!(got[0].to_f64(), vec![2f64.powi(33) + 3.5 * 4096.0; n]);
}

#[test]
fn warp_collectives_move_what_they_say() {
    let Some(host) = host() else { return };
    let mut program = Program::new("warp tour");
    let out = program.output(Element::U32, 96);
    once(&mut program, "warp_tour", 32, 0, vec![Arg::Buffer(out)]);
    let lane_word = |lane: u32| {
        let down = if lane + 4 < 32 { lane + 4 } else { lane };
        let up = if lane % 8 >= 2 { lane - 2 } else { lane };
        ((5 * 64 + (lane ^ 3)) * 64 + down) * 64 + up
    };
    let ballot = (0..32).filter(|lane| lane % 3 == 0).fold(0u32, |word, lane| word | 1 << lane);
    let halves = |lane: u32| if lane < 8 { lane ^ 1 } else { (lane + 1).min(31) + 100 };
    let expected: Vec<u32> = (0..32).map(lane_word).chain([ballot; 32]).chain((0..32).map(halves)).collect();
    for order in ORDERS {
        assert_eq!(host.run(&program, &[], order).unwrap()[0], Data::from_u32(&expected));
    }
}

#[test]
fn matrices_are_loaded_as_they_lie_and_transposed() {
    let Some(host) = host() else { return };
    let mut program = Program::new("matrix tour");
    let x = program.input(Element::F16, 256);
    let out = program.output(Element::U32, 256);
    once(&mut program, "matrix_tour", 32, 0, vec![Arg::Buffer(x), Arg::Buffer(out)]);
    let words: Vec<u16> = (0..256).map(|i| i * 101 + 7).collect();
    let given =
        Data::from_bytes(Element::F16, words.iter().flat_map(|word| word.to_le_bytes()).collect()).unwrap();
    let element = |matrix: usize, row: usize, column: usize| match 8 * matrix + row {
        31 => 0,
        row => u32::from(words[8 * row + column]),
    };
    let got = |i: usize| {
        let (matrix, lane) = (i / 32 % 4, i % 32);
        let (line, pair) = (lane / 4, lane % 4 * 2);
        match i / 128 {
            0 => element(matrix, line, pair) | element(matrix, line, pair + 1) << 16,
            _ => element(matrix, pair, line) | element(matrix, pair + 1, line) << 16,
        }
    };
    let expected: Vec<u32> = (0..256).map(got).collect();
    for order in ORDERS {
        assert_eq!(
            host.run(&program, std::slice::from_ref(&given), order).unwrap()[0],
            Data::from_u32(&expected)
        );
    }
}

#[test]
fn bits_are_moved_as_the_device_moves_them() {
    let Some(host) = host() else { return };
    let mut program = Program::new("bit tour");
    let out = program.output(Element::U32, 5);
    once(&mut program, "bit_tour", 1, 0, vec![Arg::Buffer(out)]);
    let high = ((0xd251_1f53u64 * 0xffff_fff1) >> 32) as u32;
    let expected = Data::from_u32(&[high, 6u32.reverse_bits(), (-1.5f32).to_bits(), 3, 4]);
    assert_eq!(host.run(&program, &[], ORDERS[0]).unwrap()[0], expected);
}

#[test]
fn products_and_zeros_are_steps_too() {
    let Some(host) = host() else { return };
    let (m, n, k) = (3, 5, 4);
    let mut program = Program::new("product");
    let a = program.input(Element::F32, 2 * m * k);
    let b = program.input(Element::F32, n * k);
    let c = program.output(Element::F32, 2 * m * n);
    program.zero(c);
    let plain = |buffer, row_stride, batch_stride| Matrix {
        buffer,
        offset: 0,
        row_stride,
        batch_stride,
        transposed: false,
    };
    let product = Product {
        m,
        n,
        k,
        batch: 2,
        a: plain(a, k, m * k),
        b: Matrix { transposed: true, ..plain(b, k, 0) },
        c: plain(c, n, m * n),
        accumulate: true,
    };
    program.product(product);
    program.product(product);
    let (left, right) = (integers(2 * m * k), integers(n * k));
    let at = |i: usize| {
        let products = (0..k).map(|j| left[i / n * k + j] * right[i % n * k + j]);
        2.0 * products.sum::<f64>()
    };
    let inputs = [Data::from_f64(Element::F32, &left), Data::from_f64(Element::F32, &right)];
    let got = host.run(&program, &inputs, ORDERS[0]).unwrap();
    assert_eq!(got[0].to_f64(), (0..2 * m * n).map(at).collect::<Vec<_>>());
}

#[test]
fn a_product_out_of_bounds_is_found() {
    let Some(host) = host() else { return };
    let mut program = Program::new("product");
    let a = program.input(Element::F32, 4);
    let c = program.output(Element::F32, 4);
    let plain = |buffer| Matrix { buffer, offset: 1, row_stride: 2, batch_stride: 0, transposed: false };
    program.product(Product {
        m: 2,
        n: 2,
        k: 2,
        batch: 1,
        a: plain(a),
        b: plain(a),
        c: plain(c),
        accumulate: false,
    });
    let error = host.run(&program, &[Data::from_f64(Element::F32, &[0.0; 4])], ORDERS[0]).unwrap_err();
    assert!(error.to_string().contains("AddressSanitizer"), "{error}");
}

#[test]
fn a_buffer_nobody_writes_is_not_zero() {
    let Some(host) = host() else { return };
    let mut program = Program::new("nothing written");
    program.output(Element::Bf16, 3);
    assert!(host.run(&program, &[], ORDERS[0]).unwrap()[0].to_f64().iter().all(|x| x.is_nan()));
}

#[test]
fn inputs_that_do_not_fit_are_refused() {
    let Some(host) = host() else { return };
    let mut program = Program::new("fits");
    program.input(Element::F32, 3);
    let three = Data::from_f64(Element::F32, &[0.0; 3]);
    let cases = [
        (vec![], "buffer 0 is not given"),
        (vec![three.clone(), three.clone()], "1 inputs too many"),
        (vec![Data::from_f64(Element::F32, &[0.0; 2])], "buffer 0 holds 3 of F32, given 2 of F32"),
        (vec![Data::from_f64(Element::F16, &[0.0; 3])], "buffer 0 holds 3 of F32, given 3 of F16"),
    ];
    for (inputs, reason) in cases {
        match host.run(&program, &inputs, ORDERS[0]) {
            Err(Error::Given { reason: found, .. }) => assert_eq!(found, reason),
            other => panic!("{reason}: {other:?}"),
        }
    }
}

#[test]
fn a_file_that_does_not_compile_says_so() {
    let Some(host) = host() else { return };
    let broken = host.with_text("proof", format!("{}\nnonsense;\n", SOUND.text));
    let error = broken.kernels(&SOUND).unwrap_err().to_string();
    assert!(error.contains("proof.cu") && error.contains("nonsense"), "{error}");
}
