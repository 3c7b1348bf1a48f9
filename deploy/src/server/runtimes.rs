//! Three runtimes: one that serves, and two of lower priority for SQL, so that a heavy query never costs a sender time.

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use trunklog_query::Workers;
use trunklog_storage::priority::{be_idle, be_nice};

use crate::error::Error;

/// Threads for the short work on disk that requests wait for; each has a heap and a stack of its own.
const DISK_THREADS: usize = 64;

/// For requests, and for the archive's own tasks.
pub fn serving() -> Result<Runtime, Error> {
    build(Builder::new_multi_thread().thread_name("serving").max_blocking_threads(DISK_THREADS))
}

/// For SQL and other work that may take all cores.
pub struct Background {
    /// Its threads give way to others, and get their share.
    pub lower: Runtime,
    /// Its threads run when no others want to.
    idle: Runtime,
}

impl Background {
    /// Begins the threads.
    pub fn start() -> Result<Background, Error> {
        let lower = build(Builder::new_multi_thread().thread_name("background").on_thread_start(be_nice))?;
        let idle = build(Builder::new_multi_thread().thread_name("idle").on_thread_start(be_idle))?;
        Ok(Background { lower, idle })
    }

    /// For queries.
    pub fn workers(&self) -> Workers {
        Workers::new(self.idle.handle().clone(), self.lower.handle().clone())
    }

    /// Ends the threads; what runs on them has a moment to end.
    pub fn shutdown(self, patience: Duration) {
        self.idle.shutdown_timeout(patience);
        self.lower.shutdown_timeout(patience);
    }
}

fn build(builder: &mut Builder) -> Result<Runtime, Error> {
    builder.enable_all().build().map_err(Error::io("starting threads"))
}

#[cfg(test)]
mod tests {
    use thread_priority::{NormalThreadSchedulePolicy, ThreadSchedulePolicy, thread_schedule_policy};
    use trunklog_storage::priority::NICENESS;

    use super::*;

    #[test]
    fn sql_gets_the_processor_when_no_others_want_it() {
        let background = Background::start().expect("threads");
        let policy = || thread_schedule_policy().expect("a policy");
        let workers = background.workers();
        let found = background.lower.block_on(async {
            let worker = workers.handle().spawn(async move { policy() }).await;
            let blocking = workers.handle().spawn_blocking(policy).await;
            [worker, blocking].map(|policy| policy.expect("the task ends"))
        });
        assert_eq!(found, [ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle); 2]);
        let niceness = || rustix::process::getpriority_process(None).expect("a niceness");
        let nice = background.lower.block_on(background.lower.spawn(async move { (policy(), niceness()) }));
        let other = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Other);
        assert_eq!(nice.expect("the task ends"), (other, NICENESS));
        background.shutdown(Duration::from_secs(1));
    }
}
