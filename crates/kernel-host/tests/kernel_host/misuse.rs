//! What the executor must find: each program breaks one rule, and the message says which and where.

use kernel_host::Data;
use sd_core::cuda::{Arg, Element, Program};

use crate::proof::{SOUND, faults, host, once};

/// A program with one output of `len` floats that `kernel` takes first, then `more`.
fn writing(kernel: &str, threads: u32, shared: u32, len: usize, more: &[Arg]) -> Program {
    let mut program = Program::new(kernel);
    let y = program.output(Element::F32, len);
    let args = [Arg::Buffer(y)].into_iter().chain(more.iter().cloned()).collect();
    once(&mut program, kernel, threads, shared, args);
    program
}

#[track_caller]
fn finds(program: &Program, inputs: &[Data], needles: &[&str]) {
    let Some(host) = host() else { return };
    for message in faults(&host, program, inputs) {
        for needle in needles.iter().chain(&[&*program.name]) {
            assert!(message.contains(needle), "`{needle}` is not in: {message}");
        }
    }
}

#[test]
fn accesses_outside_a_buffer() {
    let past = writing("writes_past_the_end", 1, 0, 7, &[Arg::I64(7)]);
    finds(&past, &[], &["AddressSanitizer", "misuse.cu:4", "thread (0, 0, 0)"]);
    // Farther out than any red zone of the allocator's own.
    let far = writing("writes_past_the_end", 1, 0, 7, &[Arg::I64(1000)]);
    finds(&far, &[], &["AddressSanitizer"]);
    let mut before = Program::new("reads_before_the_start");
    let x = before.input(Element::F32, 7);
    let y = before.output(Element::F32, 1);
    once(&mut before, "reads_before_the_start", 2, 0, vec![Arg::Buffer(x), Arg::Buffer(y)]);
    finds(&before, &[Data::from_f64(Element::F32, &[0.0; 7])], &["AddressSanitizer"]);
}

#[test]
fn writes_to_an_input() {
    let mut program = Program::new("writes_an_input");
    let x = program.input(Element::F32, 2);
    let y = program.output(Element::F32, 1);
    once(&mut program, "writes_an_input", 1, 0, vec![Arg::Buffer(x), Arg::Buffer(y)]);
    finds(&program, &[Data::from_f64(Element::F32, &[0.0; 2])], &["changed buffer 0, an input"]);
}

#[test]
fn accesses_outside_shared_memory() {
    finds(&writing("overruns_shared", 9, 0, 9, &[]), &[], &["AddressSanitizer", "thread (8, 0, 0)"]);
    finds(&writing("overruns_dynamic", 9, 8 * 4, 9, &[]), &[], &["AddressSanitizer", "thread (8, 0, 0)"]);
    finds(
        &writing("overruns_dynamic", 9, 100 << 10, 9, &[]),
        &[],
        &["dynamic shared memory; the limit is 101376"],
    );
}

#[test]
fn barriers_that_not_all_threads_reach() {
    let skipped = writing("skips_a_barrier", 64, 0, 64, &[]);
    finds(&skipped, &[], &["waits in __syncthreads", "thread (3, 0, 0) has returned"]);
    let parted = writing("parts_at_a_barrier", 64, 0, 64, &[]);
    finds(&parted, &[], &["but thread (32, 0, 0) waits in __syncthreads"]);
}

#[test]
fn warp_collectives_that_not_all_lanes_reach() {
    // The even lanes return: the odd ones do not wait for them, but what they would take from them is undefined.
    let Some(host) = host() else { return };
    let alone = writing("shuffles_alone", 32, 0, 32, &[]);
    let got = host.run(&alone, &[], crate::proof::ORDERS[0]).unwrap();
    assert!(got[0].to_f64().iter().all(|x| x.is_nan()));
    finds(&writing("shuffles_uninvited", 32, 0, 32, &[]), &[], &["leaves the calling lane", "out"]);
}

#[test]
fn shared_memory_read_before_the_barrier() {
    let Some(host) = host() else { return };
    let program = writing("reads_shared_too_early", 64, 0, 64, &[]);
    for order in crate::proof::ORDERS {
        let got = host.run(&program, &[], order).unwrap();
        assert!(got[0].to_f64().iter().any(|x| x.is_nan()), "{order:?} hides a missing barrier");
    }
}

#[test]
fn undefined_arithmetic_and_misaligned_vectors() {
    finds(
        &writing("overflows", 1, 0, 1, &[Arg::I32(i32::MAX)]),
        &[],
        &["signed integer overflow", "thread (0, 0, 0)"],
    );
    let mut program = Program::new("misaligned");
    let x = program.input(Element::F32, 8);
    let y = program.output(Element::F32, 1);
    once(&mut program, "misaligned", 1, 0, vec![Arg::Buffer(x), Arg::Buffer(y)]);
    finds(&program, &[Data::from_f64(Element::F32, &[0.0; 8])], &["misaligned address"]);
}

#[test]
fn locals_that_nobody_set_are_no_usual_number() {
    let Some(host) = host() else { return };
    let program = writing("reads_undefined", 4, 0, 4, &[]);
    let got = host.run(&program, &[], crate::proof::ORDERS[0]).unwrap();
    assert!(got[0].to_f64().iter().all(|x| !(x.abs() < 1e6)), "{:?}", got[0].to_f64());
}

#[test]
fn arguments_that_do_not_fit_the_signature() {
    let mut program = Program::new("row_sums_f16");
    let half = program.input(Element::F16, 4);
    let single = program.input(Element::F32, 4);
    let y = program.output(Element::F32, 4);
    let (half, single, y) = (Arg::Buffer(half), Arg::Buffer(single), Arg::Buffer(y));
    let inputs = [Data::from_f64(Element::F16, &[0.0; 4]), Data::from_f64(Element::F32, &[0.0; 4])];
    let cases = [
        (vec![half.clone(), y.clone(), Arg::I64(1)], "takes 4 arguments, found 3"),
        (
            vec![half.clone(), y.clone(), Arg::I64(1), Arg::I32(4)],
            "argument 3: expected long long, found int",
        ),
        (
            vec![half.clone(), y.clone(), Arg::F32(1.0), Arg::I64(4)],
            "argument 2: expected long long, found float",
        ),
        (
            vec![single.clone(), y.clone(), Arg::I64(1), Arg::I64(4)],
            "argument 0: expected a buffer of f16, found buffer 1 of f32",
        ),
        (
            vec![half.clone(), Arg::U64(0), Arg::I64(1), Arg::I64(4)],
            "argument 1: expected a buffer, found unsigned long long",
        ),
        (
            vec![half.clone(), single, Arg::I64(1), Arg::I64(4)],
            "argument 1: the kernel takes a pointer it may write through, found buffer 1, an input",
        ),
    ];
    for (args, message) in cases {
        let mut wrong = program.clone();
        once(&mut wrong, "row_sums_f16", 32, 0, args);
        finds(&wrong, &inputs, &[message]);
    }
}

#[test]
fn launches_that_no_device_takes() {
    let launch = |grid, block| {
        let mut program = Program::new("transpose_f32");
        let x = program.input(Element::F32, 1);
        let y = program.output(Element::F32, 1);
        let args = vec![Arg::Buffer(x), Arg::Buffer(y), Arg::I64(1), Arg::I64(1)];
        program.launch(&SOUND, "transpose_f32", grid, block, 0, args);
        program
    };
    let x = [Data::from_f64(Element::F32, &[0.0])];
    finds(&launch([1, 1, 1], [32, 33, 1]), &x, &["a block of (32, 33, 1) threads"]);
    finds(&launch([1, 0, 1], [32, 32, 1]), &x, &["a grid of (1, 0, 1) blocks"]);
    finds(&launch([1, 65_536, 1], [32, 32, 1]), &x, &["a grid of (1, 65536, 1) blocks"]);
    let mut bounded = Program::new("row_sums_f32");
    let x = bounded.input(Element::F32, 1);
    let y = bounded.output(Element::F32, 1);
    let args = vec![Arg::Buffer(x), Arg::Buffer(y), Arg::I64(1), Arg::I64(1)];
    once(&mut bounded, "row_sums_f32", 512, 0, args);
    finds(&bounded, &[Data::from_f64(Element::F32, &[0.0])], &["__launch_bounds__ allows 256"]);
}

#[test]
fn asynchronous_copies_that_are_not_waited_for_or_go_astray() {
    let Some(host) = host() else { return };
    let copying = |kernel: &str| {
        let mut program = Program::new(kernel);
        let x = program.input(Element::F32, 4);
        let y = program.output(Element::F32, 4);
        once(&mut program, kernel, 1, 0, vec![Arg::Buffer(x), Arg::Buffer(y)]);
        program
    };
    let x = [Data::from_f64(Element::F32, &[1.0; 4])];
    let got = host.run(&copying("reads_before_waiting"), &x, crate::proof::ORDERS[0]).unwrap();
    assert!(got[0].to_f64()[0].is_nan());
    finds(&copying("copies_off_alignment"), &x, &["an address that is no multiple of 16"]);
    finds(&copying("copies_elsewhere"), &x, &["an address outside shared memory"]);
}

#[test]
fn kernels_that_never_end() {
    let Some(host) = host() else { return };
    let program = writing("never_ends", 1, 0, 1, &[Arg::I32(0)]);
    let error = host.limited_to(1).run(&program, &[], crate::proof::ORDERS[0]).unwrap_err();
    assert!(error.to_string().contains("signal"), "{error}");
}
