//! Bytes to read: a [`Window`] walks over a part of them, an [`Excerpt`] shows a part of them to symphonia.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use symphonia::core::io::MediaSource;

/// Bytes that can be read from anywhere.
pub trait Source: Read + Seek + Send + Sync + 'static {}

impl<S: Read + Seek + Send + Sync + 'static> Source for S {}

/// Bytes that are read from the source at once.
const BUFFER: usize = 64 * 1024;

/// Reads forward over a part of a source, looking ahead as far as its buffer.
pub struct Window<'a> {
    source: &'a mut dyn Source,
    /// Bytes from `position` on.
    buffer: Vec<u8>,
    /// Where in the buffer `position` is.
    from: usize,
    position: u64,
    end: u64,
    /// Whether the source stands where the buffer ends.
    is_placed: bool,
}

impl<'a> Window<'a> {
    /// A look at these bytes of the source, from their start.
    pub fn new(source: &'a mut dyn Source, range: Range<u64>) -> Window<'a> {
        let end = range.end.max(range.start);
        Window { source, buffer: Vec::new(), from: 0, position: range.start, end, is_placed: false }
    }

    /// Where the next byte lies in the source.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Bytes from here to the end.
    pub fn left(&self) -> u64 {
        self.end.saturating_sub(self.position)
    }

    /// The next bytes, without passing them: fewer than asked for only at the end, more when they are at hand.
    pub fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.buffer.len() - self.from < count && (self.buffer.len() - self.from) as u64 != self.left() {
            self.fill(count)?;
        }
        Ok(&self.buffer[self.from..])
    }

    fn fill(&mut self, count: usize) -> io::Result<()> {
        self.buffer.drain(..self.from);
        self.from = 0;
        let held = self.buffer.len();
        if !self.is_placed {
            self.source.seek(SeekFrom::Start(self.position + held as u64))?;
            self.is_placed = true;
        }
        let wanted = count.max(BUFFER).min(usize::try_from(self.left()).unwrap_or(usize::MAX));
        self.buffer.resize(wanted.max(held), 0);
        let mut filled = held;
        while filled < self.buffer.len() {
            match self.source.read(&mut self.buffer[filled..]) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if filled < self.buffer.len() {
            // The source is shorter than was said.
            self.end = self.position + filled as u64;
            self.buffer.truncate(filled);
        }
        Ok(())
    }

    /// Passes bytes, at most to the end.
    pub fn skip(&mut self, count: u64) {
        let count = count.min(self.left());
        self.position += count;
        let held = (self.buffer.len() - self.from) as u64;
        if count <= held {
            self.from += count as usize;
        } else {
            self.buffer.clear();
            self.from = 0;
            self.is_placed = false;
        }
    }
}

/// A part of a source, led in by bytes of our own: symphonia sees a file that begins and ends where it should.
pub struct Excerpt {
    prefix: Vec<u8>,
    source: Box<dyn Source>,
    range: Range<u64>,
    position: u64,
    /// Where the source stands, if known.
    placed: Option<u64>,
    is_seekable: bool,
}

impl Excerpt {
    /// The prefix, then that range of the source.
    pub fn new(prefix: Vec<u8>, source: Box<dyn Source>, range: Range<u64>) -> Excerpt {
        Excerpt { prefix, source, range, position: 0, placed: None, is_seekable: true }
    }

    /// The same, but symphonia is told that it can only read on: it then does not look for what is cut off.
    pub fn forward_only(self) -> Excerpt {
        Excerpt { is_seekable: false, ..self }
    }

    fn length(&self) -> u64 {
        self.prefix.len() as u64 + (self.range.end - self.range.start)
    }
}

impl Read for Excerpt {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let prefix = self.prefix.len() as u64;
        if self.position < prefix {
            let rest = &self.prefix[self.position as usize..];
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            self.position += count as u64;
            return Ok(count);
        }
        let left = self.length().saturating_sub(self.position);
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if count == 0 {
            return Ok(0);
        }
        let at = self.range.start + (self.position - prefix);
        if self.placed != Some(at) {
            self.source.seek(SeekFrom::Start(at))?;
        }
        self.placed = None;
        let read = self.source.read(&mut buffer[..count])?;
        self.placed = Some(at + read as u64);
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for Excerpt {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length().checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

impl MediaSource for Excerpt {
    fn is_seekable(&self) -> bool {
        self.is_seekable
    }

    fn byte_len(&self) -> Option<u64> {
        Some(self.length())
    }
}
