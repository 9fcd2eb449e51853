//! Every `.cu` file is compiled for real devices: no warning, no spill, no stack frame over its limit.

use kernel_host::nvrtc::{faults, report};
use rayon::prelude::*;
use sd_core::cuda::Source;
use sd_core::cuda::nvrtc::Nvrtc;

/// What the kernels are written for: machine code, made of the PTX of compute_80 and compute_90.
const CAPABILITIES: [u32; 2] = [80, 90];

/// NVRTC; `None`, after saying so, where this machine has none.
fn nvrtc() -> Option<Nvrtc> {
    match Nvrtc::find() {
        Ok(nvrtc) => Some(nvrtc),
        Err(error) if std::env::var_os("DIFFLAB_REQUIRE_NVRTC").is_none() => {
            eprintln!("skipped: {error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn broken(nvrtc: &Nvrtc, source: &Source, capability: u32) -> Vec<String> {
    let found = report(nvrtc, source, capability)
        .map_or_else(|error| vec![error.to_string()], |report| faults(source, &report));
    found.into_iter().map(|fault| format!("{} for sm_{capability}: {fault}", source.path)).collect()
}

#[test]
fn every_kernel_compiles_for_devices_and_keeps_to_its_registers() {
    let Some(nvrtc) = nvrtc() else { return };
    let sources: Vec<&Source> = kernel_host::sources().into_iter().chain([&crate::proof::SOUND]).collect();
    let pairs: Vec<_> =
        sources.iter().flat_map(|source| CAPABILITIES.map(|capability| (source, capability))).collect();
    let faults: Vec<String> =
        pairs.par_iter().flat_map_iter(|(source, capability)| broken(&nvrtc, source, *capability)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// A kernel that indexes a local array by numbers from memory: it needs a stack frame.
const DEEP: &str = "extern \"C\" __global__ void deep(const int *at, float *y) {\n  float local[64];\n  \
                    for (int i = 0; i < 64; ++i) local[i] = y[i];\n  \
                    for (int i = 0; i < 64; ++i) local[at[i] & 63] += y[i];\n  \
                    for (int i = 0; i < 64; ++i) y[i] = local[at[i + 64] & 63];\n}\n";
/// Eighty values that live at once in threads that may have 32 registers each.
const SPILLING: &str = "extern \"C\" __global__ void __launch_bounds__(1024, 2) spilling(const float *x, float *y) {\n  \
                        float r[80];\n#pragma unroll\n  for (int i = 0; i < 80; ++i) r[i] = x[threadIdx.x * 80 + i];\n  \
                        __syncthreads();\n#pragma unroll\n  for (int i = 0; i < 80; ++i)\n    \
                        y[threadIdx.x * 80 + i] = r[i] * r[(i * 7 + 3) % 80];\n}\n";
const UNUSED: &str = "extern \"C\" __global__ void unused(float *y) {\n  int nobody;\n  y[0] = 1.0f;\n}\n";

#[test]
fn deep_frames_spills_warnings_and_missing_kernels_are_found_in_real_logs() {
    let Some(nvrtc) = nvrtc() else { return };
    let base = Source { name: "mutant", path: "mutant.cu", text: "", kernels: &[], stack_limit: 0 };
    let cases: [(&'static str, &'static [&'static str], &str); 5] = [
        (DEEP, &["deep"], "stack frame of 256 bytes, the limit is 0"),
        (SPILLING, &["spilling"], "spilling spills"),
        (UNUSED, &["unused"], "declared but never referenced"),
        (DEEP, &["deep", "deeper"], "its `Source` lists `deep deeper`"),
        ("nonsense;", &[], "does not compile"),
    ];
    for (text, kernels, needle) in cases {
        let found = broken(&nvrtc, &Source { text, kernels, ..base }, 90);
        assert!(found.iter().any(|fault| fault.contains(needle)), "`{needle}` is not among {found:?}");
    }
}
