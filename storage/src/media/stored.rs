//! Stored objects: opened safely, read as a stream of bytes or as a file, from the disk or from a bucket.

use std::fs::File;
use std::io::{ErrorKind, IoSliceMut, Read, Result as IoResult, Seek, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures::{Stream, StreamExt};
use rustix::io::ReadWriteFlags;

use super::blocking;
use super::object_key::ObjectKey;
use super::remote;
use super::tree::{Tree, is_link, regular};
use crate::bucket::Bucket;
use crate::error::{Context, Error};

/// A stream gives pieces of this size.
const PIECE_BYTES: u64 = 64 << 10;

/// So many pieces of a stream are read before they are asked for.
const PIECES_AHEAD: usize = 2;

/// A stream from a bucket gives pieces of this size: each is a request.
const FETCHED_BYTES: u64 = 1 << 20;

/// An open object: a file, or a window of a shared one. On the local disk it can be read even after it was removed.
#[derive(Clone)]
pub struct Stored {
    home: Home,
    offset: u64,
    length: u64,
    modified_at: Option<SystemTime>,
}

/// Where its bytes are.
#[derive(Clone)]
enum Home {
    Disk(Arc<File>),
    Bucket {
        bucket: Bucket,
        key: Arc<str>,
        /// Where to put what must be a file.
        tree: Arc<Tree>,
    },
}

/// Opens an object by its key.
pub(super) async fn open(tree: &Arc<Tree>, bucket: Option<&Bucket>, object: &str) -> Result<Stored, Error> {
    let key = ObjectKey::parse(object)?;
    if let Some(bucket) = bucket {
        let found = bucket.find(key.file).await?;
        let home = Home::Bucket { bucket: bucket.clone(), key: key.file.into(), tree: Arc::clone(tree) };
        return Stored::new(home, &key, found.bytes, Some(found.modified_at));
    }
    // Most are known to the kernel: then the way to another thread and back would take longer than the work.
    let file = match tree.open_cached(key.file) {
        Some(file) => file,
        None => {
            let tree = Arc::clone(tree);
            let name = key.file.to_owned();
            blocking(move || tree.open_file(&name).map_err(|error| not_opened(error, &name))).await?
        }
    };
    regular(&file).map_err(|_| Error::Corrupt(format!("`{}` is not a file", key.file)))?;
    let metadata = file.metadata().context(format!("opening `{}`", key.file))?;
    Stored::new(Home::Disk(Arc::new(file)), &key, metadata.len(), metadata.modified().ok())
}

fn not_opened(error: std::io::Error, file: &str) -> Error {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Error::Missing(file.to_owned()),
        _ if is_link(&error) => Error::Corrupt(format!("a symbolic link is on the way to `{file}`")),
        _ => Error::Io { context: format!("opening `{file}`"), source: error },
    }
}

impl Stored {
    fn new(home: Home, key: &ObjectKey<'_>, bytes: u64, modified_at: Option<SystemTime>) -> Result<Stored, Error> {
        let (offset, length) = key.window.unwrap_or((0, bytes));
        if offset + length > bytes {
            return Err(Error::Corrupt(format!("`{}` is shorter than {} bytes", key.file, offset + length)));
        }
        Ok(Stored { home, offset, length, modified_at })
    }

    /// Size.
    pub fn bytes(&self) -> u64 {
        self.length
    }

    /// When its file was written.
    pub fn modified_at(&self) -> Option<SystemTime> {
        self.modified_at
    }

    /// The bytes of a range, cut at the end of the object, in pieces of 64 KiB (from a bucket 1 MiB) and in constant
    /// memory.
    ///
    /// A file that became shorter ends the stream with `UnexpectedEof`.
    pub fn stream(&self, range: Range<u64>) -> impl Stream<Item = IoResult<Bytes>> + Send + 'static + use<> {
        let end = range.end.min(self.length);
        let start = range.start.min(end);
        let (home, base) = (self.home.clone(), self.offset);
        let piece = match home {
            Home::Disk(_) => PIECE_BYTES,
            Home::Bucket { .. } => FETCHED_BYTES,
        };
        let pieces = (0..(end - start).div_ceil(piece)).map(move |index| {
            let from = start + index * piece;
            base + from..base + end.min(from + piece)
        });
        futures::stream::iter(pieces).map(move |range| home.clone().read(range)).buffered(PIECES_AHEAD)
    }

    /// The bytes as a file, for decoders; what lies in a bucket is fetched first. Clones and other readers of the same
    /// object do not disturb each other.
    ///
    /// # Errors
    /// If it cannot be fetched.
    pub async fn reader(&self) -> Result<StoredReader, Error> {
        let (file, offset) = match &self.home {
            Home::Disk(file) => (Arc::clone(file), self.offset),
            Home::Bucket { bucket, key, tree } => {
                (remote::fetch(bucket, tree, key, self.offset..self.offset + self.length).await?, 0)
            }
        };
        Ok(StoredReader { file, offset, length: self.length, position: 0 })
    }
}

impl Home {
    async fn read(self, range: Range<u64>) -> IoResult<Bytes> {
        match self {
            // At most a piece, which fits any usize.
            Home::Disk(file) => read_piece(file, range.start, (range.end - range.start) as usize).await,
            Home::Bucket { bucket, key, .. } => bucket.read_range(&key, range).await.map_err(std::io::Error::other),
        }
    }
}

/// Reads what the kernel has in memory at once, and the rest on a thread that may wait for the disk.
async fn read_piece(file: Arc<File>, position: u64, length: usize) -> IoResult<Bytes> {
    let mut piece = vec![0; length];
    let cached = [IoSliceMut::new(&mut piece)];
    let done = read_cached(&file, cached, position);
    if done < length {
        let read = tokio::task::spawn_blocking(move || {
            file.read_exact_at(&mut piece[done..], position + done as u64)?;
            Ok::<_, std::io::Error>(piece)
        });
        piece = read.await.map_err(std::io::Error::other)??;
    }
    Ok(Bytes::from(piece))
}

/// How many bytes could be read without waiting; a failure shows again in the read that waits.
fn read_cached(file: &File, mut into: [IoSliceMut<'_>; 1], position: u64) -> usize {
    rustix::io::preadv2(file, &mut into, position, ReadWriteFlags::NOWAIT).unwrap_or(0)
}

/// An object as a file of its own, with its own position.
#[derive(Clone, Debug)]
pub struct StoredReader {
    file: Arc<File>,
    offset: u64,
    length: u64,
    position: u64,
}

impl Read for StoredReader {
    fn read(&mut self, buffer: &mut [u8]) -> IoResult<usize> {
        let rest = self.length.saturating_sub(self.position);
        let wanted = usize::try_from(rest).unwrap_or(usize::MAX).min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.file.read_at(&mut buffer[..wanted], self.offset + self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for StoredReader {
    fn seek(&mut self, to: SeekFrom) -> IoResult<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(distance) => self.length.checked_add_signed(distance),
            SeekFrom::Current(distance) => self.position.checked_add_signed(distance),
        };
        self.position = position.ok_or_else(|| std::io::Error::from(ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}
