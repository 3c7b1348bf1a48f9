//! Stored objects: opened safely, read as a stream of bytes or as a file.

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
use super::tree::{Tree, is_link, regular};
use crate::error::{Context, Error};

/// A stream gives pieces of this size.
const PIECE_BYTES: u64 = 64 << 10;

/// So many pieces of a stream are read before they are asked for.
const PIECES_AHEAD: usize = 2;

/// An open object: a file, or a window of a shared one. It can be read even after it was removed.
#[derive(Clone, Debug)]
pub struct Stored {
    file: Arc<File>,
    offset: u64,
    length: u64,
    modified_at: Option<SystemTime>,
}

/// Opens an object by its key.
pub(super) async fn open(tree: &Arc<Tree>, object: &str) -> Result<Stored, Error> {
    let key = ObjectKey::parse(object)?;
    // Most are known to the kernel: then the way to another thread and back would take longer than the work.
    let file = match tree.open_cached(key.file) {
        Some(file) => file,
        None => {
            let tree = Arc::clone(tree);
            let name = key.file.to_owned();
            blocking(move || tree.open_file(&name).map_err(|error| not_opened(error, &name))).await?
        }
    };
    Stored::new(file, &key)
}

fn not_opened(error: std::io::Error, file: &str) -> Error {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => Error::Missing(file.to_owned()),
        _ if is_link(&error) => Error::Corrupt(format!("a symbolic link is on the way to `{file}`")),
        _ => Error::Io { context: format!("opening `{file}`"), source: error },
    }
}

impl Stored {
    fn new(file: File, key: &ObjectKey<'_>) -> Result<Stored, Error> {
        regular(&file).map_err(|_| Error::Corrupt(format!("`{}` is not a file", key.file)))?;
        let metadata = file.metadata().context(format!("opening `{}`", key.file))?;
        let (offset, length) = key.window.unwrap_or((0, metadata.len()));
        if offset + length > metadata.len() {
            return Err(Error::Corrupt(format!("`{}` is shorter than {} bytes", key.file, offset + length)));
        }
        Ok(Stored { file: Arc::new(file), offset, length, modified_at: metadata.modified().ok() })
    }

    /// Size.
    pub fn bytes(&self) -> u64 {
        self.length
    }

    /// When its file was written.
    pub fn modified_at(&self) -> Option<SystemTime> {
        self.modified_at
    }

    /// The bytes of a range, cut at the end of the object, in pieces of 64 KiB and in constant memory.
    ///
    /// A file that became shorter ends the stream with `UnexpectedEof`.
    pub fn stream(&self, range: Range<u64>) -> impl Stream<Item = IoResult<Bytes>> + Send + 'static + use<> {
        let end = range.end.min(self.length);
        let start = range.start.min(end);
        let (file, base) = (Arc::clone(&self.file), self.offset);
        let pieces = (0..(end - start).div_ceil(PIECE_BYTES)).map(move |index| {
            let from = start + index * PIECE_BYTES;
            // At most a piece, which fits any usize.
            (base + from, (end - from).min(PIECE_BYTES) as usize)
        });
        futures::stream::iter(pieces)
            .map(move |(position, length)| read_piece(Arc::clone(&file), position, length))
            .buffered(PIECES_AHEAD)
    }

    /// The bytes as a file, for decoders. Clones and other readers of the same object do not disturb each other.
    pub fn reader(&self) -> StoredReader {
        StoredReader { file: Arc::clone(&self.file), offset: self.offset, length: self.length, position: 0 }
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
