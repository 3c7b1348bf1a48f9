//! Threads for the short work on disk of uploads.
//!
//! Not those of the runtime: each piece of an upload is handed over, and the lock of the runtime's queue, on a busy
//! machine, makes the threads that serve messages yield the processor in turn (see `archive/lock.rs`). Who waits for
//! this one sleeps.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::error::{Context, Error};

/// Syncs that wait together share a journal commit, so more would not be faster.
const THREADS: usize = 32;

type Job = Box<dyn FnOnce() + Send>;

/// The threads; they end with it.
pub(super) struct Threads {
    queue: Arc<Queue>,
}

/// Work under way. Dropped, the work goes on, and nobody is told of it.
pub(super) struct Task<T>(oneshot::Receiver<T>);

#[derive(Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl Threads {
    /// Starts them, with the priority of the calling thread.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn start() -> Result<Threads, Error> {
        let threads = Threads { queue: Arc::default() };
        for _ in 0..THREADS {
            let queue = Arc::clone(&threads.queue);
            let thread = std::thread::Builder::new().name("media-disk".into());
            thread.spawn(move || queue.work()).context("starting a thread for uploads")?;
        }
        Ok(threads)
    }

    /// Begins the work.
    pub fn begin<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Task<T> {
        let (reply, answer) = oneshot::channel();
        let job = move || {
            // Whoever waits is told of a panic by the reply that never comes.
            let done = catch_unwind(AssertUnwindSafe(work));
            let _ = done.map(|done| reply.send(done));
        };
        self.queue.lock().jobs.push_back(Box::new(job));
        self.queue.more.notify_one();
        Task(answer)
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.queue.lock().closed = true;
        self.queue.more.notify_all();
    }
}

impl<T> Task<Result<T, Error>> {
    /// What it came to; work that panicked has failed.
    ///
    /// # Errors
    /// That of the work.
    pub async fn done(&mut self) -> Result<T, Error> {
        let broken = |error| Error::Io { context: "file work".into(), source: std::io::Error::other(error) };
        (&mut self.0).await.map_err(broken)?
    }
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what comes until the end; what waits then is still done.
    fn work(&self) {
        loop {
            let waiting = self.more.wait_while(self.lock(), |waiting| waiting.jobs.is_empty() && !waiting.closed);
            let Some(job) = waiting.unwrap_or_else(PoisonError::into_inner).jobs.pop_front() else { return };
            job();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_work_is_done_and_a_panic_ends_no_thread() {
        let threads = Threads::start().expect("threads");
        for round in 0..2 * THREADS {
            let mut broken: Task<Result<(), Error>> = threads.begin(|| panic!("on purpose"));
            assert!(broken.done().await.is_err(), "{round}");
        }
        let mut tasks: Vec<_> = (0..10 * THREADS).map(|number| threads.begin(move || Ok(number))).collect();
        drop(threads);
        for (number, task) in tasks.iter_mut().enumerate() {
            assert_eq!(task.done().await.expect("done"), number);
        }
    }
}
