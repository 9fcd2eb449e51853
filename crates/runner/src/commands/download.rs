//! How far a download is.

use std::io::{self, IsTerminal as _, Write as _};

use lab::executor::readable_bytes;
use sd_core::weights::hub::Progress;

/// How far a download is: one line that is rewritten on a terminal, a line each tenth elsewhere.
#[derive(Default)]
pub(crate) struct Bar {
    last: Option<u64>,
}

impl Bar {
    /// What a download calls.
    pub(crate) fn shown(mut self) -> impl FnMut(Progress) {
        let terminal = io::stderr().is_terminal();
        move |progress| self.show(&progress, terminal)
    }

    fn show(&mut self, progress: &Progress, terminal: bool) {
        let steps = if terminal { 1000 } else { 10 };
        let now = progress.done * steps / progress.total.max(1);
        if self.last.replace(now) == Some(now) {
            return;
        }
        let (done, total) = (readable_bytes(progress.done), readable_bytes(progress.total));
        let end = if terminal && progress.done < progress.total { '\r' } else { '\n' };
        // Nobody reading it is no reason to stop.
        let _ = write!(io::stderr(), "{}: {done} of {total}{end}", progress.path);
    }
}
