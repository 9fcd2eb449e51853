//! Injected failures of the disk, for tests: "the n-th step from now fails". Costs nothing outside tests.

use std::fs::File;
use std::io::{self, Write};

/// A file whose every write is a step that can be made to fail.
pub(crate) struct Counted(pub(crate) File);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        step()?;
        self.0.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(not(test))]
#[inline]
pub(crate) fn step() -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
pub(crate) use injected::{fail_at, step};

#[cfg(test)]
mod injected {
    use std::cell::Cell;
    use std::io;

    thread_local! {
        static LEFT: Cell<Option<(usize, io::ErrorKind)>> = const { Cell::new(None) };
    }

    /// Lets step `n` (from 0) on this thread fail with `kind`, once; `None` lets all succeed.
    pub(crate) fn fail_at(fault: Option<(usize, io::ErrorKind)>) {
        LEFT.set(fault);
    }

    pub(crate) fn step() -> io::Result<()> {
        match LEFT.get() {
            Some((0, kind)) => {
                LEFT.set(None);
                Err(io::Error::new(kind, "injected by a test"))
            }
            Some((left, kind)) => {
                LEFT.set(Some((left - 1, kind)));
                Ok(())
            }
            None => Ok(()),
        }
    }
}
