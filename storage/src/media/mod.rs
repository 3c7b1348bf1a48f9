//! The media store: the bytes of recordings, on a local disk or in a bucket.
//!
//! The way of an upload:
//!
//! ```text
//! receive() ── write(chunk)… ── finish() ──────────────► Received ── keep() ───────────► object key
//!                 │                                        (SHA-256)    │
//!                 ├─ up to 64 KiB: stays in memory ─────────────────────┴─ with all others that wait, one file,
//!                 │                                                        one sync: <uuid>.pack#offset+length
//!                 └─ more: objects/.tmp/<uuid>, hashed and written ─────── renamed to <recording id>, then synced
//!                          in pieces of 128 KiB
//! ```
//!
//! In a bucket the last step is a put instead, and the sync its answer.
//!
//! The law: an object key is handed out only when its bytes and its directory entries are on disk; nothing under
//! `objects/recordings` is ever overwritten; half an upload is nowhere but in `objects/.tmp`, which is emptied at start.
//!
//! What lies under `objects/recordings` and no message in the log names was never acknowledged: [`Media::sweep`] takes
//! it away once it is old.

pub mod audio;
mod claim;
mod keep;
pub mod keeper;
mod linker;
mod object_key;
mod pack;
mod receive;
mod remote;
mod stored;
mod sweep;
mod temporary;
mod tree;
mod waveform;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use url::Url;

pub use claim::Claim;
pub use receive::{Received, Receiver};
pub use stored::{Stored, StoredReader};

use crate::bucket::Bucket;
use crate::error::{Context, Error};
use crate::threads::Threads;
use object_key::ObjectKey;
use pack::Packer;
use tree::Tree;

/// Threads for the short work on disk of uploads. Syncs that wait together share a journal commit, so more would not be
/// faster.
const DISK_THREADS: usize = 32;

/// After so many bytes, of all uploads together, the free space is looked at again.
const SPACE_CHECK_BYTES: u64 = 64 << 20;

/// Settings of the media store.
#[derive(Clone, Debug)]
pub struct MediaConfig {
    /// The data directory; objects lie in `objects/` below it, all on one file system.
    pub data_dir: PathBuf,
    /// A longer recording is refused.
    pub limit_bytes: u64,
    /// Recordings up to this size share files.
    pub small_bytes: usize,
    /// Uploads are refused as `Full` while the file system has less than this.
    pub min_free_bytes: u64,
    /// Recordings lie in it instead of in the data directory, where uploads then only gather.
    pub bucket: Option<Bucket>,
    /// Who asks for a recording in the bucket is sent there, with an address that is good for so long.
    pub presign: Option<Duration>,
}

/// The media store; a cheap handle.
#[derive(Clone)]
pub struct Media {
    inner: Arc<Inner>,
}

struct Inner {
    config: MediaConfig,
    tree: Arc<Tree>,
    packer: Packer,
    threads: Threads,
    claims: Arc<claim::Claims>,
    /// Written by all uploads since the free space was last found sufficient.
    unchecked_bytes: AtomicU64,
}

impl Media {
    /// Opens the store, makes its directories and empties `objects/.tmp`. The caller holds the data directory's lock:
    /// uploads of another process would be taken for leftovers.
    ///
    /// # Errors
    /// `Config` when a directory of the store is a symbolic link or on another file system, `Io` when the disk fails.
    pub fn open(config: MediaConfig) -> Result<Media, Error> {
        let tree = Arc::new(Tree::open(&config.data_dir)?);
        tree.empty_temporary()?;
        let packer = match &config.bucket {
            Some(bucket) => Packer::start_in(bucket.clone())?,
            None => Packer::start(Arc::clone(&tree))?,
        };
        let (threads, claims) = (Threads::start("media-disk", DISK_THREADS)?, Arc::default());
        let inner = Inner { config, tree, packer, threads, claims, unchecked_bytes: AtomicU64::new(0) };
        Ok(Media { inner: Arc::new(inner) })
    }

    /// The largest recording that is taken.
    pub fn limit_bytes(&self) -> u64 {
        self.inner.config.limit_bytes
    }

    pub(super) fn bucket(&self) -> Option<&Bucket> {
        self.inner.config.bucket.as_ref()
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.inner.config.data_dir
    }

    /// Begins an upload, of as many bytes as announced.
    ///
    /// # Errors
    /// `TooLarge` when more is announced than is taken, `Full` when the disk has too little room for it.
    pub fn receive(&self, announced: Option<u64>) -> Result<Receiver, Error> {
        let announced = announced.unwrap_or(0);
        if announced > self.limit_bytes() {
            return Err(Error::TooLarge(self.limit_bytes()));
        }
        self.check_room(announced)?;
        Ok(Receiver::new(self.clone()))
    }

    /// Waits until nobody else claims this recording. It is held until dropped.
    pub async fn claim(&self, recording_id: &str) -> Claim {
        claim::Claims::take(&self.inner.claims, recording_id).await
    }

    /// Opens a stored object.
    ///
    /// # Errors
    /// `Missing` when there is none of this key, `Corrupt` when a symbolic link or something else than a file is in its
    /// place, or when it is shorter than its key says.
    pub async fn open_object(&self, object: &str) -> Result<Stored, Error> {
        stored::open(&self.inner.tree, self.bucket(), object).await
    }

    /// An address at which whoever has it may read the object past us, for as long as the configuration says. `None` if
    /// it says nothing, or the object lies on the local disk or shares its file with others.
    ///
    /// # Errors
    /// `Missing` when it is no key of this store, `Io` when the bucket's credentials cannot be had.
    pub async fn presign(&self, object: &str) -> Result<Option<Url>, Error> {
        let key = ObjectKey::parse(object)?;
        match (self.bucket(), self.inner.config.presign, key.window) {
            (Some(bucket), Some(valid), None) => bucket.presign(key.file, valid).await.map(Some),
            _ => Ok(None),
        }
    }

    /// Takes away an object that was stored and whose message was certainly not appended to the log. A recording that
    /// shares its file stays until the whole file is swept.
    ///
    /// # Errors
    /// `Io` when the disk fails; it is no error when there is none.
    pub async fn remove(&self, object: &str) -> Result<(), Error> {
        let key = ObjectKey::parse(object)?;
        if key.window.is_some() {
            return Ok(());
        }
        if let Some(bucket) = self.bucket() {
            return bucket.delete(key.file).await;
        }
        let file = key.file.to_owned();
        let tree = Arc::clone(&self.inner.tree);
        blocking(move || tree.unlink(&file).context(format!("removing `{file}`"))).await
    }

    /// Takes away the files that no object key names and that were last written before this; returns the bytes freed.
    /// `is_referenced` is asked for file keys: object keys without `#offset+length`. The time must lie before that at
    /// which the keys were gathered, by more than an upload waits for its message.
    ///
    /// # Errors
    /// `Io` when the disk fails; what was freed until then stays freed.
    pub async fn sweep(
        &self,
        before: SystemTime,
        is_referenced: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Result<u64, Error> {
        if let Some(bucket) = self.bucket() {
            return remote::sweep(bucket, before, &is_referenced).await;
        }
        let media = self.clone();
        blocking(move || sweep::sweep(media.data_dir(), &media.inner.tree, before, &is_referenced)).await
    }

    /// Refuses when the file system would have less than the floor after this many bytes more.
    ///
    /// # Errors
    /// `Full` when there is too little room, `Io` when the disk does not tell.
    pub fn check_room(&self, more: u64) -> Result<(), Error> {
        let free = crate::log::embedded::free_bytes(&self.inner.config.data_dir)?;
        let floor = self.inner.config.min_free_bytes;
        if free < floor.saturating_add(more) {
            return Err(Error::Full(format!(
                "{free} bytes are free for recordings, {floor} must stay free and {more} are asked for"
            )));
        }
        Ok(())
    }

    /// Counts bytes on their way to disk and looks at the free space now and then; while there is too little, always.
    fn account(&self, bytes: u64) -> Result<(), Error> {
        let unchecked = self.inner.unchecked_bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        if unchecked >= SPACE_CHECK_BYTES {
            self.check_room(0)?;
            self.inner.unchecked_bytes.store(0, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Runs file work off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    joined(tokio::task::spawn_blocking(work).await)
}

/// What a blocking task came to; one that panicked or was cut off by the shutdown has failed.
fn joined<T>(ended: Result<Result<T, Error>, tokio::task::JoinError>) -> Result<T, Error> {
    ended.map_err(|error| Error::Io { context: "file work".into(), source: std::io::Error::other(error) })?
}

/// Names a failed write: a full disk is not a broken one.
fn write_failed(error: std::io::Error, what: String) -> Error {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Error::Full(format!("{what}: {error}")),
        _ => Error::Io { context: what, source: error },
    }
}

#[cfg(test)]
mod tests;
