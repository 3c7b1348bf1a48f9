//! The log of one machine: segment files written by one committer thread, group commit by fdatasync.
//!
//! Groups form while the previous sync runs: the committer takes all that waits (up to [`GROUP_BYTES`]), writes one
//! frame, syncs, publishes in order, answers. A full disk is refused before anything is written.
//!
//! A failed write, or a failed sync of a segment or of the directory, poisons the log until restart: no sync is asked
//! twice for the same bytes. The start believes nothing that only a sync before it could have made durable: it writes
//! the last frame and touches the directory again before it syncs them. A spare whose making failed is thrown away.

use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::disk::{self, sync_directory};
use super::recovery::{load_identity, recover};
use super::segment::{self, Segment};
use super::{Batch, Bounds, Log, Offsets, Published, Publisher};
use crate::error::{Context, Error};
use crate::event::Offset;

/// A group's payload is at most this long; a longer batch must be split by the caller.
pub const GROUP_BYTES: usize = 8 << 20;

/// The smallest size of segments that makes sense.
pub const SMALLEST_SEGMENT: u64 = 1 << 20;

/// A batch that a segment of this size has room for is taken, however small the segments are: it gets a segment of its
/// own.
const ROOM: u64 = 20 << 20;

/// Retired segments that are kept for recycling.
pub(super) const SPARES: usize = 2;

/// Settings of the embedded log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The `log/` directory.
    pub directory: PathBuf,
    /// Size of a segment file.
    pub segment_bytes: u64,
    /// Appends that may wait; more are refused as `Busy`.
    pub queue_limit: usize,
    /// Appends are refused as `Full` while the file system has less than this.
    pub min_free_bytes: u64,
}

struct Request {
    batch: Batch,
    reply: oneshot::Sender<Result<Offset, Error>>,
}

struct Shared {
    segments: RwLock<VecDeque<Segment>>,
    poisoned: Mutex<Option<String>>,
    spares: Mutex<Vec<PathBuf>>,
}

impl Shared {
    /// From here on nothing more is taken. The first reason stays.
    fn poison(&self, reason: impl Into<String>) {
        let reason = reason.into();
        tracing::error!(error = %reason, "the log is poisoned and takes no more messages until restart");
        self.poisoned.lock().get_or_insert(reason);
    }
}

/// The embedded log.
pub struct EmbeddedLog {
    /// A segment of this size would have room for the largest batch.
    largest: u64,
    config: LogConfig,
    identity: Uuid,
    identity_text: String,
    shared: Arc<Shared>,
    queue: Mutex<Option<mpsc::Sender<Request>>>,
    committer: Mutex<Option<JoinHandle<()>>>,
    _lock: File,
}

impl EmbeddedLog {
    /// Opens or makes the log, takes its lock and recovers: a torn tail is cut off and reported, corruption refuses.
    ///
    /// # Errors
    /// `Conflict` when another process holds the lock, `Corrupt` when acknowledged records do not verify.
    pub fn open(config: LogConfig) -> Result<EmbeddedLog, Error> {
        if config.segment_bytes < SMALLEST_SEGMENT {
            return Err(Error::Config(format!("a log segment takes at least {SMALLEST_SEGMENT} bytes")));
        }
        let largest = config.segment_bytes.max(ROOM);
        Ok(EmbeddedLog { largest, ..EmbeddedLog::open_any_size(config)? })
    }

    /// As `open`, with segments of any size, so that tests can fill many.
    pub(super) fn open_any_size(config: LogConfig) -> Result<EmbeddedLog, Error> {
        let directory = config.directory.clone();
        std::fs::create_dir_all(&directory).context(format!("making `{}`", directory.display()))?;
        let lock = lock_directory(&directory)?;
        let identity = load_identity(&directory)?;
        let (segments, spares) = recover(&directory, identity, config.segment_bytes)?;
        let shared = Shared { segments: RwLock::new(segments), poisoned: Mutex::default(), spares: Mutex::new(spares) };
        Ok(EmbeddedLog {
            identity_text: identity.simple().to_string(),
            largest: config.segment_bytes,
            config,
            identity,
            shared: Arc::new(shared),
            queue: Mutex::default(),
            committer: Mutex::default(),
            _lock: lock,
        })
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    fn start(&self, _: Offset, publisher: Publisher) -> Result<(), Error> {
        let (sender, receiver) = mpsc::channel(self.config.queue_limit);
        let mut committer = Committer {
            config: self.config.clone(),
            identity: self.identity,
            shared: Arc::clone(&self.shared),
            publisher,
        };
        if self.shared.segments.read().is_empty() {
            committer.roll(0)?;
        }
        let thread = std::thread::Builder::new().name("log-committer".into());
        let handle = thread.spawn(move || committer.run(receiver)).context("starting the log's committer")?;
        *self.committer.lock() = Some(handle);
        *self.queue.lock() = Some(sender);
        Ok(())
    }

    async fn append(&self, batch: Batch) -> Result<Offsets, Error> {
        if let Some(reason) = self.poisoned() {
            return Err(Error::Poisoned(reason));
        }
        // A frame that leads over its segment's end would make the next start refuse the file.
        let largest = Segment::largest_payload(self.largest);
        if payload_bytes(&batch) as u64 > largest {
            return Err(Error::TooLarge(largest));
        }
        let queue = self.queue.lock().clone().ok_or(Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        let count = batch.records.len() as u64;
        queue.try_send(Request { batch, reply }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => Error::Closed,
        })?;
        drop(queue);
        let first = answer.await.map_err(|_| Error::Closed)??;
        Ok((first.0..first.0 + count).map(Offset).collect())
    }

    fn read(&self, from: Offset, limit_bytes: usize) -> Result<Vec<(Offset, Bytes)>, Error> {
        let segments = self.shared.segments.read();
        if segments.front().is_some_and(|first| from.0 < first.base) {
            return Err(Error::Gone(format!("offset {from} was trimmed from the log")));
        }
        let mut records = Vec::new();
        let mut bytes = 0;
        let frames = segments.iter().flat_map(|segment| segment.frames_from(from).iter().map(move |at| (segment, *at)));
        for (segment, frame) in frames {
            for (offset, record) in segment.read(frame)? {
                if offset >= from {
                    bytes += record.len();
                    records.push((offset, record));
                }
            }
            if bytes >= limit_bytes {
                break;
            }
        }
        Ok(records)
    }

    fn passed(&self, before: Offset) {
        let segments = self.shared.segments.read();
        // Those further back were passed before.
        if let Some(whole) = segments.iter().rev().find(|segment| segment.next() <= before.0) {
            whole.let_go();
        }
    }

    fn bounds(&self) -> Bounds {
        let segments = self.shared.segments.read();
        Bounds {
            first: Offset(segments.front().map_or(0, |segment| segment.base)),
            next: Offset(segments.back().map_or(0, Segment::next)),
        }
    }

    fn trim(&self, before: Offset) -> Result<(), Error> {
        loop {
            // On a disk that failed, nothing is removed that the next start might need.
            if self.poisoned().is_some() {
                return Ok(());
            }
            let path = {
                let segments = self.shared.segments.read();
                let first = segments.front().filter(|first| segments.len() > 1 && first.next() <= before.0);
                let Some(first) = first else { return Ok(()) };
                first.path.clone()
            };
            // Forgotten only once it is gone: a gap between files would look like lost records at the next start.
            let spare = self.retire(&path)?;
            self.shared.segments.write().pop_front();
            // Offered only once it is forgotten: nobody may read what the committer writes over.
            self.shared.spares.lock().extend(spare);
        }
    }

    fn identity(&self) -> &str {
        &self.identity_text
    }

    fn poisoned(&self) -> Option<String> {
        self.shared.poisoned.lock().clone()
    }

    fn disk_bytes(&self) -> u64 {
        let segments: u64 = self.shared.segments.read().iter().map(Segment::bytes).sum();
        segments + self.shared.spares.lock().len() as u64 * self.config.segment_bytes
    }

    async fn close(&self) {
        drop(self.queue.lock().take());
        let handle = self.committer.lock().take();
        if let Some(handle) = handle {
            // The thread ends when the queue is empty; a panic in it has already poisoned every waiting append.
            let _ = tokio::task::spawn_blocking(move || handle.join()).await;
        }
    }
}

impl EmbeddedLog {
    /// Makes a spare of a retired segment, if one more is wanted; else unlinks it.
    fn retire(&self, path: &Path) -> Result<Option<PathBuf>, Error> {
        let directory = &self.config.directory;
        let right_size = std::fs::metadata(path).is_ok_and(|file| file.len() == self.config.segment_bytes);
        // The committer needs the list of spares: it is not held while the disk works.
        let wanted = right_size && self.shared.spares.lock().len() < SPARES;
        let spare = wanted.then(|| directory.join(format!("{}.spare", Uuid::new_v4().simple())));
        let retired = match &spare {
            Some(spare) => disk::rename(path, spare),
            None => disk::remove(path),
        };
        match retired {
            Err(error) if spare.is_some() || error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).context(format!("retiring log segment `{}`", path.display()));
            }
            _ => sync_directory(directory).inspect_err(|error| self.shared.poison(error.to_string()))?,
        }
        Ok(spare)
    }
}

/// The thread that owns the end of the log.
struct Committer {
    config: LogConfig,
    identity: Uuid,
    shared: Arc<Shared>,
    publisher: Publisher,
}

impl Committer {
    fn run(&mut self, mut queue: mpsc::Receiver<Request>) {
        let largest = Segment::largest_payload(self.config.segment_bytes);
        let mut held_over = None;
        while let Some(first) = held_over.take().or_else(|| queue.blocking_recv()) {
            let mut bytes = payload_bytes(&first.batch);
            let mut group = vec![first];
            while bytes < GROUP_BYTES {
                let Ok(request) = queue.try_recv() else { break };
                let more = payload_bytes(&request.batch);
                if (bytes + more) as u64 > largest {
                    held_over = Some(request);
                    break;
                }
                bytes += more;
                group.push(request);
            }
            // The last one may lead over the limit by one batch, but never over what a segment has room for.
            self.commit(group, bytes);
        }
    }

    fn commit(&mut self, group: Vec<Request>, bytes: usize) {
        let started = Instant::now();
        match self.write(&group, bytes) {
            Ok(mut first) => {
                metrics::histogram!("trunklog_log_append_seconds").record(started.elapsed().as_secs_f64());
                metrics::histogram!("trunklog_log_group_appends").record(group.len() as f64);
                let mut replies = Vec::with_capacity(group.len());
                for request in group {
                    let count = request.batch.records.len() as u64;
                    (self.publisher)(Published { first: Offset(first), batch: request.batch });
                    replies.push((request.reply, first));
                    first += count;
                }
                for (reply, first) in replies {
                    // A sender that went away is told nothing; its message is kept.
                    let _ = reply.send(Ok(Offset(first)));
                }
            }
            Err(refusal) => {
                for request in group {
                    let _ = request.reply.send(Err(refusal.again()));
                }
            }
        }
    }

    fn write(&mut self, group: &[Request], bytes: usize) -> Result<u64, Refused> {
        if let Some(reason) = self.shared.poisoned.lock().clone() {
            return Err(Refused::Poisoned(reason));
        }
        self.check_space()?;
        let full = !self.shared.segments.read().back().is_some_and(|last| last.has_room(bytes));
        if full && let Err(error) = self.roll(bytes) {
            let poisoned = self.shared.poisoned.lock().clone();
            return Err(poisoned.map_or_else(|| Refused::Full(error.to_string()), Refused::Poisoned));
        }
        let records: Vec<Bytes> = group.iter().flat_map(|request| request.batch.records.iter().cloned()).collect();
        let mut segments = self.shared.segments.write();
        let Some(last) = segments.back_mut() else { return Err(Refused::Full("no segment".into())) };
        let first = last.next();
        last.write(&records).map_err(|error| {
            let reason = error.to_string();
            self.shared.poison(reason.as_str());
            Refused::Poisoned(reason)
        })?;
        Ok(first)
    }

    fn check_space(&self) -> Result<(), Refused> {
        let free = free_bytes(&self.config.directory).map_err(|error| Refused::Full(error.to_string()))?;
        if free < self.config.min_free_bytes {
            let floor = self.config.min_free_bytes;
            return Err(Refused::Full(format!("{free} bytes are free on the log's disk, {floor} must stay free")));
        }
        Ok(())
    }

    /// Begins a new segment with room for this payload from a spare, or from a fresh file of zeros. Nothing that anybody was told of depends on
    /// it until it is begun, so a failure refuses the group and the next one tries another file; but a directory whose
    /// sync failed poisons the log, for no later sync tells whether the segment's name is on disk.
    fn roll(&mut self, payload: usize) -> Result<(), Error> {
        let base = self.shared.segments.read().back().map_or(0, Segment::next);
        let bytes = self.config.segment_bytes.max(segment::HEADER_BYTES + Segment::frame_bytes(payload));
        let fits = bytes == self.config.segment_bytes;
        let recycled = if fits { self.shared.spares.lock().pop() } else { None };
        let spare = match recycled {
            Some(spare) => spare,
            None => {
                let spare = self.config.directory.join(format!("{}.spare", Uuid::new_v4().simple()));
                segment::write_spare(&spare, bytes)?;
                spare
            }
        };
        let directory = &self.config.directory;
        let segment = Segment::begin(directory, &spare, self.identity, base).inspect_err(|_| {
            // Left there, one more would fill the disk with every try.
            let _ = disk::remove(&spare);
        })?;
        sync_directory(directory).inspect_err(|error| self.shared.poison(error.to_string()))?;
        self.shared.segments.write().push_back(segment);
        Ok(())
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.poison("the log's committer broke off");
        }
    }
}

/// Why a group was not written; every waiting append gets its own copy.
enum Refused {
    Full(String),
    Poisoned(String),
}

impl Refused {
    fn again(&self) -> Error {
        match self {
            Refused::Full(reason) => Error::Full(reason.clone()),
            Refused::Poisoned(reason) => Error::Poisoned(reason.clone()),
        }
    }
}

fn payload_bytes(batch: &Batch) -> usize {
    batch.records.iter().map(|record| 4 + record.len()).sum()
}

/// Bytes that an ordinary process may still use on the file system of this path.
pub fn free_bytes(path: &Path) -> Result<u64, Error> {
    let statistics = rustix::fs::statvfs(path).map_err(std::io::Error::from);
    let statistics = statistics.context(format!("asking for free space at `{}`", path.display()))?;
    Ok(statistics.f_bavail.saturating_mul(statistics.f_frsize))
}

/// Takes the exclusive lock `LOCK` of a log directory for as long as the file lives.
///
/// # Errors
/// `Conflict` when another process has it.
pub fn lock_directory(directory: &Path) -> Result<File, Error> {
    let path = directory.join("LOCK");
    let what = format!("opening `{}`", path.display());
    let file = File::options().create(true).truncate(false).write(true).open(&path).context(what)?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        Error::Conflict(format!("another trunklog runs on this data directory (`{}` is locked)", path.display()))
    })?;
    Ok(file)
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
