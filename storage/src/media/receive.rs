//! Receiving an upload: hashed and written as it comes, in constant memory.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::keep::{Place, keep};
use super::remote::{self, Content};
use super::temporary::Temporary;
use super::{Media, write_failed};
use crate::error::Error;
use crate::event::hex;
use crate::threads::Task;

/// So many bytes are gathered before they are hashed and written.
const PIECE_BYTES: usize = 128 << 10;

/// The disk is asked to write back after so many bytes, so that the last sync is short.
const WRITE_BACK_BYTES: u64 = 32 << 20;

/// An upload on its way. Dropped before [`Receiver::finish`], nothing is left of it.
///
/// It holds what came last, up to 128 KiB, and one piece of as much that is being written.
pub struct Receiver {
    media: Media,
    gathered: Vec<u8>,
    bytes: u64,
    /// The part on disk, while its last piece is written; `None` until the upload is no longer small.
    writing: Option<Task<Result<Spill, Error>>>,
    /// A write failed or was given up half way: what came is not whole.
    broken: bool,
}

/// An upload that came whole and is not kept yet. Dropped, nothing is left of it.
pub struct Received {
    /// Of all bytes, lower-case hex.
    pub sha256: String,
    /// Size.
    pub bytes: u64,
    pub(super) media: Media,
    pub(super) body: Body,
}

/// Where the bytes of an upload are.
pub(super) enum Body {
    Memory(Vec<u8>),
    Disk(Temporary),
}

/// The part of an upload that is on disk.
struct Spill {
    media: Media,
    temporary: Temporary,
    hash: Sha256,
    unsynced: u64,
}

/// What work on disk came to; one that panicked has failed.
async fn ended<T>(work: &mut Task<Result<T, Error>>) -> Result<T, Error> {
    let broken = || Error::Io { context: "file work".into(), source: std::io::Error::other("it broke off") };
    work.done().await.ok_or_else(broken)?
}

impl Receiver {
    pub(super) fn new(media: Media) -> Receiver {
        Receiver { media, gathered: Vec::new(), bytes: 0, writing: None, broken: false }
    }

    /// Takes the next bytes; waits for the disk when it is behind.
    ///
    /// # Errors
    /// `TooLarge`, `Full` or `Io`; nothing more can be written then.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), Error> {
        // Stays set when this fails or is cancelled between two pieces.
        let broken = std::mem::replace(&mut self.broken, true);
        let total = self.bytes.saturating_add(chunk.len() as u64);
        if total > self.media.limit_bytes() {
            return Err(Error::TooLarge(self.media.limit_bytes()));
        }
        let piece = PIECE_BYTES.max(self.media.inner.config.small_bytes);
        let mut rest = &chunk[..];
        while !rest.is_empty() {
            if self.gathered.len() == piece {
                self.spill().await?;
            }
            let (now, later) = rest.split_at(rest.len().min(piece - self.gathered.len()));
            gather(&mut self.gathered, now, piece);
            rest = later;
        }
        self.bytes = total;
        self.broken = broken;
        Ok(())
    }

    /// Bytes that came.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Ends the upload: all of it came.
    ///
    /// # Errors
    /// `Full` or `Io` when it could not be written, also earlier.
    pub async fn finish(mut self) -> Result<Received, Error> {
        if self.broken {
            let source = std::io::Error::other("a write of this upload failed or was given up");
            return Err(Error::Io { context: "finishing an upload".into(), source });
        }
        let (sha256, body) = if self.writing.is_none() && self.gathered.len() <= self.media.inner.config.small_bytes {
            // At most 64 KiB, some 50 µs: less than to send it to another thread and back.
            (hex(&Sha256::digest(&self.gathered)), Body::Memory(self.gathered))
        } else {
            self.spill().await?;
            let Some(mut writing) = self.writing.take() else { return Err(Error::Closed) };
            let spill = ended(&mut writing).await?;
            (hex(&spill.hash.finalize()), Body::Disk(spill.temporary))
        };
        Ok(Received { sha256, bytes: self.bytes, media: self.media, body })
    }

    /// Sends what is gathered to disk, once the piece before it is written.
    async fn spill(&mut self) -> Result<(), Error> {
        let before = match &mut self.writing {
            // Waited for in place: a write that is given up loses nothing of what is on disk.
            Some(writing) => {
                let written = ended(writing).await;
                self.writing = None;
                Some(written?)
            }
            None => None,
        };
        let piece = std::mem::take(&mut self.gathered);
        let media = self.media.clone();
        self.writing = Some(self.media.inner.threads.begin(move || {
            let spill = before.map_or_else(|| Spill::begin(media), Ok)?;
            spill.append(&piece)
        }));
        Ok(())
    }
}

/// Adds to what is gathered; the buffer grows with what comes, up to a piece.
pub(super) fn gather(gathered: &mut Vec<u8>, more: &[u8], piece: usize) {
    let needed = gathered.len() + more.len();
    if needed > gathered.capacity() {
        let capacity = needed.max((2 * gathered.capacity()).min(piece));
        gathered.reserve_exact(capacity - gathered.len());
    }
    gathered.extend_from_slice(more);
}

impl Spill {
    fn begin(media: Media) -> Result<Spill, Error> {
        let temporary =
            Temporary::create(&media.inner.tree).map_err(|error| write_failed(error, "beginning an upload".into()))?;
        Ok(Spill { media, temporary, hash: Sha256::new(), unsynced: 0 })
    }

    fn append(mut self, piece: &[u8]) -> Result<Spill, Error> {
        self.media.account(piece.len() as u64)?;
        self.hash.update(piece);
        self.unsynced += piece.len() as u64;
        let mut written = self.temporary.append(piece);
        if written.is_ok() && self.unsynced >= WRITE_BACK_BYTES {
            self.unsynced = 0;
            written = self.temporary.sync_data();
        }
        written.map_err(|error| write_failed(error, "writing an upload".into()))?;
        Ok(self)
    }
}

impl Received {
    /// Keeps the recording; it is durable, file and directory entries, when this returns. Gives its object key:
    /// `objects/recordings/<tenant>/<day>/<name>`, with `#<offset>+<length>` when it shares a file.
    ///
    /// # Errors
    /// `Full` or `Io`; nothing is left of it then. `Config` when tenant, day or id cannot be names of files.
    pub async fn keep(self, tenant: &str, day: &str, recording_id: &str) -> Result<String, Error> {
        let place = Place { tenant: tenant.to_owned(), day: day.to_owned(), name: recording_id.to_owned() };
        match self.body {
            Body::Memory(bytes) => self.media.inner.packer.keep(place, self.sha256, bytes).await,
            Body::Disk(temporary) if let Some(bucket) = self.media.bucket() => {
                remote::keep(bucket, &Content::Disk(temporary.file()), place, Some(&self.sha256)).await
            }
            Body::Disk(temporary) => {
                let tree = Arc::clone(&self.media.inner.tree);
                let work = move || keep(&tree, temporary, place, &self.sha256);
                ended(&mut self.media.inner.threads.begin(work)).await
            }
        }
    }
}
