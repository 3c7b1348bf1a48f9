//! How many fetches run at the same time, in all and for one tenant.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

/// Places for fetches.
pub(super) struct Places {
    in_all: u32,
    for_tenant: usize,
    all: Semaphore,
    tenants: Mutex<HashMap<String, Arc<Semaphore>>>,
}

/// A place that is taken for as long as this lives.
pub(super) struct Place<'a> {
    _own: OwnedSemaphorePermit,
    _shared: SemaphorePermit<'a>,
}

impl Places {
    /// So many, and of those so many for one tenant.
    pub fn new(in_all: u32, for_tenant: usize) -> Places {
        Places { in_all, for_tenant, all: Semaphore::new(in_all as usize), tenants: Mutex::default() }
    }

    /// Waits for a place among the tenant's and then among all, so that no tenant's queue holds up another's.
    pub async fn take(&self, tenant: &str) -> Option<Place<'_>> {
        let own = {
            let mut tenants = self.tenants.lock().unwrap_or_else(PoisonError::into_inner);
            let own = tenants.entry(tenant.to_owned()).or_insert_with(|| Arc::new(Semaphore::new(self.for_tenant)));
            Arc::clone(own)
        };
        let own = own.acquire_owned().await.ok()?;
        Some(Place { _own: own, _shared: self.all.acquire().await.ok()? })
    }

    /// Waits until no place is taken, and lets none be taken any more.
    pub async fn close(&self) {
        if let Ok(places) = self.all.acquire_many(self.in_all).await {
            places.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// A place, if there is one at once.
    fn take<'a>(places: &'a Places, tenant: &str) -> Option<Place<'a>> {
        places.take(tenant).now_or_never().flatten()
    }

    #[tokio::test]
    async fn no_tenant_takes_all_places() {
        let places = Places::new(3, 2);
        let own = [take(&places, "acme"), take(&places, "acme")];
        assert!(own.iter().all(Option::is_some));
        assert!(take(&places, "acme").is_none());
        let other = take(&places, "other");
        assert!(other.is_some() && take(&places, "other").is_none(), "all three are taken");
        drop(own);
        assert!(take(&places, "other").is_some());
    }

    #[tokio::test]
    async fn closing_waits_for_all() {
        let places = Places::new(2, 1);
        let taken = take(&places, "acme");
        assert!(taken.is_some() && places.close().now_or_never().is_none());
        drop(taken);
        places.close().await;
        assert!(take(&places, "acme").is_none());
    }
}
