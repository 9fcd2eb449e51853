//! A shared library that is opened while the program runs.

use std::ffi::{CStr, CString, c_void};
use std::path::{Path, PathBuf};

/// A library or a function of it is not there.
#[derive(Debug, thiserror::Error)]
pub enum LibraryError {
    /// None of the candidates opens.
    #[error(
        "no {library} can be opened:\n{tried}\n  help: `cargo xtask cuda setup --nvrtc-only` fetches it; or set CUDA_HOME to a CUDA \
         toolkit, or DIFFLAB_NVRTC to the file"
    )]
    Absent {
        /// What was looked for.
        library: &'static str,
        /// Each place and why not it.
        tried: String,
    },
    /// The library has no such function: it is too old.
    #[error("{library} has no function {function}: it is too old; CUDA 11.1 or later is needed")]
    Function {
        /// The file.
        library: String,
        /// The function.
        function: String,
    },
}

/// An open library. It is never closed: NVRTC keeps threads of its own.
#[derive(Debug)]
pub(crate) struct Library {
    name: String,
    handle: *mut c_void,
}

// SAFETY: the handle is only handed to `dlsym`, which may be called from any thread.
unsafe impl Send for Library {}
// SAFETY: as above.
unsafe impl Sync for Library {}

impl Library {
    /// The first of `candidates` that opens.
    pub(crate) fn first(candidates: &[PathBuf]) -> Result<Self, LibraryError> {
        let mut tried = Vec::new();
        for candidate in candidates {
            match open(candidate) {
                Ok(handle) => return Ok(Self { name: candidate.display().to_string(), handle }),
                Err(said) => tried.push(format!("  {said}")),
            }
        }
        Err(LibraryError::Absent { library: "libnvrtc", tried: tried.join("\n") })
    }

    /// The file as it was asked for.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A function.
    ///
    /// # Safety
    /// `F` must be the type of a pointer to the function of that name, and must not be called after the library is closed
    /// (it never is).
    pub(crate) unsafe fn function<F: Copy>(&self, name: &CStr) -> Result<F, LibraryError> {
        const { assert!(size_of::<F>() == size_of::<*mut c_void>()) };
        let found = symbol(self.handle, name);
        if found.is_null() {
            let function = name.to_string_lossy().into_owned();
            return Err(LibraryError::Function { library: self.name.clone(), function });
        }
        // SAFETY: a function pointer and a data pointer are of one size (checked above) on the systems that have `dlsym`, and
        // the caller vouches for the type.
        Ok(unsafe { std::mem::transmute_copy(&found) })
    }
}

#[cfg(unix)]
fn open(path: &Path) -> Result<*mut c_void, String> {
    use std::os::unix::ffi::OsStrExt as _;
    let name = CString::new(path.as_os_str().as_bytes())
        .map_err(|_| format!("{}: a NUL in a path", path.display()))?;
    // SAFETY: `name` ends in NUL. Opening runs the library's initialisers, which NVIDIA's libraries may be trusted with.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    if !handle.is_null() {
        return Ok(handle);
    }
    // SAFETY: after a failure `dlerror` returns a string of this thread, or null.
    let said = unsafe { libc::dlerror() };
    if said.is_null() {
        return Err(format!("{}: cannot be opened", path.display()));
    }
    // SAFETY: the string ends in NUL and lives until the next call of this thread.
    Err(unsafe { CStr::from_ptr(said) }.to_string_lossy().into_owned())
}

#[cfg(unix)]
fn symbol(handle: *mut c_void, name: &CStr) -> *mut c_void {
    // SAFETY: `handle` came from `dlopen` and was never closed; `name` ends in NUL.
    unsafe { libc::dlsym(handle, name.as_ptr()) }
}

#[cfg(not(unix))]
fn open(path: &Path) -> Result<*mut c_void, String> {
    Err(format!("{}: libraries are opened on Unix only", path.display()))
}

#[cfg(not(unix))]
fn symbol(_: *mut c_void, _: &CStr) -> *mut c_void {
    std::ptr::null_mut()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_place_that_was_tried_is_named() {
        let wrong = [PathBuf::from("/no/such/libnvrtc.so"), PathBuf::from("libnvrtc-of-another-world.so")];
        let error = Library::first(&wrong).unwrap_err().to_string();
        assert!(error.contains("/no/such/libnvrtc.so") && error.contains("another-world"), "{error}");
        assert!(error.contains("cuda setup --nvrtc-only"), "{error}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_function_is_found_by_name_and_a_missing_one_is_an_error() {
        let libc = Library::first(&["libc.so.6".into()]).unwrap();
        type Absolute = unsafe extern "C" fn(std::ffi::c_int) -> std::ffi::c_int;
        // SAFETY: this is the type of C's `abs`.
        assert_eq!(unsafe { libc.function::<Absolute>(c"abs").unwrap()(-3) }, 3);
        // SAFETY: nothing is called.
        let missing = unsafe { libc.function::<Absolute>(c"no_such_function") };
        assert!(missing.unwrap_err().to_string().contains("no_such_function"));
    }
}
