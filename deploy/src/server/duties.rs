//! What every node does besides answering: look for changes of what nodes share; and what only the one does that folds:
//! recordings are looked at, calls and recordings linked, links of others fetched that were left.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;
use trunklog_ingest::fetch::FetchQueue;
use trunklog_query::{QueryEngine, QueryState};
use trunklog_storage::archive::Archive;
use trunklog_storage::error::Error as StorageError;
use trunklog_storage::linker;
use trunklog_storage::media::keeper;

use super::fetches;

/// How soon keys and links that were changed on one node hold on the others.
const LOOK: Duration = Duration::from_secs(1);

/// What the duties need.
pub struct Duties {
    pub archive: Archive,
    pub engine: Arc<QueryEngine>,
    pub query: QueryState,
    pub fetcher: FetchQueue,
}

impl Duties {
    /// Begins; the first time before anything is appended.
    pub fn begin(self) -> Result<(), StorageError> {
        let mut leading = self.archive.leading();
        if self.archive.is_shared() {
            tokio::spawn(share(self.query.clone()));
        }
        let mut working = if *leading.borrow_and_update() { self.start()? } else { Vec::new() };
        tokio::spawn(async move {
            while leading.changed().await.is_ok() {
                let leads = *leading.borrow_and_update();
                if leads && working.is_empty() {
                    match self.start() {
                        Ok(started) => working = started,
                        Err(error) => tracing::warn!(%error, "cannot begin what belongs to folding"),
                    }
                } else if !leads {
                    working.drain(..).for_each(|work| work.abort());
                }
            }
        });
        Ok(())
    }

    fn start(&self) -> Result<Vec<AbortHandle>, StorageError> {
        let mut working = keeper::start(&self.archive, &self.query.media)?;
        working.push(linker::start(&self.archive)?);
        self.fetcher.resume(Arc::new(fetches::StoredMessages::new(Arc::clone(&self.engine))));
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
