//! Every case of `cargo xtask bench cpu` with criterion. `cargo bench -p runner --bench ops -- conv2d`.
//!
//! Each case is checked against double precision before it is timed.
#![allow(missing_docs)]

use criterion::{Criterion, Throughput};
use runner::benchmarks::{Amount, all};

/// As the runner has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let mut criterion = Criterion::default().sample_size(10).configure_from_args();
    for case in all(cli::Implementation::Ours) {
        let mut group = criterion.benchmark_group(case.name.clone());
        group.throughput(match case.work {
            Amount::Bytes(bytes) => Throughput::Bytes(bytes),
            Amount::Flops(flops) => Throughput::Elements(flops),
        });
        let mut failure = None;
        // Criterion skips what its filter leaves out, and then nothing is prepared.
        group.bench_function("f32", |bencher| match (case.prepare)() {
            Ok(mut work) => bencher.iter(&mut work),
            Err(error) => failure = Some(error),
        });
        group.finish();
        failure.map_or(Ok(()), Err)?;
    }
    criterion.final_summary();
    Ok(())
}
