//! NVRTC, CUDA's run-time compiler: from a `.cu` file to what a GPU runs. It needs no GPU.
//!
//! The library is opened when it is first asked for, so that every build can compile kernels where it is installed, and none
//! needs it to start.

use std::ffi::{CStr, CString, c_char, c_int};
use std::path::{Path, PathBuf};

use super::library::{Library, LibraryError};
use super::{COMMON, Source};

/// Options that every kernel is compiled with, on the GPU's machine and in tests.
pub const OPTIONS: &[&str] = &["--std=c++17", "--generate-line-info"];

/// What is compiled for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// Machine code for GPUs of this compute capability, as 90 for 9.0.
    Machine(u32),
    /// PTX, which the driver translates for GPUs of this compute capability and later ones.
    Ptx(u32),
}

impl Target {
    /// What to compile for on a GPU of compute capability `at_hand`: machine code where this NVRTC knows it, for then the
    /// driver need not understand NVRTC's PTX; else PTX of the latest that both know.
    #[must_use]
    pub fn best(at_hand: u32, known: &[u32]) -> Option<Self> {
        if known.contains(&at_hand) {
            return Some(Self::Machine(at_hand));
        }
        known.iter().copied().filter(|cap| *cap <= at_hand).max().map(Self::Ptx)
    }

    /// The name NVRTC knows it by.
    #[must_use]
    pub fn architecture(self) -> String {
        match self {
            Self::Machine(cap) => format!("sm_{cap}"),
            Self::Ptx(cap) => format!("compute_{cap}"),
        }
    }
}

/// A compiled file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compiled {
    /// Machine code (an ELF file) or PTX with a NUL at its end; the driver takes both.
    pub image: Vec<u8>,
    /// What the compiler said: warnings, and with `--ptxas-options=-v` registers and stack of each kernel.
    pub log: String,
}

/// NVRTC cannot be had or refuses.
#[derive(Debug, thiserror::Error)]
pub enum NvrtcError {
    /// No library was found.
    #[error(transparent)]
    Library(#[from] LibraryError),
    /// The source is wrong.
    #[error("{path} does not compile for {architecture}:\n{log}")]
    Compile {
        /// The file.
        path: &'static str,
        /// What it was compiled for.
        architecture: String,
        /// The compiler's messages; each names file and line.
        log: String,
    },
    /// A call failed for another reason.
    #[error("NVRTC's {call} failed on {path}: {said}")]
    Call {
        /// The function.
        call: &'static str,
        /// The file.
        path: &'static str,
        /// What NVRTC says about it.
        said: String,
    },
}

type Handle = *mut std::ffi::c_void;
type Status = c_int;

/// The compiler, loaded.
pub struct Nvrtc {
    version: (u32, u32),
    known: Vec<u32>,
    calls: Calls,
    /// Keeps the code behind `calls` in memory.
    library: Library,
}

impl std::fmt::Debug for Nvrtc {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NVRTC {}.{} of {}", self.version.0, self.version.1, self.library.name())
    }
}

/// The functions of the library that are used, with the types of `nvrtc.h`.
struct Calls {
    error_string: unsafe extern "C" fn(Status) -> *const c_char,
    create: unsafe extern "C" fn(
        *mut Handle,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> Status,
    destroy: unsafe extern "C" fn(*mut Handle) -> Status,
    compile: unsafe extern "C" fn(Handle, c_int, *const *const c_char) -> Status,
    ptx: Getter,
    machine_code: Getter,
    log: Getter,
}

/// A pair of functions of which one tells the size of a text and the other copies it.
#[derive(Clone, Copy)]
struct Getter {
    name: &'static str,
    size: unsafe extern "C" fn(Handle, *mut usize) -> Status,
    copy: unsafe extern "C" fn(Handle, *mut c_char) -> Status,
}

impl Nvrtc {
    /// Opens the library that [`candidates`] finds.
    ///
    /// # Errors
    /// Where there is none, with every place that was looked at.
    pub fn find() -> Result<Self, NvrtcError> {
        let candidates = candidates();
        candidates.iter().for_each(|library| open_builtins(library));
        Ok(Self::of(Library::first(&candidates)?)?)
    }

    fn of(library: Library) -> Result<Self, LibraryError> {
        // SAFETY: the signatures are those of `nvrtc.h`, unchanged from CUDA 11.1 to 13; `library` outlives the pointers,
        // since both live in the same value and fields are not lent out.
        let calls = unsafe {
            Calls {
                error_string: library.function(c"nvrtcGetErrorString")?,
                create: library.function(c"nvrtcCreateProgram")?,
                destroy: library.function(c"nvrtcDestroyProgram")?,
                compile: library.function(c"nvrtcCompileProgram")?,
                ptx: Getter {
                    name: "nvrtcGetPTX",
                    size: library.function(c"nvrtcGetPTXSize")?,
                    copy: library.function(c"nvrtcGetPTX")?,
                },
                machine_code: Getter {
                    name: "nvrtcGetCUBIN",
                    size: library.function(c"nvrtcGetCUBINSize")?,
                    copy: library.function(c"nvrtcGetCUBIN")?,
                },
                log: Getter {
                    name: "nvrtcGetProgramLog",
                    size: library.function(c"nvrtcGetProgramLogSize")?,
                    copy: library.function(c"nvrtcGetProgramLog")?,
                },
            }
        };
        let (version, known) = (version(&library)?, known(&library)?);
        Ok(Self { version, known, calls, library })
    }

    /// Major and minor version.
    #[must_use]
    pub fn version(&self) -> (u32, u32) {
        self.version
    }

    /// Compute capabilities that it makes machine code for, ascending.
    #[must_use]
    pub fn known(&self) -> &[u32] {
        &self.known
    }

    /// Compiles a file with [`OPTIONS`] and `more`.
    ///
    /// # Errors
    /// With the compiler's messages where the source is wrong.
    pub fn compile(&self, source: &Source, target: Target, more: &[&str]) -> Result<Compiled, NvrtcError> {
        let architecture = target.architecture();
        let options = std::iter::once(format!("--gpu-architecture={architecture}"))
            .chain(OPTIONS.iter().chain(more).map(ToString::to_string));
        let options: Vec<CString> = options.map(text).collect();
        let program = Unit::new(self, source)?;
        let status = program.compile(&options);
        let log = program.get(self.calls.log).map(|log| printable(&log))?;
        match status {
            0 => {}
            // NVRTC_ERROR_COMPILATION
            6 => return Err(NvrtcError::Compile { path: source.path, architecture, log }),
            other => return Err(self.failed("nvrtcCompileProgram", source, other)),
        }
        let getter =
            if matches!(target, Target::Machine(_)) { self.calls.machine_code } else { self.calls.ptx };
        Ok(Compiled { image: program.get(getter)?, log })
    }

    fn failed(&self, call: &'static str, source: &Source, status: Status) -> NvrtcError {
        // SAFETY: the function takes any number and returns a static string.
        let said = unsafe { CStr::from_ptr((self.calls.error_string)(status)) };
        NvrtcError::Call { call, path: source.path, said: said.to_string_lossy().into_owned() }
    }
}

/// One file inside NVRTC; it is destroyed with this value.
struct Unit<'a> {
    nvrtc: &'a Nvrtc,
    source: &'a Source,
    handle: Handle,
}

impl<'a> Unit<'a> {
    fn new(nvrtc: &'a Nvrtc, source: &'a Source) -> Result<Self, NvrtcError> {
        let (content, name) = (text(source.text), text(source.path));
        let (header, include) = (text(COMMON), c"common.cuh");
        let mut handle: Handle = std::ptr::null_mut();
        // SAFETY: all strings end in NUL and live through the call, which copies them; there is one header and one name.
        let status = unsafe {
            (nvrtc.calls.create)(
                &mut handle,
                content.as_ptr(),
                name.as_ptr(),
                1,
                [header.as_ptr()].as_ptr(),
                [include.as_ptr()].as_ptr(),
            )
        };
        match status {
            0 => Ok(Self { nvrtc, source, handle }),
            other => Err(nvrtc.failed("nvrtcCreateProgram", source, other)),
        }
    }

    fn compile(&self, options: &[CString]) -> Status {
        let pointers: Vec<*const c_char> = options.iter().map(|option| option.as_ptr()).collect();
        // A handful of options.
        let count = pointers.len() as c_int;
        // SAFETY: `handle` is a live program, `pointers` holds `count` strings that end in NUL and outlive the call.
        unsafe { (self.nvrtc.calls.compile)(self.handle, count, pointers.as_ptr()) }
    }

    fn get(&self, getter: Getter) -> Result<Vec<u8>, NvrtcError> {
        let mut size = 0;
        // SAFETY: `handle` is a live program and `size` may be written.
        let status = unsafe { (getter.size)(self.handle, &mut size) };
        if status != 0 {
            return Err(self.nvrtc.failed(getter.name, self.source, status));
        }
        let mut bytes = vec![0u8; size];
        // SAFETY: as above; the function writes `size` bytes, which `bytes` has.
        match unsafe { (getter.copy)(self.handle, bytes.as_mut_ptr().cast()) } {
            0 => Ok(bytes),
            status => Err(self.nvrtc.failed(getter.name, self.source, status)),
        }
    }
}

impl Drop for Unit<'_> {
    fn drop(&mut self) {
        // SAFETY: `handle` was made by `create` and is destroyed once. Nothing can be done about a failure.
        unsafe { (self.nvrtc.calls.destroy)(&mut self.handle) };
    }
}

fn version(library: &Library) -> Result<(u32, u32), LibraryError> {
    type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> Status;
    let (mut major, mut minor) = (0, 0);
    // SAFETY: the signature is that of `nvrtc.h`; both numbers may be written. On failure they stay 0.
    unsafe { library.function::<Version>(c"nvrtcVersion")?(&mut major, &mut minor) };
    Ok((major.unsigned_abs(), minor.unsigned_abs()))
}

fn known(library: &Library) -> Result<Vec<u32>, LibraryError> {
    type Numbers = unsafe extern "C" fn(*mut c_int) -> Status;
    let mut count = 0;
    // SAFETY: the signatures are those of `nvrtc.h`; the second call writes as many numbers as the first one said.
    let found = unsafe {
        library.function::<Numbers>(c"nvrtcGetNumSupportedArchs")?(&mut count);
        let mut found = vec![0; count.unsigned_abs() as usize];
        library.function::<Numbers>(c"nvrtcGetSupportedArchs")?(found.as_mut_ptr());
        found
    };
    Ok(found.into_iter().map(c_int::unsigned_abs).collect())
}

/// Where NVRTC may be: the file `$DIFFLAB_NVRTC`, the toolkits that `$CUDA_HOME` and `$CUDA_PATH` name, wherever the system
/// looks for libraries, and `target/cuda/toolkit` (of `cargo xtask cuda setup`) in a folder above this program or above the
/// current one.
#[must_use]
pub fn candidates() -> Vec<PathBuf> {
    let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = variable("DIFFLAB_NVRTC") {
        // Who names a file means that file.
        return vec![named];
    }
    let homes = ["CUDA_HOME", "CUDA_PATH"].into_iter().filter_map(variable);
    let above = [std::env::current_exe(), std::env::current_dir()].into_iter().flatten();
    let made = above.flat_map(|path| {
        let toolkit = |folder: &Path| [folder.join("cuda/toolkit"), folder.join("target/cuda/toolkit")];
        path.ancestors().flat_map(toolkit).collect::<Vec<_>>()
    });
    let made = made.filter(|toolkit| toolkit.join("difflab-setup").is_file());
    let inside = |home: PathBuf| home.join("lib64/libnvrtc.so");
    let system = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"].map(PathBuf::from);
    let mut found: Vec<PathBuf> = homes.map(inside).chain(system).chain(made.map(inside)).collect();
    found.dedup();
    found
}

/// NVRTC opens a second library by its bare name, which the system only finds in its own folders or where it is open already.
fn open_builtins(library: &Path) {
    let beside = library.parent().filter(|folder| !folder.as_os_str().is_empty());
    let builtins = beside.map(|folder| folder.join("libnvrtc-builtins.so")).filter(|path| path.exists());
    // Where this fails, compiling says so.
    let _ = builtins.map(|path| Library::first(&[path]));
}

/// A text for C. No NUL stands in a source or an option; what follows one would be cut off.
fn text(text: impl Into<String>) -> CString {
    let text: String = text.into();
    let until = text.split('\0').next().unwrap_or_default().to_owned();
    CString::new(until).unwrap_or_default()
}

fn printable(log: &[u8]) -> String {
    String::from_utf8_lossy(log).trim_end_matches(['\0', '\n']).to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    static GOOD: Source = Source {
        name: "test",
        path: "test/double.cu",
        text: "#include \"common.cuh\"\nextern \"C\" __global__ void double_f32(float* x) {\n  x[threadIdx.x] = \
               warp_sum(2.0f * x[threadIdx.x]);\n}\n",
        kernels: &["double_f32"],
        stack_limit: 0,
    };

    /// The compiler, or nothing where it is not installed.
    fn nvrtc() -> Option<Nvrtc> {
        match Nvrtc::find() {
            Ok(nvrtc) => Some(nvrtc),
            Err(error) => {
                use std::io::Write as _;
                let _ = writeln!(std::io::stderr(), "skipped: {error}");
                None
            }
        }
    }

    #[test]
    fn machine_code_where_the_compiler_knows_the_gpu_and_ptx_for_a_later_one() {
        let known = [75, 80, 90, 100];
        assert_eq!(Target::best(90, &known), Some(Target::Machine(90)));
        assert_eq!(Target::best(89, &known), Some(Target::Ptx(80)));
        assert_eq!(Target::best(130, &known), Some(Target::Ptx(100)));
        assert_eq!(Target::best(70, &known), None);
        assert_eq!(
            (Target::Machine(90).architecture(), Target::Ptx(80).architecture()),
            ("sm_90".into(), "compute_80".into())
        );
    }

    #[test]
    fn a_file_becomes_machine_code_and_ptx() {
        let Some(nvrtc) = nvrtc() else { return };
        assert!(nvrtc.version() >= (11, 1) && nvrtc.known().contains(&90), "{nvrtc:?}");
        let machine = nvrtc.compile(&GOOD, Target::Machine(90), &["--ptxas-options=-v"]).unwrap();
        assert!(machine.image.starts_with(b"\x7fELF"));
        assert!(machine.log.contains("registers"), "{}", machine.log);
        let ptx = nvrtc.compile(&GOOD, Target::Ptx(80), &[]).unwrap();
        let ptx = String::from_utf8(ptx.image).unwrap();
        assert!(ptx.contains(".target sm_80") && ptx.contains(".entry double_f32"), "{ptx}");
    }

    #[test]
    fn a_wrong_source_is_refused_with_file_and_line() {
        let Some(nvrtc) = nvrtc() else { return };
        let bad = Source { text: "\n\nextern \"C\" __global__ void f(float* x) { x[0] = y; }\n", ..GOOD };
        let error = nvrtc.compile(&bad, Target::Ptx(80), &[]).unwrap_err().to_string();
        assert!(
            error.contains("test/double.cu(3)") && error.contains('y') && error.contains("compute_80"),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_option_is_an_error_and_not_a_crash() {
        let Some(nvrtc) = nvrtc() else { return };
        let error = nvrtc.compile(&GOOD, Target::Ptx(80), &["--no-such-option"]).unwrap_err();
        assert!(matches!(error, NvrtcError::Call { .. }), "{error}");
    }
}
