//! A thread of normal priority for what the background does under the sequencer's lock.
//!
//! Whoever holds the lock holds up ingest. A thread of lower priority that is put off while it holds it, because the
//! processors have better things to do, would hold it up for tens of milliseconds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Sender, channel};

use tokio::sync::oneshot;

use crate::error::{Context, Error};

type Job = Box<dyn FnOnce() + Send>;

/// The way to it; the thread ends with the last one.
#[derive(Clone, Debug)]
pub(crate) struct Foreground(Sender<Job>);

impl Foreground {
    /// Begins one with the priority of the calling thread.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn start() -> Result<Foreground, Error> {
        let (jobs, waiting) = channel::<Job>();
        let work = move || waiting.into_iter().for_each(|job| job());
        std::thread::Builder::new().name("sequencer".into()).spawn(work).context("starting a thread")?;
        Ok(Foreground(jobs))
    }

    /// Does this there, after what was asked for before.
    ///
    /// # Errors
    /// `Closed` when it panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let job = move || {
            // Whoever waits is told by the reply that never comes, and the others are not bereft of the thread.
            let done = catch_unwind(AssertUnwindSafe(work));
            let _ = done.map(|done| reply.send(done));
        };
        self.0.send(Box::new(job)).map_err(|_| Error::Closed)?;
        answer.await.map_err(|_| Error::Closed)
    }
}
