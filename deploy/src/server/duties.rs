//! What every node does besides answering: look for changes of what nodes share; and what only the one does that folds:
//! recordings are looked at, calls and recordings linked, links of others fetched that were left.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use trunklog_ingest::fetch::FetchQueue;
use trunklog_query::{QueryEngine, QueryState};
use trunklog_storage::error::Error as StorageError;
use trunklog_storage::linker;
use trunklog_storage::media::keeper;
use trunklog_storage::partitions::Partitions;

use super::fetches;

/// How soon keys and links that were changed on one node hold on the others.
const LOOK: Duration = Duration::from_secs(1);

/// What the duties need.
pub struct Duties {
    pub archive: Partitions,
    pub engine: Arc<QueryEngine>,
    pub query: QueryState,
    pub fetcher: FetchQueue,
}

impl Duties {
    /// Begins; the first time before anything is appended.
    pub fn begin(self) -> Result<(), StorageError> {
        if self.archive.is_shared() {
            tokio::spawn(share(self.query.clone()));
        }
        let duties = Arc::new(self);
        for partition in 0..duties.archive.each().len() {
            let mut leading = duties.archive.each()[partition].leading();
            let mut working = if *leading.borrow_and_update() { duties.start(partition)? } else { Vec::new() };
            let duties = Arc::clone(&duties);
            tokio::spawn(async move {
                while leading.changed().await.is_ok() {
                    let leads = *leading.borrow_and_update();
                    if leads && working.is_empty() {
                        match duties.start(partition) {
                            Ok(started) => working = started,
                            Err(error) => tracing::warn!(%error, "cannot begin what belongs to folding"),
                        }
                    } else if !leads {
                        working.drain(..).for_each(|work| work.abort());
                    }
                }
            });
        }
        Ok(())
    }

    /// What belongs to no partition is done by the node that folds the first one.
    fn start(&self, partition: usize) -> Result<Vec<AbortHandle>, StorageError> {
        let archive = &self.archive.each()[partition];
        let mut working = keeper::start(archive, &self.query.media)?;
        working.push(linker::start(archive)?);
        if partition == 0 {
            working.push(keeper::sweep(&self.archive, &self.query.media)?);
            self.fetcher.resume(Arc::new(fetches::StoredMessages::new(Arc::clone(&self.engine))));
        }
        Ok(working)
    }
}

/// Takes up what other nodes did to keys and links.
async fn share(query: QueryState) {
    loop {
        tokio::time::sleep(LOOK).await;
        for (what, refreshed) in [("keys", query.keys.refresh().await), ("links", query.links.refresh().await)] {
            if let Err(error) = refreshed {
                tracing::warn!(%error, what, "cannot look for changes; what is known stays in force");
            }
        }
    }
}
