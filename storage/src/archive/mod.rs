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

mod arrivals;
mod asked;
mod background;
mod compact;
mod diff;
mod duplicates;
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
mod restore;
mod sequencer;
mod snapshot;
mod startup;
mod store;
mod swap;
mod tail;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::bucket::Bucket;
use crate::error::Error;
use crate::event::{Event, Offset};
use crate::fact::{Decoded, Decoder, decode_safely};
use crate::lake::WrapStore;
use crate::lease::Lease;
use crate::log::kafka::KafkaConfig;
use crate::log::{Batch, Log, codec};
use crate::position::Position;
use sequencer::Arrived;
use store::Store;

pub use crate::lake::DataFile;
pub use arrivals::Arrivals;
pub use diff::{Change, ColumnChange, Compared, Difference, Differences};
pub use hash::TableHash;
pub use keyer::MADE_KEY;
pub use pieces::{FreshCall, StoredFile, StoredTable};
pub use rebuild::RebuildReport;
pub use refold::Refolded;
pub use snapshot::{Snapshot, Superseded};

/// Appends longer than this are split, so that a group stays small.
const SPLIT_BYTES: usize = 4 << 20;

/// A message on its way in: as stored, and what it means.
#[derive(Clone, Debug)]
pub struct Message {
    /// As it will be stored.
    pub event: Arc<Event>,
    /// What it means.
    pub decoded: Decoded,
}

impl Message {
    /// Decodes (a decoder that fails quarantines) and sets the event's type and subject to what was found.
    pub fn new(mut event: Event, decoder: &dyn Decoder) -> Message {
        let decoded = decode_safely(decoder, &event);
        event.kind.clone_from(&decoded.kind);
        event.subject.clone_from(&decoded.call_key);
        Message { event: Arc::new(event), decoded }
    }
}

/// The answer to one appended message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Where it stands in its partition.
    pub offset: Offset,
    /// In which partition of a topic; `None` on the embedded log, which has one.
    pub partition: Option<usize>,
    /// Another delivery of an earlier message.
    pub duplicate: bool,
    /// Kept, but not understood.
    pub quarantined: bool,
}

/// Settings of the archive.
#[derive(Clone)]
pub struct ArchiveConfig {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Size of a log segment.
    pub segment_bytes: u64,
    /// Fold when the tail is this long …
    pub fold_bytes: u64,
    /// … or this old.
    pub fold_interval: Duration,
    /// Refuse messages while the tail is longer than this.
    pub tail_limit_bytes: u64,
    /// Appends that may wait for the log.
    pub queue_limit: usize,
    /// Refuse messages while the disk has less free than this.
    pub min_free_bytes: u64,
    /// How long superseded files stay readable.
    pub keep_superseded: Duration,
    /// Do not read the projections when opening: they are about to be rebuilt, and may be damaged.
    pub ignore_projections: bool,
    /// Change no table and take no messages: for comparing.
    pub read_only: bool,
    /// Swap a day when its parts have at least this many calls (and more than half of its final calls).
    pub compact_calls: u64,
    /// Calls with parts that memory may hold: of more, those of the fullest days are swapped.
    pub overlay_calls: u64,
    /// Memory for sorting in folds, compactions and rebuilds; what needs more spills to disk.
    pub sort_bytes: usize,
    /// What stands between the tables and their files: tests put faults here.
    pub wrap_store: Option<WrapStore>,
    /// Tables lie in it instead of in the data directory.
    pub bucket: Option<Bucket>,
    /// The log is a topic instead of files in the data directory.
    pub kafka: Option<KafkaConfig>,
    /// Fold when no other node does. Of nodes with the same log and bucket one folds; without others it is this one.
    pub leads: bool,
}

impl std::fmt::Debug for ArchiveConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ArchiveConfig").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl Receipt {
    /// Where it stands.
    pub fn position(&self) -> Position {
        Position::unsaid(self.partition.is_some()).with(self.partition.unwrap_or_default(), Some(self.offset))
    }
}

impl ArchiveConfig {
    /// Whether other nodes may have the same log and tables.
    pub fn is_shared(&self) -> bool {
        self.bucket.is_some() && self.kafka.is_some()
    }

    /// The defaults, with the data in this directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> ArchiveConfig {
        ArchiveConfig {
            data_dir: data_dir.into(),
            segment_bytes: 64 << 20,
            fold_bytes: 64 << 20,
            fold_interval: Duration::from_secs(60),
            tail_limit_bytes: 512 << 20,
            queue_limit: 4096,
            min_free_bytes: 256 << 20,
            keep_superseded: Duration::from_secs(24 * 3600),
            ignore_projections: false,
            read_only: false,
            compact_calls: 5_000,
            overlay_calls: 20_000,
            sort_bytes: 128 << 20,
            wrap_store: None,
            bucket: None,
            kafka: None,
            leads: true,
        }
    }
}

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
    wake: Notify,
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

/// Bytes on their way into the log, counted for as long as this lives.
struct InFlight<'a> {
    inner: &'a Inner,
    bytes: u64,
    total: u64,
}

impl<'a> InFlight<'a> {
    fn new(inner: &'a Inner, bytes: u64) -> Self {
        let total = inner.in_flight.fetch_add(bytes, Ordering::Relaxed) + bytes;
        InFlight { inner, bytes, total }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.inner.in_flight.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What travels with a batch through the log.
struct Carry {
    messages: Vec<Message>,
    duplicate: Arc<[AtomicBool]>,
}

/// Which messages came before in the same request.
fn repeated(messages: &[Message]) -> Vec<bool> {
    let mut seen = HashSet::new();
    let key = |message: &Message| (message.event.tenant.clone(), message.event.source, message.decoded.fingerprint);
    messages.iter().map(|message| !seen.insert(key(message))).collect()
}

/// So many messages are up to here, if none was trimmed.
fn count(offset: Option<Offset>) -> u64 {
    offset.map_or(0, |offset| offset.0 + 1)
}

/// Who appends, which is a matter of priority.
#[derive(Clone, Copy, Debug)]
enum Caller {
    Serving,
    Background,
}

impl Archive {
    /// Appends messages; returns when they are durable and visible, with one receipt each, in order.
    ///
    /// # Errors
    /// `Full` and `Busy` before anything is stored, `Poisoned` and `Closed`. A long batch is split: when a later piece
    /// is refused, the earlier ones are stored (and a retry finds its duplicates marked).
    pub async fn append(&self, messages: Vec<Message>) -> Result<Vec<Receipt>, Error> {
        self.append_from(messages, Caller::Serving).await
    }

    async fn append_from(&self, messages: Vec<Message>, caller: Caller) -> Result<Vec<Receipt>, Error> {
        let inner = &self.inner;
        inner.check_writable()?;
        if inner.failed.load(Ordering::Acquire) {
            inner.sequencer.lock().check()?;
        }
        if inner.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        let bytes: u64 = messages.iter().map(|message| message.event.payload.len() as u64 + 2048).sum();
        let in_flight = InFlight::new(inner, bytes);
        if inner.tail_bytes.load(Ordering::Relaxed) + in_flight.total > inner.config.tail_limit_bytes {
            inner.wake.notify_one();
            return Err(Error::Full("the tail has reached its limit and waits for the fold".into()));
        }
        let mut receipts = Vec::with_capacity(messages.len());
        let repeated = (!inner.log.knows_duplicates()).then(|| repeated(&messages));
        let mut piece: Vec<(Bytes, Message)> = Vec::new();
        let mut bytes = 0;
        for message in messages {
            let record = codec::encode(&message.event)?;
            if bytes + record.len() > SPLIT_BYTES && !piece.is_empty() {
                self.append_piece(std::mem::take(&mut piece), &mut receipts, caller).await?;
                bytes = 0;
            }
            bytes += record.len();
            piece.push((record, message));
        }
        if !piece.is_empty() {
            self.append_piece(piece, &mut receipts, caller).await?;
        }
        for (receipt, repeated) in receipts.iter_mut().zip(repeated.into_iter().flatten()) {
            receipt.duplicate = repeated;
        }
        Ok(receipts)
    }

    async fn append_piece(
        &self,
        piece: Vec<(Bytes, Message)>,
        receipts: &mut Vec<Receipt>,
        caller: Caller,
    ) -> Result<(), Error> {
        let (records, messages): (Vec<Bytes>, Vec<Message>) = piece.into_iter().unzip();
        let quarantined: Vec<bool> = messages.iter().map(|message| message.decoded.error.is_some()).collect();
        let duplicate: Arc<[AtomicBool]> = messages.iter().map(|_| AtomicBool::new(false)).collect();
        let carry = Carry { messages, duplicate: Arc::clone(&duplicate) };
        let offsets = self.inner.log.append(Batch { records, carry: Some(Box::new(carry)) }).await?;
        match caller {
            Caller::Serving => self.inner.advance()?,
            Caller::Background => self.inner.advance_in_foreground().await?,
        }
        let partition = self.partition();
        let placed = offsets.into_iter().zip(duplicate.iter());
        receipts.extend(placed.zip(quarantined).map(|((offset, duplicate), quarantined)| Receipt {
            offset,
            partition,
            duplicate: duplicate.load(Ordering::Acquire),
            quarantined,
        }));
        Ok(())
    }

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

    fn partition(&self) -> Option<usize> {
        self.inner.config.kafka.as_ref().map(|kafka| kafka.partition)
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
        let bytes = sequencer.tail.bytes();
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
mod over_kafka;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod toy;
