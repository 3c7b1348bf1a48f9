//! Claims: one upload of a recording at a time, so that a repeat sees what the first one came to.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// The recordings that are claimed or waited for.
#[derive(Default)]
pub(super) struct Claims {
    locks: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
}

/// The sole right to store one recording; given back on drop.
pub struct Claim {
    claims: Arc<Claims>,
    recording_id: String,
    lock: Arc<AsyncMutex<()>>,
    /// `None` while it waits.
    guard: Option<OwnedMutexGuard<()>>,
}

impl Claims {
    pub(super) async fn take(claims: &Arc<Claims>, recording_id: &str) -> Claim {
        let lock = Arc::clone(claims.locks.lock().entry(recording_id.to_owned()).or_default());
        // Made before it waits: one that is given up while waiting is cleaned up as well.
        let mut claim = Claim { claims: Arc::clone(claims), recording_id: recording_id.to_owned(), lock, guard: None };
        let guard = Arc::clone(&claim.lock).lock_owned().await;
        claim.guard = Some(guard);
        claim
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.locks.lock().len()
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut locks = self.claims.locks.lock();
        drop(self.guard.take());
        // Two holders are the map and this claim: new ones come only through the map, which is locked.
        if Arc::strong_count(&self.lock) == 2 {
            locks.remove(&self.recording_id);
        }
    }
}
