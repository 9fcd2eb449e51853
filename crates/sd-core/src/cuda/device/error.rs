//! What can go wrong on a device, in words that name the program, the kernel and what to do.

use candle_core::cuda_backend::cudarc::cublas::result::CublasError;
use candle_core::cuda_backend::cudarc::driver::DriverError;
use candle_core::cuda_backend::cudarc::driver::sys::CUresult;

use crate::cuda::lower::Fault;
use crate::cuda::memory::Shortage;
use crate::cuda::nvrtc::NvrtcError;
use crate::cuda::program::Program;

/// A program was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The driver refused, or an earlier kernel failed and this call was the first to hear of it.
    #[error("{doing}: {said}{}", advice(.code))]
    Driver {
        /// What was being done.
        doing: Doing,
        /// The driver's number.
        code: CUresult,
        /// The driver's words.
        said: String,
    },
    /// cuBLAS refused.
    #[error("{doing}: cuBLAS says {error:?}")]
    Blas {
        /// What was being done.
        doing: Doing,
        /// Its status.
        error: CublasError,
    },
    /// There is not enough memory.
    #[error("{doing}: {shortage}")]
    Memory {
        /// What was being done.
        doing: Doing,
        /// How much.
        shortage: String,
    },
    /// The program asks for what no device does.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// A kernel does not compile, or there is no compiler.
    #[error(transparent)]
    Nvrtc(#[from] NvrtcError),
    /// The GPU is too old for the kernels.
    #[error("GPU {name} has compute capability {}.{}; difflab's kernels need 8.0 or later", .capability / 10, .capability % 10)]
    TooOld {
        /// Its name.
        name: String,
        /// As 75 for 7.5.
        capability: u32,
    },
    /// A buffer is not what the program says.
    #[error("{program}: buffer {index}: expected {expected}, found {found}")]
    Buffer {
        /// The program's name.
        program: String,
        /// Its position among the buffers.
        index: usize,
        /// What the program says.
        expected: String,
        /// What was given.
        found: String,
    },
}

/// What was being done when something failed.
#[derive(Clone, Debug, Default)]
pub struct Doing {
    /// The program's name.
    pub program: String,
    /// The kernel with its grid, or a step of the driver.
    pub what: String,
}

impl std::fmt::Display for Doing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.program.as_str() {
            "" => f.write_str(&self.what),
            program => write!(f, "{program}, {}", self.what),
        }
    }
}

impl DeviceError {
    /// The driver's refusal while `what` was being done.
    pub(super) fn driver(what: impl Into<String>) -> impl FnOnce(DriverError) -> Self {
        move |error| {
            // The driver's words cannot be had where there is no driver.
            let said = match error.error_string() {
                Ok(words) => format!("{} ({:?})", words.to_string_lossy(), error.0),
                Err(_) => format!("{:?}", error.0),
            };
            Self::Driver { doing: Doing { program: String::new(), what: what.into() }, code: error.0, said }
        }
    }

    /// cuBLAS's refusal while `what` was being done.
    pub(super) fn blas(what: impl Into<String>) -> impl FnOnce(CublasError) -> Self {
        move |error| Self::Blas { doing: Doing { program: String::new(), what: what.into() }, error }
    }

    /// Too little memory for `what`.
    pub(super) fn memory(what: impl Into<String>, shortage: Shortage) -> Self {
        let doing = Doing { program: String::new(), what: what.into() };
        Self::Memory { doing, shortage: shortage.to_string() }
    }

    /// The same with the program's name.
    pub(super) fn of(mut self, program: &Program) -> Self {
        if let Self::Driver { doing, .. } | Self::Blas { doing, .. } | Self::Memory { doing, .. } = &mut self
        {
            doing.program.clone_from(&program.name);
        }
        self
    }
}

impl From<DeviceError> for candle_core::Error {
    fn from(error: DeviceError) -> Self {
        Self::wrap(error)
    }
}

/// What to do about an answer of the driver.
fn advice(code: &CUresult) -> &'static str {
    use CUresult as C;
    match code {
        C::CUDA_ERROR_STUB_LIBRARY => {
            "\n  help: libcuda.so.1 is the toolkit's stand-in and not the driver's: take lib64/stubs out of LD_LIBRARY_PATH"
        }
        C::CUDA_ERROR_NO_DEVICE => {
            "\n  help: the driver shows no GPU; is CUDA_VISIBLE_DEVICES set? `nvidia-smi` lists them"
        }
        C::CUDA_ERROR_INVALID_DEVICE => "\n  help: there is no GPU of that index; `nvidia-smi` lists them",
        C::CUDA_ERROR_UNSUPPORTED_PTX_VERSION
        | C::CUDA_ERROR_NO_BINARY_FOR_GPU
        | C::CUDA_ERROR_INVALID_IMAGE => {
            "\n  help: the toolkit is newer than the driver: update the driver, or set CUDA_HOME to an older toolkit"
        }
        C::CUDA_ERROR_SYSTEM_DRIVER_MISMATCH | C::CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE => {
            "\n  help: the driver and its library differ in version; a restart of the machine mends that after an update"
        }
        C::CUDA_ERROR_ILLEGAL_ADDRESS
        | C::CUDA_ERROR_MISALIGNED_ADDRESS
        | C::CUDA_ERROR_LAUNCH_FAILED
        | C::CUDA_ERROR_ILLEGAL_INSTRUCTION => {
            "\n  help: an earlier kernel failed; DIFFLAB_CUDA_SYNC=1 names it. The device is of no use to this process any more"
        }
        C::CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES => {
            "\n  help: the block needs more registers or shared memory than there are"
        }
        _ => "",
    }
}
