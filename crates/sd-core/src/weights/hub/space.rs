//! Room on the disk.

use std::path::Path;

/// Bytes that may still be written below `folder`; none where the system does not say.
#[cfg(unix)]
pub(super) fn free(folder: &Path) -> Option<u64> {
    use std::os::unix::ffi::OsStrExt as _;
    let path = std::ffi::CString::new(folder.as_os_str().as_bytes()).ok()?;
    let mut about = std::mem::MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: the path is a C string and the second argument points to room for the structure.
    let result = unsafe { libc::statvfs(path.as_ptr(), about.as_mut_ptr()) };
    if result != 0 {
        return None;
    }
    // SAFETY: the call succeeded, so the structure is filled.
    let about = unsafe { about.assume_init() };
    // Their types differ between systems.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    Some((about.f_bavail as u64).saturating_mul(about.f_frsize as u64))
}

/// The system is not asked.
#[cfg(not(unix))]
pub(super) fn free(_folder: &Path) -> Option<u64> {
    None
}
