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
        Threads::each(name, 0..count, |_| ())
    }

    /// Starts one for each processor that the process may use, which it stays on where the system lets it.
    ///
    /// # Errors
    /// If the system has no more threads.
    pub fn one_for_each_processor(name: &str) -> Result<Threads, Error> {
        Threads::each(name, processors(), stay_on)
    }

    fn each<P: Send + 'static>(
        name: &str,
        places: impl IntoIterator<Item = P>,
        begin: fn(P),
    ) -> Result<Threads, Error> {
        let threads = Threads { queue: Arc::default() };
        for place in places {
            let queue = Arc::clone(&threads.queue);
            let thread = std::thread::Builder::new().name(name.into());
            let work = move || {
                begin(place);
                queue.work();
            };
            thread.spawn(work).context("starting a thread")?;
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

/// The processors that the calling thread may use, by their numbers.
#[cfg(target_os = "linux")]
fn processors() -> Vec<usize> {
    let may_use = rustix::thread::sched_getaffinity(None).unwrap_or_else(|_| rustix::thread::CpuSet::new());
    let numbers: Vec<usize> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|number| may_use.is_set(*number)).collect();
    if numbers.is_empty() { (0..count_processors()).collect() } else { numbers }
}

#[cfg(not(target_os = "linux"))]
fn processors() -> Vec<usize> {
    (0..count_processors()).collect()
}

fn count_processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The calling thread runs on this processor only; that it does not costs time, nothing else.
#[cfg(target_os = "linux")]
fn stay_on(processor: usize) {
    let mut only = rustix::thread::CpuSet::new();
    only.set(processor);
    if let Err(error) = rustix::thread::sched_setaffinity(None, &only) {
        tracing::debug!(%error, processor, "a thread stays on no processor");
    }
}

#[cfg(not(target_os = "linux"))]
fn stay_on(_: usize) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn all_work_is_done_and_a_panic_ends_no_thread() {
        let each = Threads::one_for_each_processor("threads").expect("threads");
        let fixed = [1, 32].map(|count| (count, Threads::start("threads", count).expect("threads")));
        for (count, threads) in fixed.into_iter().chain([(processors().len(), each)]) {
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
