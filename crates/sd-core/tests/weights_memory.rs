//! Loading holds the tensors and little more: the file's pages are given back, and no second copy is made.
#![allow(clippy::unwrap_used)]
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs;

use candle_core::{DType, Device, Tensor};
use sd_core::weights::{Planned, Weights, write_streamed};

const MIB: usize = 1 << 20;
/// A slab of the file, what the threads and the test itself need.
const MORE: usize = 32 * MIB;

/// A line of this process's memory, in bytes.
fn memory(line: &str) -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let value = status.lines().find_map(|text| text.strip_prefix(line)).unwrap();
    value.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// The most that was resident during `body` beyond what was before it; none where the system does not let it be counted anew.
fn peak<T>(body: impl FnOnce() -> T) -> Option<(usize, T)> {
    fs::write("/proc/self/clear_refs", "5").ok()?;
    let before = memory("VmRSS");
    let result = body();
    Some((memory("VmHWM").saturating_sub(before), result))
}

fn plan(dtype: DType, bytes: usize) -> Vec<Planned> {
    let shape = vec![bytes / dtype.size_in_bytes()];
    ["a", "b", "c"].map(|name| Planned { name: name.to_owned(), dtype, shape: shape.clone() }).to_vec()
}

/// One test, since the count is the whole program's.
#[test]
fn reading_and_writing_hold_little_beside_the_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    for (stored, read, bytes) in [(DType::F32, DType::F32, 40 * MIB), (DType::F16, DType::F32, 30 * MIB)] {
        let shape = [bytes / stored.size_in_bytes()];
        let write = || {
            let tensor = |_: &str| Tensor::ones(&shape[..], stored, &Device::Cpu);
            write_streamed(&path, plan(stored, bytes), tensor).unwrap();
        };
        let Some((written, ())) = peak(write) else { return };
        assert!(written <= bytes + MORE, "writing held {} MiB", written / MIB);
        let load = || {
            let weights = Weights::open(&path).unwrap();
            let tensor = |name: &str| (name.to_owned(), weights.tensor(name, read, &Device::Cpu).unwrap());
            weights.names().map(tensor).collect::<BTreeMap<_, _>>()
        };
        let Some((held, tensors)) = peak(load) else { return };
        let own: usize = tensors.values().map(|tensor| tensor.elem_count() * read.size_in_bytes()).sum();
        assert!(held >= own / 2, "the count of {} MiB does not count", held / MIB);
        assert!(held <= own + MORE, "reading {} MiB as {read:?} held {} MiB", own / MIB, held / MIB);
    }
}
