//! Threads for compaction, which run when no others want the processor (`SCHED_IDLE`, sched(7)).
//!
//! On a busy machine they get next to nothing. What then takes too long, or is waited for, is given up and done again at
//! the priority of folds: it changes nothing until it commits.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::background::DISK_THREADS;
use crate::error::{Context, Error};
use crate::priority::be_idle;

/// So long a piece of work may take at idle priority: a day of calls takes seconds on a machine that has time for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The threads themselves.
pub(super) fn runtime() -> Result<Runtime, Error> {
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).thread_name("compaction").max_blocking_threads(DISK_THREADS).on_thread_start(be_idle);
    builder.enable_all().build().context("starting threads for compaction")
}

/// Where work of idle priority is given.
#[derive(Clone, Debug)]
pub(crate) struct Idle {
    threads: Handle,
    /// How many wait for work that may be under way.
    waiting: watch::Sender<usize>,
}

/// As long as it lives somebody waits.
pub(super) struct Waiting<'a>(&'a Idle);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|waiting| *waiting -= 1);
    }
}

impl Idle {
    pub fn of(runtime: &Runtime) -> Idle {
        Idle { threads: runtime.handle().clone(), waiting: watch::Sender::default() }
    }

    /// Somebody waits for what runs now or begins meanwhile.
    pub fn wait(&self) -> Waiting<'_> {
        self.waiting.send_modify(|waiting| *waiting += 1);
        Waiting(self)
    }

    /// Does the work, at idle priority for as long as nobody waits for it.
    ///
    /// # Errors
    /// Those of the work.
    pub async fn run<T, F>(&self, work: impl Fn() -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let mut waiting = self.waiting.subscribe();
        if *waiting.borrow_and_update() == 0 {
            let running = AbortOnDropHandle::new(self.threads.spawn(work()));
            tokio::select! {
                done = running => return ended(done),
                _ = waiting.wait_for(|waiting| *waiting > 0) => (),
                () = tokio::time::sleep(PATIENCE) => {
                    tracing::info!("compaction is starved at idle priority; it goes on at that of folds");
                }
            }
        }
        ended(AbortOnDropHandle::new(tokio::spawn(work())).await)
    }
}

fn ended<T>(done: Result<Result<T, Error>, tokio::task::JoinError>) -> Result<T, Error> {
    done.map_err(|broken| Error::Corrupt(format!("compaction broke off: {broken}")))?
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use thread_priority::{NormalThreadSchedulePolicy, ThreadSchedulePolicy, thread_schedule_policy};

    use super::*;

    fn is_idle() -> bool {
        thread_schedule_policy().expect("a policy") == ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle)
    }

    #[test]
    fn work_is_idle_unless_it_is_waited_for() {
        let (threads, others) =
            (runtime().expect("threads"), Builder::new_multi_thread().enable_all().build().expect("threads"));
        let idle = Idle::of(&threads);
        others.block_on(async {
            assert!(idle.run(|| async { Ok(is_idle()) }).await.expect("done"));
            let waiting = idle.wait();
            assert!(!idle.run(|| async { Ok(is_idle()) }).await.expect("done"));
            drop(waiting);
            let begun = Arc::new(AtomicU32::new(0));
            let stuck = || {
                let begun = Arc::clone(&begun);
                async move {
                    begun.fetch_add(1, Ordering::SeqCst);
                    if is_idle() {
                        std::future::pending::<()>().await;
                    }
                    Ok(is_idle())
                }
            };
            let hurried = async {
                while begun.load(Ordering::SeqCst) == 0 {
                    tokio::task::yield_now().await;
                }
                idle.wait()
            };
            let (was_idle, _waiting) = tokio::join!(idle.run(stuck), hurried);
            assert!(!was_idle.expect("done"));
            assert_eq!(begun.load(Ordering::SeqCst), 2, "it was given up and done again");
        });
    }
}
