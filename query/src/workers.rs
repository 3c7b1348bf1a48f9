//! Where queries run: on threads that run when no others want to, unless these do not come to run at all.
//!
//! A thread of normal priority that wakes takes the processor from an idle one (`SCHED_IDLE`, sched(7)) at once; from
//! one that is merely nice it may wait for a slice of some milliseconds. But on a busy processor idle threads get next
//! to nothing, and an answer that never comes is no answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

/// How often the idle threads show that they run.
const BEAT: Duration = Duration::from_millis(100);
/// Without a beat for so long they are starved.
const STARVED: Duration = Duration::from_secs(1);

/// Two runtimes, one of which a query runs on.
#[derive(Clone, Debug)]
pub struct Workers {
    idle: Handle,
    lower: Handle,
    began: Instant,
    /// When the idle threads last ran, in milliseconds since `began`.
    last_beat: Arc<AtomicU64>,
}

impl Workers {
    /// Queries run on `idle`, and on `lower` when `idle` does not come to run.
    pub fn new(idle: Handle, lower: Handle) -> Workers {
        let (began, last_beat) = (Instant::now(), Arc::new(AtomicU64::new(0)));
        let kept = Arc::downgrade(&last_beat);
        idle.spawn(async move {
            while let Some(last_beat) = kept.upgrade() {
                last_beat.store(millis(began.elapsed()), Ordering::Relaxed);
                drop(last_beat);
                tokio::time::sleep(BEAT).await;
            }
        });
        Workers { idle, lower, began, last_beat }
    }

    /// The runtime for what begins now.
    pub fn handle(&self) -> &Handle {
        let silent = millis(self.began.elapsed()).saturating_sub(self.last_beat.load(Ordering::Relaxed));
        if silent < millis(STARVED) { &self.idle } else { &self.lower }
    }
}

impl From<Handle> for Workers {
    /// Everything runs on this one.
    fn from(handle: Handle) -> Workers {
        Workers::new(handle.clone(), handle)
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    fn runtime() -> std::io::Result<Runtime> {
        Builder::new_multi_thread().worker_threads(1).enable_all().build()
    }

    #[test]
    fn who_is_starved_gets_no_more_work_until_it_runs_again() -> Result<(), Box<dyn std::error::Error>> {
        let (idle, lower) = (runtime()?, runtime()?);
        let workers = Workers::new(idle.handle().clone(), lower.handle().clone());
        assert_eq!(workers.handle().id(), idle.handle().id());
        let (release, held) = std::sync::mpsc::channel::<()>();
        let holding = idle.spawn(async move { held.recv().is_err() });
        let goes_to = |wanted: &Runtime| {
            let until = Instant::now() + Duration::from_secs(20);
            while workers.handle().id() != wanted.handle().id() {
                assert!(Instant::now() < until, "work goes to the wrong threads");
                std::thread::sleep(Duration::from_millis(20));
            }
        };
        goes_to(&lower);
        drop(release);
        assert!(lower.block_on(holding)?);
        goes_to(&idle);
        Ok(())
    }
}
