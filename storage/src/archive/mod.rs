//! The archive: log, tail, overlay and tables as one thing. What the other crates use.
//!
//! ```text
//!  append ──▶ log (fsync) ──▶ arrived ──▶ sequencer: tail of events, overlays of calls and recordings ──▶ snapshot
//!                                             │ fold                                                     ▲
//!                                             ▼                                                          │ pinned
//!                                        events, calls, recordings (Delta) ──────────────────────────────┘
//! ```
//!
//! Two laws: an append returns only after its messages are durable *and* taken in by every later snapshot; a snapshot
//! is one offset, and Delta and memory are told apart by offset, never by time.

mod ahead;
mod append;
mod arrivals;
mod asked;
mod background;
mod compact;
mod config;
mod diff;
mod duplicates;
mod early;
mod find;
mod fold;
mod follow;
mod foreground;
mod hash;
mod idle;
mod keyer;
mod landed;
mod lock;
mod looked_up;
mod overlay;
mod patient;
mod pieces;
mod projection;
mod rebuild;
mod refold;
mod replay;
mod restore;
mod sequencer;
mod snapshot;
mod startup;
mod store;
mod swap;
mod tail;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::bucket::Bucket;
use crate::error::Error;
use crate::event::Offset;
use crate::fact::Decoder;
use crate::lease::Lease;
use crate::log::Log;
use sequencer::Arrived;
use store::Store;

pub use crate::lake::DataFile;
pub use append::{Message, Receipt};
pub use arrivals::Arrivals;
pub use config::ArchiveConfig;
pub use diff::{Change, ColumnChange, Compared, Difference, Differences};
pub use hash::TableHash;
pub use keyer::MADE_KEY;
pub use pieces::{FreshCall, StoredFile, StoredTable};
pub use rebuild::RebuildReport;
pub use refold::Refolded;
pub use snapshot::{Snapshot, Superseded};

/// How the archive is doing.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Last acknowledged offset.
    pub visible: Option<Offset>,
    /// Last offset that is in every table.
    pub folded: Option<Offset>,
    /// Acknowledged messages that are not yet in every table.
    pub lag_messages: u64,
    /// Messages not yet in `events`.
    pub tail_messages: u64,
    /// Their size in memory.
    pub tail_bytes: u64,
    /// Calls merged in memory.
    pub overlay_calls: u64,
    /// Size of the log on disk.
    pub log_bytes: u64,
    /// Why nothing more is accepted, if so.
    pub poisoned: Option<String>,
    /// Whether this node folds.
    pub leads: bool,
    /// Seconds since the oldest part of a day was written that no compaction has taken up; 0 if there is none.
    pub compaction_lag_seconds: u64,
}

struct Inner {
    /// The fold and all it writes; what is not found here is found there.
    store: Store,
    log: Box<dyn Log>,
    /// On the tables, while this node has it.
    lease: Mutex<Option<Arc<Lease>>>,
    /// Whether this node folds.
    leading: watch::Sender<bool>,
    /// What this node knows of its folds does not fit the tables.
    unfit: AtomicBool,
    /// Until then it leaves that to others.
    rests_until: Mutex<Option<Instant>>,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    visible: watch::Sender<Option<Offset>>,
    looked_up: Mutex<looked_up::LookedUp>,
    wake: Arc<Notify>,
    /// A flush has left to the background what may wait.
    left_over: AtomicBool,
    closed: AtomicBool,
    /// Set when the sequencer takes in no more, so that appending need not ask it.
    failed: AtomicBool,
    /// Held by a rebuild.
    rebuilding: tokio::sync::Mutex<()>,
    in_flight: std::sync::atomic::AtomicU64,
    background: Mutex<Option<Background>>,
}

/// The threads for what nobody waits for.
struct Background {
    /// Of lower priority.
    lower: tokio::runtime::Runtime,
    /// Of idle priority.
    idle: tokio::runtime::Runtime,
}

impl Background {
    /// Ends them without waiting.
    fn end(self) {
        self.lower.shutdown_background();
        self.idle.shutdown_background();
    }
}

impl std::ops::Deref for Inner {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

/// A handle to the archive; cheap to clone.
#[derive(Clone)]
pub struct Archive {
    inner: Arc<Inner>,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Archive").field("data_dir", &self.inner.config.data_dir).finish_non_exhaustive()
    }
}

/// So many messages are up to here, if none was trimmed.
fn count(offset: Option<Offset>) -> u64 {
    offset.map_or(0, |offset| offset.0 + 1)
}

impl Archive {
    /// The last acknowledged offset.
    pub fn visible(&self) -> Option<Offset> {
        *self.inner.visible.borrow()
    }

    /// Waits until this offset is visible; `false` if it is not within the time.
    pub async fn wait_for(&self, offset: Offset, timeout: Duration) -> bool {
        let mut visible = self.inner.visible.subscribe();
        let reached = visible.wait_for(|visible| visible.is_some_and(|visible| visible >= offset));
        tokio::time::timeout(timeout, reached).await.is_ok_and(|reached| reached.is_ok())
    }

    /// How the archive is doing.
    pub fn status(&self) -> Status {
        let inner = &self.inner;
        // Asked for before the lock is taken: the log's answer may wait for a sync.
        let (log_bytes, poisoned) = (inner.log.disk_bytes(), inner.log.poisoned());
        let sequencer = inner.sequencer.lock();
        let poisoned = poisoned.or_else(|| sequencer.failed.as_ref().map(|failure| failure.reason().to_owned()));
        let parts_since = sequencer.calls.parts_since.values().chain(sequencer.recordings.parts_since.values()).min();
        Status {
            visible: self.visible(),
            folded: sequencer.folded(),
            lag_messages: count(self.visible()).saturating_sub(count(sequencer.folded())),
            tail_messages: sequencer.tail.messages(),
            tail_bytes: sequencer.tail.bytes(),
            overlay_calls: sequencer.calls.overlay.len() as u64,
            log_bytes,
            poisoned,
            leads: inner.leads(),
            compaction_lag_seconds: parts_since.map_or(0, |since| since.elapsed().as_secs()),
        }
    }

    /// Where tables lie, if not on the local disk.
    pub fn bucket(&self) -> Option<&Bucket> {
        self.inner.config.bucket.as_ref()
    }

    /// Whether other nodes may have the same log and tables.
    pub fn is_shared(&self) -> bool {
        self.inner.is_shared()
    }

    /// What gives messages their meaning.
    pub fn decoder(&self) -> &Arc<dyn Decoder> {
        &self.inner.decoder
    }

    /// Takes no more messages, finishes those that wait, folds, and releases the log's lock with the last handle.
    ///
    /// # Errors
    /// If the last fold fails; nothing is lost by that.
    pub async fn close(&self) -> Result<(), Error> {
        if self.inner.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.inner.log.close().await;
        self.inner.wake.notify_waiters();
        let folds = self.inner.leads() && !self.inner.config.read_only;
        let folded = if folds { self.fold_now().await } else { Ok(None) };
        if let Some(background) = self.inner.background.lock().take() {
            background.end();
        }
        let lease = self.inner.lease.lock().take();
        if let Some(lease) = lease {
            lease.release().await;
        }
        match folded {
            Err(error) if self.is_shared() => {
                tracing::warn!(%error, "the last fold failed; another node goes on, or this one at its next start");
                Ok(())
            }
            folded => folded.map(|_| ()),
        }
    }

    /// Cancelled when another node has taken the tables over and this one cannot follow: it must end.
    pub fn superseded(&self) -> CancellationToken {
        let lease = self.inner.lease.lock();
        lease.as_ref().filter(|_| !self.inner.is_shared()).map(|lease| lease.lost()).unwrap_or_default()
    }
}

impl Inner {
    /// Whether other nodes may have the same log and tables.
    fn is_shared(&self) -> bool {
        self.config.is_shared()
    }

    /// The partition of a topic; the embedded log has none.
    fn partition(&self) -> Option<usize> {
        self.config.kafka.as_ref().map(|kafka| kafka.partition)
    }

    /// # Errors
    /// `Config` when the archive is open for reading only.
    fn check_writable(&self) -> Result<(), Error> {
        if self.config.read_only {
            return Err(Error::Config("the archive is open for reading only".into()));
        }
        Ok(())
    }

    /// Takes in what has become durable.
    ///
    /// # Errors
    /// `Poisoned` when no more is taken in: the messages are durable, and a restart takes them in.
    fn advance(&self) -> Result<(), Error> {
        let mut sequencer = self.sequencer.lock();
        self.advance_locked(&mut sequencer)
    }

    /// The same, for a caller of lower priority.
    async fn advance_in_foreground(self: &Arc<Self>) -> Result<(), Error> {
        let inner = Arc::clone(self);
        self.foreground.run(move || inner.advance()).await?
    }

    fn advance_locked(&self, sequencer: &mut sequencer::Sequencer) -> Result<(), Error> {
        let arrived = std::mem::take(&mut *self.arrived.lock());
        for batch in arrived {
            sequencer.take(batch);
        }
        let bytes = sequencer.bytes();
        self.tail_bytes.store(bytes, Ordering::Relaxed);
        if bytes >= self.config.fold_bytes {
            self.wake.notify_one();
        }
        let taken = sequencer.check();
        if taken.is_err() {
            self.failed.store(true, Ordering::Release);
        }
        taken
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(background) = self.background.lock().take() {
            background.end();
        }
    }
}

#[cfg(test)]
mod faulty_log;
#[cfg(test)]
mod faulty_store;
#[cfg(test)]
mod healing;
#[cfg(test)]
pub(crate) mod over_kafka;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod toy;
