//! How many queries run and wait, all together and for one tenant.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::error::QueryError;

/// How long a query waits for a place.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lets a fixed number of queries run and a fixed number wait; the rest is refused at once. One tenant may hold half
/// of the places and half of the queue.
pub(crate) struct Gate {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
    places_for_one: usize,
    queue_for_one: usize,
    shares: Mutex<HashMap<Option<Arc<str>>, Arc<Share>>>,
}

/// What one tenant, or all administrators, hold.
struct Share {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
}

/// A place to run, held as long as the query runs.
pub(crate) struct Permit {
    _place: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _share: Arc<Share>,
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
        let places = places.max(1);
        Gate {
            places: Arc::new(Semaphore::new(places)),
            waiting: AtomicUsize::new(0),
            queue,
            places_for_one: (places / 2).max(1),
            queue_for_one: queue - queue / 2,
            shares: Mutex::new(HashMap::new()),
        }
    }

    /// A permit to run for this tenant, or for an administrator.
    pub(crate) async fn enter(&self, tenant: Option<&Arc<str>>) -> Result<Permit, QueryError> {
        let share = self.share(tenant);
        if let Ok(own) = Arc::clone(&share.places).try_acquire_owned()
            && let Ok(place) = Arc::clone(&self.places).try_acquire_owned()
        {
            return Ok(Permit { _place: place, _own: own, _share: share });
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        let own_before = share.waiting.fetch_add(1, Ordering::Relaxed);
        let _own_waiting = Waiting(&share.waiting);
        if before >= self.queue || own_before >= self.queue_for_one {
            return Err(QueryError::Busy);
        }
        let permits = timeout(PATIENCE, self.both(&share)).await.map_err(|_| QueryError::Busy)?;
        let (own, place) = permits.map_err(|error| QueryError::Internal(error.to_string()))?;
        Ok(Permit { _place: place, _own: own, _share: Arc::clone(&share) })
    }

    /// The tenant's own place first: who waits for that stands in nobody else's way.
    async fn both(&self, share: &Share) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), AcquireError> {
        let own = Arc::clone(&share.places).acquire_owned().await?;
        let place = Arc::clone(&self.places).acquire_owned().await?;
        Ok((own, place))
    }

    fn share(&self, tenant: Option<&Arc<str>>) -> Arc<Share> {
        let mut shares = self.shares.lock();
        // Those of whom nothing runs or waits need not be remembered.
        shares.retain(|_, share| Arc::strong_count(share) > 1);
        let share = shares.entry(tenant.cloned()).or_insert_with(|| {
            Arc::new(Share { places: Arc::new(Semaphore::new(self.places_for_one)), waiting: AtomicUsize::new(0) })
        });
        Arc::clone(share)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn refuses_what_does_not_fit_in_the_queue() {
        let gate = Arc::new(Gate::new(1, 1));
        let first = gate.enter(None).await.expect("runs");
        let second = tokio::spawn({
            let gate = Arc::clone(&gate);
            async move { gate.enter(None).await.map(drop) }
        });
        while gate.waiting.load(Ordering::Relaxed) == 0 {
            tokio::task::yield_now().await;
        }
        assert!(matches!(gate.enter(None).await, Err(QueryError::Busy)));
        drop(first);
        second.await.expect("no panic").expect("gets its turn");
        assert_eq!(gate.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test]
    async fn one_tenant_leaves_places_to_others() {
        let gate = Gate::new(4, 0);
        let (acme, other): (Arc<str>, Arc<str>) = (Arc::from("acme"), Arc::from("other"));
        let held = (gate.enter(Some(&acme)).await.expect("runs"), gate.enter(Some(&acme)).await.expect("runs"));
        assert!(matches!(gate.enter(Some(&acme)).await, Err(QueryError::Busy)));
        let _others = gate.enter(Some(&other)).await.expect("runs");
        drop(held);
        gate.enter(Some(&acme)).await.expect("runs again");
    }
}
