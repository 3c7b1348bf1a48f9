//! What serving recordings remembers: where bytes lie, for players that ask for one piece after the other, and what was
//! decoded.
//!
//! The law: a remembered row is used only while nothing at all was acknowledged since it was read, so that every answer
//! is the one that a query would give.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trunklog_storage::event::now;
use trunklog_storage::position::Position;

use super::decoded::Decoded;
use super::find::{Found, Which};
use crate::engine::{Access, QueryEngine};
use crate::error::QueryError;
use crate::moment::{AsOf, Moment};

/// Rows that are remembered.
const ROWS: usize = 4096;

/// Decodings at the same time; others wait …
const DECODINGS: usize = 2;

/// … so many of them; more are sent away.
const WAITING: usize = 32;

/// Searches by upload URL at the same time; others wait.
const SEARCHES: usize = 4;

/// How long decoded audio is kept, since it was made …
const KEPT: Duration = Duration::from_secs(300);

/// … how many of it …
const FILES: usize = 16;

/// … and how many bytes.
const BYTES: u64 = 1 << 30;

/// Shared by all requests; a cheap handle.
#[derive(Clone, Debug)]
pub struct RecordingCache {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    directory: PathBuf,
    rows: Mutex<HashMap<Asked, Remembered>>,
    decodings: Arc<Semaphore>,
    /// Those that decode and those that wait for it.
    admitted: Arc<Semaphore>,
    searches: Arc<Semaphore>,
    files: Mutex<VecDeque<Kept>>,
}

/// Who asked for what.
type Asked = (Option<Arc<str>>, Which);

/// The last offset when a row was read, and the row.
type Remembered = (Position, Arc<Found>);

#[derive(Debug)]
struct Kept {
    etag: String,
    decoded: Decoded,
    since: Instant,
}

/// A place to decode in, held until dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _decoding: OwnedSemaphorePermit,
    _admitted: OwnedSemaphorePermit,
}

impl RecordingCache {
    /// Decoded audio goes to files in this directory that have no name any more; it must be on a disk, not in memory.
    pub fn new(directory: impl Into<PathBuf>) -> RecordingCache {
        let inner = Inner {
            directory: directory.into(),
            rows: Mutex::default(),
            decodings: Arc::new(Semaphore::new(DECODINGS)),
            admitted: Arc::new(Semaphore::new(DECODINGS + WAITING)),
            searches: Arc::new(Semaphore::new(SEARCHES)),
            files: Mutex::default(),
        };
        RecordingCache { inner: Arc::new(inner) }
    }

    /// The row, if it was read at what is visible now, which it is said to be as of.
    pub(super) fn found(
        &self,
        engine: &QueryEngine,
        access: &Access,
        moment: Moment,
        which: &Which,
    ) -> Option<(Arc<Found>, AsOf)> {
        if moment != Moment::Now {
            return None;
        }
        let as_of = AsOf { offset: engine.archive().visible(), time: now() };
        let asked = (access.only_tenant().cloned(), which.clone());
        let rows = self.inner.rows.lock();
        let (_, found) = rows.get(&asked).filter(|(read_at, _)| *read_at == as_of.offset)?;
        Some((Arc::clone(found), as_of))
    }

    /// Remembers a row that contains all up to `visible`.
    pub(super) fn remember(
        &self,
        visible: Position,
        access: &Access,
        moment: Moment,
        which: Which,
        found: &Arc<Found>,
    ) {
        if moment != Moment::Now {
            return;
        }
        let mut rows = self.inner.rows.lock();
        if rows.len() >= ROWS {
            rows.retain(|_, (read_at, _)| *read_at == visible);
        }
        if rows.len() >= ROWS {
            rows.clear();
        }
        rows.insert((access.only_tenant().cloned(), which), (visible, Arc::clone(found)));
    }

    /// Where decoded audio goes.
    pub(super) fn directory(&self) -> &PathBuf {
        &self.inner.directory
    }

    /// Waits for a place to search in; `None` when the server stops.
    pub(super) async fn look_up_turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.inner.searches).acquire_owned().await.ok()
    }

    /// Waits for a place to decode in.
    ///
    /// # Errors
    /// `Unavailable` when too many wait already or the server stops.
    pub(super) async fn turn(&self) -> Result<Turn, QueryError> {
        let unavailable = |why: &str| QueryError::Unavailable(why.to_owned());
        let admitted = Arc::clone(&self.inner.admitted).try_acquire_owned();
        let admitted = admitted.map_err(|_| unavailable("too many recordings wait to be decoded"))?;
        let decoding = Arc::clone(&self.inner.decodings).acquire_owned().await;
        let decoding = decoding.map_err(|_| unavailable("no more is decoded"))?;
        Ok(Turn { _decoding: decoding, _admitted: admitted })
    }

    /// What was decoded lately.
    pub(super) fn decoded(&self, etag: &str) -> Option<Decoded> {
        let files = self.inner.files.lock();
        files.iter().find(|kept| kept.etag == etag).map(|kept| kept.decoded.clone())
    }

    /// Keeps decoded audio for a while; the newest also when it alone is too large, or its player would have it decoded
    /// for every piece.
    pub(super) fn keep(&self, etag: &str, decoded: &Decoded) {
        let mut files = self.inner.files.lock();
        files.retain(|kept| kept.etag != etag);
        files.push_back(Kept { etag: etag.to_owned(), decoded: decoded.clone(), since: Instant::now() });
        let is_full = |files: &VecDeque<Kept>| {
            files.len() > FILES || files.iter().map(|kept| kept.decoded.bytes()).sum::<u64>() > BYTES
        };
        while files.len() > 1 && is_full(&files) {
            files.pop_front();
        }
        drop(files);
        let inner = Arc::downgrade(&self.inner);
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            if let Some(inner) = inner.upgrade() {
                inner.files.lock().retain(|kept| kept.since.elapsed() < KEPT);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    fn decoded(bytes: u64) -> Decoded {
        Decoded::of(File::open("/dev/null").expect("opens"), bytes)
    }

    #[tokio::test]
    async fn the_newest_file_stays() {
        let cache = RecordingCache::new("/tmp");
        cache.keep("small", &decoded(1));
        assert!(cache.decoded("small").is_some());
        cache.keep("huge", &decoded(BYTES + 1));
        assert!(cache.decoded("small").is_none());
        assert!(cache.decoded("huge").is_some());
        for at in 0..=FILES {
            cache.keep(&at.to_string(), &decoded(1));
        }
        assert!(cache.decoded("huge").is_none());
        assert!(cache.decoded("0").is_none());
        assert!(cache.decoded("1").is_some());
    }

    #[tokio::test]
    async fn only_so_many_wait() {
        let cache = RecordingCache::new("/tmp");
        let first = cache.turn().await.expect("a place");
        let _second = cache.turn().await.expect("a place");
        let mut waiting: Vec<_> = (0..WAITING).map(|_| Box::pin(cache.turn())).collect();
        for turn in &mut waiting {
            assert!(futures::poll!(turn).is_pending());
        }
        assert!(matches!(cache.turn().await, Err(QueryError::Unavailable(_))));
        drop(first);
        assert!(waiting.remove(0).await.is_ok());
        // That place is free again, and so is the one of a request that was given up.
        drop(waiting);
        assert!(cache.turn().await.is_ok());
    }
}
