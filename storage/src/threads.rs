//! Threads that are given short pieces of work.
//!
//! Not those of the runtime: the lock of its queue, on a busy machine, makes the threads that serve messages yield the
//! processor in turn (see `archive/lock.rs`). Who waits for this one sleeps.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::error::{Context, Error};

type Job = Box<dyn FnOnce() + Send>;

/// The threads; they end with it.
#[derive(Debug)]
pub(crate) struct Threads {
    queue: Arc<Queue>,
}

/// Work under way. Dropped, the work goes on, and nobody is told of it.
pub(crate) struct Task<T>(oneshot::Receiver<T>);

#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    more: Condvar,
}

#[derive(Default)]
struct Waiting {
    jobs: VecDeque<Job>,
    closed: bool,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Waiting").field("jobs", &self.jobs.len()).finish_non_exhaustive()
    }
}

impl Threads {
    /// Starts so many, with the priority of the calling thread.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn start(name: &str, count: usize) -> Result<Threads, Error> {
        let threads = Threads { queue: Arc::default() };
        for _ in 0..count {
            let queue = Arc::clone(&threads.queue);
            let thread = std::thread::Builder::new().name(name.into());
            thread.spawn(move || queue.work()).context("starting a thread")?;
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

impl<T> Task<T> {
    /// What it came to; nothing if it panicked.
    pub async fn done(&mut self) -> Option<T> {
        (&mut self.0).await.ok()
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
        for count in [1, 32] {
            let threads = Threads::start("threads", count).expect("threads");
            for round in 0..2 * count {
                let mut broken: Task<()> = threads.begin(|| panic!("on purpose"));
                assert!(broken.done().await.is_none(), "{round}");
            }
            let mut tasks: Vec<_> = (0..10 * count).map(|number| threads.begin(move || number)).collect();
            drop(threads);
            for (number, task) in tasks.iter_mut().enumerate() {
                assert_eq!(task.done().await, Some(number));
            }
        }
    }
}
