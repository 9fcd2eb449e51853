//! What NVRTC makes of a kernel file for a real device: registers, stack, spills, warnings.

use sd_core::cuda::Source;
use sd_core::cuda::nvrtc::{Nvrtc, NvrtcError, Target};

/// What one kernel takes on a device, as the assembler of NVRTC reports it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// The entry point.
    pub kernel: String,
    /// Bytes of a thread's stack frame.
    pub stack: u32,
    /// Bytes that a thread stores and loads because it has too few registers.
    pub spilled: u32,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of static shared memory.
    pub shared: u32,
}

/// A file compiled for one device: its kernels, and the lines of the compiler that are no report of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// In the compiler's order.
    pub kernels: Vec<Usage>,
    /// Warnings and remarks.
    pub warnings: Vec<String>,
}

/// Compiles `source` for the compute capability `capability` (90 for 9.0), to machine code.
///
/// # Errors
/// As [`Nvrtc::compile`].
pub fn report(nvrtc: &Nvrtc, source: &Source, capability: u32) -> Result<Report, NvrtcError> {
    let compiled = nvrtc.compile(source, Target::Machine(capability), &["--ptxas-options=-v"])?;
    Ok(parse(&compiled.log))
}

/// What breaks a rule in a report: a spill, a stack frame over `source.stack_limit`, a warning, other kernels than the file says.
#[must_use]
pub fn faults(source: &Source, report: &Report) -> Vec<String> {
    let spills = report.kernels.iter().filter(|usage| usage.spilled > 0);
    let spills = spills.map(|usage| format!("{} spills {} bytes", usage.kernel, usage.spilled));
    let deep = report.kernels.iter().filter(|usage| usage.stack > source.stack_limit);
    let deep = deep.map(|usage| {
        format!(
            "{} has a stack frame of {} bytes, the limit is {}",
            usage.kernel, usage.stack, source.stack_limit
        )
    });
    let warnings = report.warnings.iter().cloned();
    spills.chain(deep).chain(warnings).chain(unlike(source, report)).collect()
}

fn unlike(source: &Source, report: &Report) -> Option<String> {
    let sorted = |mut names: Vec<&str>| {
        names.sort_unstable();
        names.join(" ")
    };
    let compiled = sorted(report.kernels.iter().map(|usage| &*usage.kernel).collect());
    let listed = sorted(source.kernels.to_vec());
    (compiled != listed).then(|| format!("the file defines `{compiled}`, its `Source` lists `{listed}`"))
}

/// Reads the log of `--ptxas-options=-v`: three lines a kernel, of which the first names it.
fn parse(log: &str) -> Report {
    let mut report = Report { kernels: Vec::new(), warnings: Vec::new() };
    for line in log.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let kernel = rest.split('\'').next().unwrap_or_default().to_owned();
            report.kernels.push(Usage { kernel, ..Usage::default() });
        } else if line.contains("bytes stack frame") || line.contains(" registers") {
            let Some(usage) = report.kernels.last_mut() else { continue };
            usage.stack = usage.stack.max(before(line, "bytes stack frame"));
            usage.spilled += before(line, "bytes spill stores") + before(line, "bytes spill loads");
            usage.registers = usage.registers.max(before(line, "registers"));
            usage.shared = usage.shared.max(before(line, "bytes smem"));
        } else if !is_notice(line) {
            report.warnings.push(line.to_owned());
        }
    }
    report
}

/// Lines of the assembler that say nothing about the source.
fn is_notice(line: &str) -> bool {
    line.contains("bytes gmem") || line.contains("Function properties for") || line.contains("Compile time")
}

/// The number that stands before `words`; 0 where there is none.
fn before(line: &str, words: &str) -> u32 {
    let number = line.split_once(words).and_then(|(before, _)| before.split_whitespace().next_back());
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'a_f32' for 'sm_90'
ptxas info    : Function properties for a_f32
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 24 registers, used 1 barriers, 128 bytes smem
ptxas info    : Compile time = 9.162 ms
ptxas info    : Compiling entry function 'b_f16' for 'sm_90'
ptxas info    : Function properties for b_f16
    40 bytes stack frame, 12 bytes spill stores, 16 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 40 bytes cumulative stack size
";

    static SOURCE: Source =
        Source { name: "x", path: "x.cu", text: "", kernels: &["b_f16", "a_f32"], stack_limit: 16 };

    #[test]
    fn the_assemblers_report_is_read() {
        let report = parse(LOG);
        let a = Usage { kernel: "a_f32".into(), stack: 0, spilled: 0, registers: 24, shared: 128 };
        let b = Usage { kernel: "b_f16".into(), stack: 40, spilled: 28, registers: 255, shared: 0 };
        assert_eq!(report, Report { kernels: vec![a, b], warnings: vec![] });
    }

    #[test]
    fn spills_deep_frames_warnings_and_unlisted_kernels_are_faults() {
        let mut report = parse(LOG);
        let found = faults(&SOURCE, &report);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(
            found[0].contains("b_f16 spills 28 bytes")
                && found[1].contains("frame of 40 bytes, the limit is 16")
        );
        report.kernels.pop();
        report
            .warnings
            .push("x.cu(3): warning #177-D: variable \"y\" was declared but never referenced".into());
        let found = faults(&SOURCE, &report);
        assert!(found[0].contains("#177-D") && found[1].contains("lists `a_f32 b_f16`"), "{found:?}");
    }

    #[test]
    fn a_warning_is_kept_as_it_stands() {
        assert_eq!(parse("x.cu(3): warning #177-D: y\n").warnings, ["x.cu(3): warning #177-D: y"]);
    }
}
