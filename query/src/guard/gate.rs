//! How many queries run and wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

use crate::error::QueryError;

/// Lets a fixed number of queries run and a fixed number wait; the rest is refused at once.
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
}

/// A place in the queue, given back when dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Gate {
    pub(crate) fn new(places: usize, queue: usize) -> Gate {
        Gate { places: Arc::new(Semaphore::new(places.max(1))), waiting: AtomicUsize::new(0), queue }
    }

    /// A permit to run, held as long as the query runs.
    pub(crate) async fn enter(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, QueryError> {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(permit);
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.queue {
            return Err(QueryError::Busy);
        }
        let permit = timeout_at(deadline, Arc::clone(&self.places).acquire_owned()).await;
        permit.map_err(|_| QueryError::Busy)?.map_err(|error| QueryError::Internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn refuses_what_does_not_fit_in_the_queue() {
        let gate = Arc::new(Gate::new(1, 1));
        let soon = || Instant::now() + Duration::from_secs(5);
        let first = gate.enter(soon()).await.expect("runs");
        let second = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter(soon()).await.map(drop) }
        });
        while gate.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(gate.enter(soon()).await, Err(QueryError::Busy)));
        drop(first);
        second.await.expect("no panic").expect("gets its turn");
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }
}
