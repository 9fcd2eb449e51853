//! The files of kernels that test the executor, and how they are run.

use kernel_host::{Data, Error, Host, Order};
use sd_core::cuda::{Arg, Program, Source};

/// Kernels with known results.
pub(crate) static SOUND: Source = Source {
    name: "proof",
    path: "crates/kernel-host/tests/kernel_host/proof.cu",
    text: include_str!("proof.cu"),
    kernels: &[
        "row_sums_f32",
        "transpose_f32",
        "row_sums_f16",
        "transpose_f16",
        "row_sums_bf16",
        "transpose_bf16",
        "small_product_f16",
        "small_product_bf16",
        "round_trip_f16",
        "round_trip_bf16",
        "widen_f16",
        "gather",
        "warp_tour",
        "matrix_tour",
        "bit_tour",
    ],
    stack_limit: 0,
};

/// Kernels that break a rule each.
pub(crate) static MISUSE: Source = Source {
    name: "misuse",
    path: "crates/kernel-host/tests/kernel_host/misuse.cu",
    text: include_str!("misuse.cu"),
    kernels: &[
        "writes_past_the_end",
        "reads_before_the_start",
        "writes_an_input",
        "overruns_shared",
        "overruns_dynamic",
        "skips_a_barrier",
        "parts_at_a_barrier",
        "shuffles_alone",
        "shuffles_uninvited",
        "reads_shared_too_early",
        "overflows",
        "misaligned",
        "reads_undefined",
        "never_ends",
        "reads_before_waiting",
        "copies_off_alignment",
        "copies_elsewhere",
    ],
    stack_limit: 0,
};

pub(crate) const ORDERS: [Order; 3] = [Order::Forward, Order::Reverse, Order::Shuffled(7)];

/// The executor; `None`, after saying so, where this machine has no compiler for it.
pub(crate) fn host() -> Option<Host> {
    match Host::find() {
        Ok(host) => Some(host),
        Err(error) if std::env::var_os("DIFFLAB_REQUIRE_CXX").is_none() => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// One launch of `kernel` on one block of `threads` as the whole of a program.
pub(crate) fn once(program: &mut Program, kernel: &str, threads: u32, shared: u32, args: Vec<Arg>) {
    let source = if SOUND.kernels.contains(&kernel) { &SOUND } else { &MISUSE };
    program.launch(source, kernel, [1, 1, 1], [threads, 1, 1], shared, args);
}

/// The message of the fault that the program must end with, in every order.
#[track_caller]
pub(crate) fn faults(host: &Host, program: &Program, inputs: &[Data]) -> Vec<String> {
    let fault = |order| match host.run(program, inputs, order) {
        Err(Error::Fault { message, .. }) => message,
        other => panic!("{} ended without a fault: {other:?}", program.name),
    };
    ORDERS.map(fault).to_vec()
}
