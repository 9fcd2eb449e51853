//! What is done where a device has no memory left: wait, give back what the pool holds, try once more, then say what is
//! missing.

/// How much memory was asked for and is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortage {
    pub(crate) asked: usize,
    pub(crate) free: usize,
    pub(crate) total: usize,
}

impl std::fmt::Display for Shortage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [asked, free, total] = [self.asked, self.free, self.total].map(readable);
        write!(
            f,
            "out of memory: {asked} were asked for, {free} of the GPU's {total} are free\n  \
             help: a smaller batch, f16 or bf16 instead of f32, or another program on this GPU ended"
        )
    }
}

fn readable(bytes: usize) -> String {
    const UNITS: [(usize, &str); 3] = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    let unit = UNITS.iter().find(|(shift, _)| bytes >> shift > 0);
    unit.map_or_else(
        || format!("{bytes} bytes"),
        |(shift, name)| format!("{:.1} {name}", bytes as f64 / (1u64 << shift) as f64),
    )
}

/// `attempt`, and where it fails for want of memory once more after `relieve`.
pub(crate) fn retried<T, E>(
    mut attempt: impl FnMut() -> Result<T, E>,
    wants_memory: impl Fn(&E) -> bool,
    relieve: impl FnOnce(),
) -> Result<T, E> {
    match attempt() {
        Err(error) if wants_memory(&error) => {
            relieve();
            attempt()
        }
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A device with so many bytes, of which some are held by a pool until it is trimmed.
    struct Limited {
        free: Cell<usize>,
        pooled: Cell<usize>,
        attempts: Cell<usize>,
    }

    impl Limited {
        fn allocate(&self, bytes: usize) -> Result<usize, &'static str> {
            self.attempts.set(self.attempts.get() + 1);
            if bytes <= self.free.get() { Ok(bytes) } else { Err("no memory") }
        }

        fn ask(&self, bytes: usize) -> Result<usize, &'static str> {
            retried(
                || self.allocate(bytes),
                |error| *error == "no memory",
                || self.free.set(self.free.get() + self.pooled.take()),
            )
        }
    }

    #[test]
    fn what_the_pool_holds_is_given_back_before_giving_up() {
        let device = Limited { free: Cell::new(10), pooled: Cell::new(20), attempts: Cell::new(0) };
        assert_eq!((device.ask(10), device.attempts.get()), (Ok(10), 1));
        assert_eq!((device.ask(25), device.attempts.get()), (Ok(25), 3));
        assert_eq!((device.ask(31), device.attempts.get()), (Err("no memory"), 5));
    }

    #[test]
    fn another_failure_is_not_tried_again() {
        let count = Cell::new(0);
        let fail = || {
            count.set(count.get() + 1);
            Err::<(), _>("broken")
        };
        assert!(retried(fail, |error| *error == "no memory", || count.set(100)).is_err());
        assert_eq!(count.get(), 1);
    }

    #[test]
    fn the_message_says_how_much_and_what_to_do() {
        let told = Shortage { asked: 3 << 30, free: 512 << 20, total: 139 << 30 }.to_string();
        assert!(told.contains("3.0 GiB were asked for, 512.0 MiB of the GPU's 139.0 GiB"), "{told}");
        assert!(told.contains("smaller batch"), "{told}");
        assert_eq!(readable(5), "5 bytes");
    }
}
