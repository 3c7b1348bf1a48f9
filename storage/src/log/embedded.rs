//! The log of one machine: segment files written by one committer thread, group commit by fdatasync.
//!
//! Groups form while the previous sync runs: the committer takes all that waits (up to [`GROUP_BYTES`]), writes one
//! frame, syncs, publishes in order, answers. A failed write or sync poisons the log until restart; a full disk is
//! refused before anything is written.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::segment::{self, Rest, Segment, sync_directory};
use super::{Batch, Bounds, Log, Published, Publisher};
use crate::error::{Context, Error};
use crate::event::{Offset, format_time, now};

/// A group's payload is at most this long; a longer batch must be split by the caller.
pub const GROUP_BYTES: usize = 8 << 20;

/// A segment has room for a group and the batch that leads over its limit.
pub const SMALLEST_SEGMENT: u64 = 20 << 20;

/// Settings of the embedded log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// The `log/` directory.
    pub directory: PathBuf,
    /// Size of a segment file; at least four groups.
    pub segment_bytes: u64,
    /// Appends that may wait; more are refused as `Busy`.
    pub queue_limit: usize,
    /// Appends are refused as `Full` while the file system has less than this.
    pub min_free_bytes: u64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    id: Uuid,
    format: u32,
    partitions: u32,
    created: String,
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

/// The embedded log.
pub struct EmbeddedLog {
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
        let directory = config.directory.clone();
        if config.segment_bytes < SMALLEST_SEGMENT {
            return Err(Error::Config(format!("a log segment takes at least {SMALLEST_SEGMENT} bytes")));
        }
        std::fs::create_dir_all(&directory).context(format!("making `{}`", directory.display()))?;
        let lock = lock_directory(&directory)?;
        let identity = load_identity(&directory)?;
        let (segments, spares) = recover(&directory, identity, config.segment_bytes)?;
        let shared = Shared { segments: RwLock::new(segments), poisoned: Mutex::default(), spares: Mutex::new(spares) };
        Ok(EmbeddedLog {
            identity_text: identity.simple().to_string(),
            config,
            identity,
            shared: Arc::new(shared),
            queue: Mutex::default(),
            committer: Mutex::default(),
            _lock: lock,
        })
    }

    /// Starts the committer. `publisher` gets every batch, in order, before its append returns.
    ///
    /// # Errors
    /// `Io` or `Full` when the first segment or the thread cannot be made.
    pub fn start(&self, publisher: Publisher) -> Result<(), Error> {
        let (sender, receiver) = mpsc::channel(self.config.queue_limit);
        let mut committer = Committer {
            config: self.config.clone(),
            identity: self.identity,
            shared: Arc::clone(&self.shared),
            publisher,
        };
        if self.shared.segments.read().is_empty() {
            committer.roll()?;
        }
        let thread = std::thread::Builder::new().name("log-committer".into());
        let handle = thread.spawn(move || committer.run(receiver)).context("starting the log's committer")?;
        *self.committer.lock() = Some(handle);
        *self.queue.lock() = Some(sender);
        Ok(())
    }
}

#[async_trait]
impl Log for EmbeddedLog {
    async fn append(&self, batch: Batch) -> Result<Offset, Error> {
        if let Some(reason) = self.poisoned() {
            return Err(Error::Poisoned(reason));
        }
        let queue = self.queue.lock().clone().ok_or(Error::Closed)?;
        let (reply, answer) = oneshot::channel();
        queue.try_send(Request { batch, reply }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => Error::Busy,
            mpsc::error::TrySendError::Closed(_) => Error::Closed,
        })?;
        drop(queue);
        answer.await.map_err(|_| Error::Closed)?
    }

    fn read(&self, from: Offset, limit_bytes: usize) -> Result<Vec<(Offset, Bytes)>, Error> {
        let segments = self.shared.segments.read();
        if segments.front().is_some_and(|first| from.0 < first.base) {
            return Err(Error::Gone(format!("offset {from} was trimmed from the log")));
        }
        let mut records = Vec::new();
        let mut bytes = 0;
        let frames = segments.iter().flat_map(|segment| segment.frames.iter().map(move |frame| (segment, *frame)));
        for (segment, frame) in frames.filter(|(_, frame)| frame.first + u64::from(frame.count) > from.0) {
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

    fn bounds(&self) -> Bounds {
        let segments = self.shared.segments.read();
        Bounds {
            first: Offset(segments.front().map_or(0, |segment| segment.base)),
            next: Offset(segments.back().map_or(0, Segment::next)),
        }
    }

    fn trim(&self, before: Offset) -> Result<(), Error> {
        loop {
            let path = {
                let segments = self.shared.segments.read();
                let first = segments.front().filter(|first| segments.len() > 1 && first.next() <= before.0);
                let Some(first) = first else { return Ok(()) };
                first.path.clone()
            };
            // Forgotten only once it is gone: a gap between files would look like lost records at the next start.
            self.retire(&path)?;
            self.shared.segments.write().pop_front();
        }
    }

    fn identity(&self) -> &str {
        &self.identity_text
    }

    fn poisoned(&self) -> Option<String> {
        self.shared.poisoned.lock().clone()
    }

    fn disk_bytes(&self) -> u64 {
        let segments = self.shared.segments.read().len() + self.shared.spares.lock().len();
        segments as u64 * self.config.segment_bytes
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
    /// Keeps up to two retired segments for recycling; unlinks the others.
    fn retire(&self, path: &Path) -> Result<(), Error> {
        let what = || format!("retiring log segment `{}`", path.display());
        let right_size = std::fs::metadata(path).is_ok_and(|file| file.len() == self.config.segment_bytes);
        // The committer needs the list of spares: it is not held while the disk works.
        if right_size && self.shared.spares.lock().len() < 2 {
            let spare = self.config.directory.join(format!("{}.spare", Uuid::new_v4().simple()));
            std::fs::rename(path, &spare).context(what())?;
            sync_directory(&self.config.directory)?;
            self.shared.spares.lock().push(spare);
            return Ok(());
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context(what()),
            _ => sync_directory(&self.config.directory),
        }
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
        while let Some(first) = queue.blocking_recv() {
            let mut bytes = payload_bytes(&first.batch);
            let mut group = vec![first];
            while bytes < GROUP_BYTES {
                let Ok(request) = queue.try_recv() else { break };
                bytes += payload_bytes(&request.batch);
                group.push(request);
            }
            // The last one may lead over the limit by one batch, which is itself at most a group long.
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
        if full {
            self.roll().map_err(|error| Refused::Full(error.to_string()))?;
        }
        let records: Vec<Bytes> = group.iter().flat_map(|request| request.batch.records.iter().cloned()).collect();
        let mut segments = self.shared.segments.write();
        let Some(last) = segments.back_mut() else { return Err(Refused::Full("no segment".into())) };
        let first = last.next();
        last.write(&records).map_err(|error| {
            let reason = error.to_string();
            tracing::error!(error = %reason, "the log is poisoned: a write or sync failed");
            *self.shared.poisoned.lock() = Some(reason.clone());
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

    /// Begins a new segment from a spare, or from a fresh file of zeros.
    fn roll(&mut self) -> Result<(), Error> {
        let base = self.shared.segments.read().back().map_or(0, Segment::next);
        let recycled = self.shared.spares.lock().pop();
        let spare = match recycled {
            Some(spare) => spare,
            None => {
                let spare = self.config.directory.join(format!("{}.spare", Uuid::new_v4().simple()));
                segment::write_spare(&spare, self.config.segment_bytes)?;
                spare
            }
        };
        let segment = Segment::begin(&self.config.directory, &spare, self.identity, base)?;
        self.shared.segments.write().push_back(segment);
        Ok(())
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

fn load_identity(directory: &Path) -> Result<Uuid, Error> {
    let path = directory.join("IDENTITY");
    let what = || format!("reading `{}`", path.display());
    match std::fs::read(&path) {
        Ok(bytes) => {
            let identity: Identity = serde_json::from_slice(&bytes)
                .map_err(|error| Error::Corrupt(format!("`{}`: {error}", path.display())))?;
            if identity.format != 1 || identity.partitions != 1 {
                return Err(Error::Config(format!("`{}` is of another version", path.display())));
            }
            Ok(identity.id)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let identity = Identity { id: Uuid::new_v4(), format: 1, partitions: 1, created: format_time(now()) };
            let text = serde_json::to_vec_pretty(&identity).map_err(|error| Error::Corrupt(error.to_string()))?;
            let temporary = directory.join("IDENTITY.tmp");
            let mut file = File::create(&temporary).context(what())?;
            file.write_all(&text).context(what())?;
            file.sync_all().context(what())?;
            std::fs::rename(&temporary, &path).context(what())?;
            sync_directory(directory)?;
            Ok(identity.id)
        }
        Err(error) => Err(error).context(what()),
    }
}

/// Opens all segments, oldest first, checks that they meet, and lists the spares.
fn recover(directory: &Path, identity: Uuid, segment_bytes: u64) -> Result<(VecDeque<Segment>, Vec<PathBuf>), Error> {
    let mut paths = Vec::new();
    let mut spares = Vec::new();
    let what = || format!("listing `{}`", directory.display());
    for entry in std::fs::read_dir(directory).context(what())? {
        let path = entry.context(what())?.path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("seg") => paths.push(path),
            Some("spare") => spares.push(path),
            _ => {}
        }
    }
    // A crash may have left a half-written spare, and the configured size may have changed.
    spares.retain(|path| {
        let whole = std::fs::metadata(path).is_ok_and(|file| file.len() == segment_bytes);
        if !whole {
            let _ = std::fs::remove_file(path);
        }
        whole
    });
    paths.sort();
    let mut segments: VecDeque<Segment> = VecDeque::with_capacity(paths.len());
    for (index, path) in paths.iter().enumerate() {
        let last = index + 1 == paths.len();
        let (segment, rest) = Segment::open(path, identity, last)?;
        if let Some(previous) = segments.back()
            && previous.next() != segment.base
        {
            return Err(Error::Corrupt(format!(
                "log: offsets {} to {} are missing before `{}`",
                previous.next(),
                segment.base.saturating_sub(1),
                path.display()
            )));
        }
        if let Rest::Torn { position } = rest {
            tracing::warn!(segment = %path.display(), position, next_offset = segment.next(), "cut off a torn tail that was never acknowledged");
        }
        segments.push_back(segment);
    }
    // What a killed process had written may be in memory only; from here on it counts as stored.
    if let Some(last) = segments.back() {
        last.sync()?;
    }
    sync_directory(directory)?;
    Ok((segments, spares))
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
