//! SIGINT, SIGTERM and SIGHUP become events of the pool while it works; before and after, they do what they always do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals as Incoming};

use crate::executor::Event;

const ASK_TO_STOP: [i32; 3] = [SIGINT, SIGTERM, SIGHUP];

/// Listens until closed.
pub(crate) struct Signals {
    handle: Handle,
    thread: JoinHandle<()>,
}

impl Signals {
    /// Sends [`Event::Signal`] for every signal that asks to stop.
    pub(crate) fn listen(events: Sender<Event>) -> std::io::Result<Signals> {
        default_action().store(false, Ordering::SeqCst);
        let mut incoming = Incoming::new(ASK_TO_STOP)?;
        let handle = incoming.handle();
        let thread = std::thread::spawn(move || {
            for _ in incoming.forever() {
                if events.send(Event::Signal).is_err() {
                    break;
                }
            }
        });
        Ok(Signals { handle, thread })
    }

    /// Stops listening.
    pub(crate) fn close(self) {
        self.handle.close();
        // The thread only forwards; where it panicked there is nothing left to forward.
        let _ = self.thread.join();
        default_action().store(true, Ordering::SeqCst);
    }
}

/// Whether a signal ends the process at once, as it does in a program that handles none. Once handled, the system does not
/// go back to that by itself.
fn default_action() -> &'static AtomicBool {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    FLAG.get_or_init(|| {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in ASK_TO_STOP {
            // Where this fails the signal is merely ignored once the pool has ended.
            let _ = signal_hook::flag::register_conditional_default(signal, flag.clone());
        }
        flag
    })
}
