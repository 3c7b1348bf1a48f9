//! A thread of normal priority for what the background does under the sequencer's lock.
//!
//! Whoever holds the lock holds up ingest. A thread of lower priority that is put off while it holds it, because the
//! processors have better things to do, would hold it up for tens of milliseconds.

use std::sync::Arc;

use crate::error::Error;
use crate::threads::Threads;

/// The way to it; the thread ends with the last one.
#[derive(Clone, Debug)]
pub(crate) struct Foreground(Arc<Threads>);

impl Foreground {
    /// Begins one with the priority of the calling thread.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn start() -> Result<Foreground, Error> {
        Ok(Foreground(Arc::new(Threads::start("sequencer", 1)?)))
    }

    /// Does this there, after what was asked for before.
    ///
    /// # Errors
    /// `Closed` when it panicked.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        self.0.begin(work).done().await.ok_or(Error::Closed)
    }
}
