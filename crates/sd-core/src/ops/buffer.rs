//! Output buffers that are written once: no zeros are stored first.

use super::Real;

/// A vector of `len` elements, all of them written by `write`.
///
/// Zeroing first would be one more pass over memory, which for an element-wise op is a third of its traffic. With debug
/// assertions the buffer is filled with NaN first, so that a test sees an element that was left out.
///
/// # Safety
/// `write` stores into every element of the slice, and reads an element only after it stored it.
pub(crate) unsafe fn written<T: Real>(len: usize, write: impl FnOnce(&mut [T])) -> Vec<T> {
    let mut buffer: Vec<T> = Vec::with_capacity(len);
    if cfg!(debug_assertions) {
        buffer.resize(len, T::from_f64(f64::NAN));
    }
    // SAFETY: the capacity is `len`, and T is f32 or f64, which need no drop. The caller promises that all is written and that
    // nothing is read before. The slice refers to memory without values until then, which `set_len` asks not to be: this
    // assumes, as the language does today though it promises nothing, that such a slice may exist as long as it is only written.
    unsafe { buffer.set_len(len) };
    write(&mut buffer);
    buffer
}
