//! Memory of queries: one pool for all, and a cap for each that forwards to it.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{
    FairSpillPool, MemoryConsumer, MemoryLimit, MemoryPool, MemoryReservation, human_readable_size,
};
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};

/// Bytes on disk that queries may spill to.
const SPILL_BYTES: u64 = 8 << 30;

/// The environment that all queries share, from which each gets its own with a memory cap.
pub(crate) struct Environment {
    shared: Arc<RuntimeEnv>,
    bytes_for_one: usize,
}

impl Environment {
    pub(crate) fn new(bytes: usize) -> Environment {
        let builder = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(bytes)))
            .with_max_temp_directory_size(SPILL_BYTES);
        let shared = builder.build_arc().expect("an environment in memory, whose spill directory is made on first use");
        Environment { shared, bytes_for_one: bytes / 2 }
    }

    pub(crate) fn runtime(&self) -> &Arc<RuntimeEnv> {
        &self.shared
    }

    /// Shares everything but the memory accounting.
    pub(crate) fn for_one_query(&self) -> Result<Arc<RuntimeEnv>> {
        let pool = QueryPool {
            shared: Arc::clone(&self.shared.memory_pool),
            bytes: self.bytes_for_one,
            used: AtomicUsize::new(0),
        };
        RuntimeEnvBuilder::from_runtime_env(&self.shared).with_memory_pool(Arc::new(pool)).build_arc()
    }
}

/// One query's part of the shared pool.
#[derive(Debug)]
struct QueryPool {
    shared: Arc<dyn MemoryPool>,
    bytes: usize,
    used: AtomicUsize,
}

impl Display for QueryPool {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "one query (used: {} of {})",
            human_readable_size(self.reserved()),
            human_readable_size(self.bytes)
        )
    }
}

impl MemoryPool for QueryPool {
    fn name(&self) -> &str {
        "query"
    }

    fn register(&self, consumer: &MemoryConsumer) {
        self.shared.register(consumer);
    }

    fn unregister(&self, consumer: &MemoryConsumer) {
        self.shared.unregister(consumer);
    }

    fn grow(&self, reservation: &MemoryReservation, additional: usize) {
        self.used.fetch_add(additional, Ordering::Relaxed);
        self.shared.grow(reservation, additional);
    }

    fn shrink(&self, reservation: &MemoryReservation, shrink: usize) {
        self.used.fetch_sub(shrink, Ordering::Relaxed);
        self.shared.shrink(reservation, shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        let used = self.used.fetch_add(additional, Ordering::Relaxed);
        let outcome = if used + additional > self.bytes {
            Err(DataFusionError::ResourcesExhausted(format!(
                "at most {} for one query",
                human_readable_size(self.bytes)
            )))
        } else {
            self.shared.try_grow(reservation, additional)
        };
        if outcome.is_err() {
            self.used.fetch_sub(additional, Ordering::Relaxed);
        }
        outcome
    }

    fn reserved(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_query_may_not_take_everything() {
        let environment = Environment::new(1000);
        let first = environment.for_one_query().expect("an environment");
        let reservation = MemoryConsumer::new("test").register(&first.memory_pool);
        reservation.try_grow(500).expect("its half");
        assert!(reservation.try_grow(1).is_err());
        let second = environment.for_one_query().expect("an environment");
        let other = MemoryConsumer::new("test").register(&second.memory_pool);
        other.try_grow(500).expect("the other half");
        drop(reservation);
        assert_eq!(first.memory_pool.reserved(), 0);
        assert_eq!(environment.shared.memory_pool.reserved(), 500);
    }
}
