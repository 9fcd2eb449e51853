//! The local executor: at most `jobs` processes at a time, in the order of the plan.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use super::process::{self, Event, Running};
use super::{Failure, Plan, RunOptions};
use crate::progress::Progress;
use crate::signals::Signals;

/// How long a child has to end after it was asked to, before it is killed.
const GRACE: Duration = Duration::from_secs(5);
/// How often the time left is shown anew.
const TICK: Duration = Duration::from_millis(500);

/// How the pool ended.
#[derive(Debug, Default)]
pub(crate) struct PoolOutcome {
    /// Trials that were run to their `DONE`.
    pub(crate) ran: usize,
    /// Trials that failed.
    pub(crate) failures: Vec<Failure>,
    /// A signal stopped it.
    pub(crate) interrupted: bool,
}

/// Runs every trial of [`Plan::todo`].
pub(crate) fn run_pool(
    plan: &mut Plan,
    options: &RunOptions,
    progress: &mut Progress,
) -> anyhow::Result<PoolOutcome> {
    let (sender, receiver) = channel();
    let signals = Signals::listen(sender.clone())?;
    let waiting = plan.todo().into();
    let mut pool = Pool {
        plan,
        options,
        progress,
        waiting,
        running: Vec::new(),
        outcome: PoolOutcome::default(),
        stopping: None,
    };
    let ended = pool.work(&sender, &receiver);
    // Where the pool itself failed no child may outlive it.
    pool.running.iter_mut().for_each(Running::kill);
    signals.close();
    ended.map(|()| pool.outcome)
}

struct Pool<'a> {
    plan: &'a mut Plan,
    options: &'a RunOptions,
    progress: &'a mut Progress,
    waiting: VecDeque<usize>,
    running: Vec<Running>,
    outcome: PoolOutcome,
    /// Since when the children are being asked to stop.
    stopping: Option<Instant>,
}

impl Pool<'_> {
    fn work(&mut self, sender: &Sender<Event>, receiver: &Receiver<Event>) -> anyhow::Result<()> {
        loop {
            self.fill(sender)?;
            if self.running.is_empty() {
                return Ok(());
            }
            match receiver.recv_timeout(TICK) {
                Ok(event) => self.hear(event),
                Err(RecvTimeoutError::Timeout) => self.progress.tick(),
                Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the children's channel closed"),
            }
            self.kill_late();
        }
    }

    /// Starts trials while there is room.
    fn fill(&mut self, sender: &Sender<Event>) -> anyhow::Result<()> {
        while self.running.len() < self.options.jobs.max(1) && self.stopping.is_none() {
            let Some(at) = self.waiting.pop_front() else { break };
            let trial = &self.plan.trials[at];
            self.running.push(process::start(at, trial, self.options, sender)?);
            self.progress.started(at, &trial.spec.label());
        }
        Ok(())
    }

    fn hear(&mut self, event: Event) {
        match event {
            Event::Progress { at, fraction, message } => self.progress.advanced(at, fraction, &message),
            Event::Ended { at } => self.ended(at),
            Event::Signal if self.outcome.interrupted => self.running.iter_mut().for_each(Running::kill),
            Event::Signal => {
                self.outcome.interrupted = true;
                self.progress
                    .note("stopping: the running trials are ended; a second signal ends them at once");
                self.stop();
            }
        }
    }

    /// No further trial starts; those that run are asked to end.
    fn stop(&mut self) {
        self.stopping.get_or_insert_with(Instant::now);
        self.waiting.clear();
        self.running.iter_mut().for_each(Running::ask_to_stop);
    }

    fn ended(&mut self, at: usize) {
        let Some(place) = self.running.iter().position(|running| running.at == at) else { return };
        let status = self.running.swap_remove(place).wait();
        let trial = &mut self.plan.trials[at];
        trial.look();
        if trial.done.is_some() {
            self.outcome.ran += 1;
            self.progress.finished(at);
            return;
        }
        // A trial that we stopped ourselves has not failed.
        if self.stopping.is_some() {
            return;
        }
        let why = process::reason(status, &trial.folder);
        let log = trial.folder.join("log.txt");
        let failure = Failure { key: trial.key.clone(), label: trial.spec.label(), why, log };
        self.progress.failed(at, &failure);
        self.outcome.failures.push(failure);
        if self.options.fail_fast {
            self.stop();
        }
    }

    fn kill_late(&mut self) {
        if self.stopping.is_some_and(|since| since.elapsed() > GRACE) {
            self.running.iter_mut().for_each(Running::kill);
        }
    }
}
