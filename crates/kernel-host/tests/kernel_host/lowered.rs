//! What a device would be told: every case's program passes the checks that the device's executor makes.

use kernel_host::cases;
use sd_core::cuda::lower::{Command, Place, lower, table_len};
use sd_core::cuda::{Program, Step};

/// Buffers far apart at addresses that an allocator could give.
fn places(program: &Program) -> Vec<Place> {
    let start = |index: usize| 0x7f00_0000_0000 + ((index as u64) << 40);
    program
        .buffers
        .iter()
        .enumerate()
        .map(|(index, spec)| Place { address: start(index), spec: *spec })
        .collect()
}

/// What is wrong with how a program goes to a device.
fn fault(program: &Program) -> Option<String> {
    let lowered = match lower(program, &places(program), 0x7e00_0000_0000) {
        Ok(lowered) => lowered,
        Err(fault) => return Some(fault.to_string()),
    };
    let launches = program.steps.iter().zip(&lowered.commands);
    let packed = launches.filter_map(|pair| match pair {
        (Step::Launch(step), Command::Launch { cells, .. }) => Some(step.args.len() == cells.len()),
        (Step::Product(_), Command::Product(_)) | (Step::Zero(_), Command::Zero { .. }) => Some(true),
        _ => None,
    });
    let whole = packed.filter(|whole| *whole).count() == program.steps.len();
    let table = lowered.table.len() == table_len(program);
    (!whole || !table).then(|| format!("{}: commands or pointers are missing", program.name))
}

#[test]
fn a_device_would_take_every_program() {
    let small: Vec<_> = cases::all().into_iter().filter(|case| case.timed.is_none()).collect();
    assert!(!small.is_empty());
    let of = |case: &cases::Case| match case.job() {
        Ok(job) => fault(&job.program).map(|fault| format!("{case:?}: {fault}")),
        Err(error) => Some(format!("{case:?}: no reference: {error}")),
    };
    let faults: Vec<String> = small.iter().filter_map(of).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
