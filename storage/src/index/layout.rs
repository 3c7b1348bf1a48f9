//! What stands where in the file of a run, and the parts of it that are kept in memory.
//!
//! ```text
//! 0      magic "TRUNKLX1" | V u32 | entries a block u32 | SHA-256 of the log's identity 32
//!        | entries u64 | until u64 | stamp i64 | filter lines u64 | crc32c of the footer u32 | zeros | crc32c u32 at 124
//! 128    entries: key 16 (big endian) | value V, ascending; a block is a fixed number of them, the last has the rest
//! footer first 8 key bytes of every block u64 … | crc32c of every block u32 … | filter
//! ```
//!
//! Numbers are little endian but for keys. Opening reads header and footer, a look-up one block: both are checked.

use std::fs::File;
use std::io::{Error as IoError, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::filter::{Filter, LINE_BYTES};
use crate::error::{Context, Error};
use crate::event::{Micros, Offset};

const MAGIC: &[u8; 8] = b"TRUNKLX1";
pub(super) const HEADER_BYTES: usize = 128;
const HEADER_CHECKSUM: usize = HEADER_BYTES - 4;
pub(super) const KEY_BYTES: usize = 16;
/// A block has as many whole entries as fit: a look-up reads and checks so many bytes at most.
pub(super) const BLOCK_BYTES: usize = 3072;
/// Pieces in which a footer is read; whole fences, checksums and lines.
const PIECE_BYTES: usize = 1 << 20;

pub(super) const fn entry_bytes(value: usize) -> usize {
    KEY_BYTES + value
}

pub(super) const fn entries_per_block(value: usize) -> usize {
    assert!(entry_bytes(value) <= BLOCK_BYTES, "a value does not fit into a block");
    BLOCK_BYTES / entry_bytes(value)
}

/// What a run says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub entries: u64,
    pub until: Offset,
    pub stamp: Micros,
    pub filter_lines: u64,
    pub footer_checksum: u32,
}

fn identity_bytes(identity: &str) -> [u8; 32] {
    Sha256::digest(identity.as_bytes()).into()
}

fn number<const N: usize>(bytes: &[u8; HEADER_BYTES], at: usize) -> [u8; N] {
    let mut number = [0; N];
    number.copy_from_slice(&bytes[at..at + N]);
    number
}

impl Header {
    pub fn to_bytes(self, value: usize, identity: &str) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&(value as u32).to_le_bytes());
        bytes[12..16].copy_from_slice(&(entries_per_block(value) as u32).to_le_bytes());
        bytes[16..48].copy_from_slice(&identity_bytes(identity));
        bytes[48..56].copy_from_slice(&self.entries.to_le_bytes());
        bytes[56..64].copy_from_slice(&self.until.0.to_le_bytes());
        bytes[64..72].copy_from_slice(&self.stamp.to_le_bytes());
        bytes[72..80].copy_from_slice(&self.filter_lines.to_le_bytes());
        bytes[80..84].copy_from_slice(&self.footer_checksum.to_le_bytes());
        let checksum = crc32c::crc32c(&bytes[..HEADER_CHECKSUM]);
        bytes[HEADER_CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// `Err` says what is wrong.
    pub fn from_bytes(bytes: &[u8; HEADER_BYTES], value: usize, identity: &str) -> Result<Header, &'static str> {
        if &bytes[..8] != MAGIC {
            return Err("it is no run");
        }
        if crc32c::crc32c(&bytes[..HEADER_CHECKSUM]) != u32::from_le_bytes(number(bytes, HEADER_CHECKSUM)) {
            return Err("its header is damaged");
        }
        let shape = (u32::from_le_bytes(number(bytes, 8)), u32::from_le_bytes(number(bytes, 12)));
        if shape != (value as u32, entries_per_block(value) as u32) {
            return Err("its entries have another size");
        }
        if number(bytes, 16) != identity_bytes(identity) {
            return Err("it belongs to another log");
        }
        Ok(Header {
            entries: u64::from_le_bytes(number(bytes, 48)),
            until: Offset(u64::from_le_bytes(number(bytes, 56))),
            stamp: Micros::from_le_bytes(number(bytes, 64)),
            filter_lines: u64::from_le_bytes(number(bytes, 72)),
            footer_checksum: u32::from_le_bytes(number(bytes, 80)),
        })
    }

    pub fn blocks(&self, value: usize) -> u64 {
        self.entries.div_ceil(entries_per_block(value) as u64)
    }

    /// Where the footer begins.
    pub fn footer_at(&self, value: usize) -> u64 {
        self.entries.saturating_mul(entry_bytes(value) as u64).saturating_add(HEADER_BYTES as u64)
    }

    /// Length of the whole file.
    pub fn file_bytes(&self, value: usize) -> u64 {
        let blocks = self.blocks(value).saturating_mul(12);
        let filter = self.filter_lines.saturating_mul(LINE_BYTES as u64);
        self.footer_at(value).saturating_add(blocks).saturating_add(filter)
    }
}

/// What is kept in memory of a run.
pub(super) struct Footer {
    /// The first eight bytes of the first key of every block.
    pub fences: Vec<u64>,
    /// The crc32c of every block.
    pub checksums: Vec<u32>,
    pub filter: Filter,
}

impl Footer {
    /// Gives the footer as bytes, in pieces; returns their crc32c.
    pub fn store<E>(&self, mut write: impl FnMut(&[u8]) -> Result<(), E>) -> Result<u32, E> {
        let mut checksum = 0;
        let mut put = |bytes: &[u8]| {
            checksum = crc32c::crc32c_append(checksum, bytes);
            write(bytes)
        };
        for fences in self.fences.chunks(8 << 10) {
            put(&fences.iter().flat_map(|fence| fence.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        for checksums in self.checksums.chunks(16 << 10) {
            put(&checksums.iter().flat_map(|checksum| checksum.to_le_bytes()).collect::<Vec<u8>>())?;
        }
        self.filter.store(&mut put)?;
        Ok(checksum)
    }

    /// Reads the footer that this header describes.
    ///
    /// # Errors
    /// `Corrupt` when the file does not have the header's length or the checksum differs, `Io`.
    pub fn load(file: &File, path: &Path, header: &Header, value: usize) -> Result<Footer, Error> {
        let what = || format!("reading index run `{}`", path.display());
        let corrupt = |reason: &str| Error::Corrupt(format!("index run `{}`: {reason}", path.display()));
        // First of all, so that no number in the header asks for more memory than the file has bytes.
        if file.metadata().context(what())?.len() != header.file_bytes(value) || header.entries == 0 {
            return Err(corrupt("it does not have the length that its header states"));
        }
        let blocks = usize::try_from(header.blocks(value)).map_err(|_| corrupt("it has too many blocks"))?;
        let lines = usize::try_from(header.filter_lines).map_err(|_| corrupt("its filter is too large"))?;
        if lines == 0 {
            return Err(corrupt("it has no filter"));
        }
        let mut reader = FooterReader { file, position: header.footer_at(value), checksum: 0 };
        let (mut fences, mut checksums) = (Vec::with_capacity(blocks), Vec::with_capacity(blocks));
        let mut filter = Filter::to_load(lines);
        let read = (|| {
            reader.section(blocks * 8, |bytes| {
                fences.extend(bytes.as_chunks().0.iter().map(|fence| u64::from_le_bytes(*fence)));
            })?;
            reader.section(blocks * 4, |bytes| {
                checksums.extend(bytes.as_chunks().0.iter().map(|checksum| u32::from_le_bytes(*checksum)));
            })?;
            reader.section(lines * LINE_BYTES, |bytes| filter.load(bytes))
        })();
        read.map_err(|error| not_read(error, path))?;
        if reader.checksum != header.footer_checksum {
            return Err(corrupt("its footer is damaged"));
        }
        Ok(Footer { fences, checksums, filter })
    }

    pub fn memory_bytes(&self) -> u64 {
        self.filter.memory_bytes() + (self.fences.capacity() * 8 + self.checksums.capacity() * 4) as u64
    }
}

struct FooterReader<'a> {
    file: &'a File,
    position: u64,
    checksum: u32,
}

impl FooterReader<'_> {
    fn section(&mut self, bytes: usize, mut take: impl FnMut(&[u8])) -> Result<(), IoError> {
        let mut buffer = vec![0; bytes.min(PIECE_BYTES)];
        let mut left = bytes;
        while left > 0 {
            let piece = &mut buffer[..left.min(PIECE_BYTES)];
            self.file.read_exact_at(piece, self.position)?;
            self.checksum = crc32c::crc32c_append(self.checksum, piece);
            take(piece);
            self.position += piece.len() as u64;
            left -= piece.len();
        }
        Ok(())
    }
}

/// A file that ends too early is damaged; all else is the file system's failure.
pub(super) fn not_read(error: IoError, path: &Path) -> Error {
    if error.kind() == ErrorKind::UnexpectedEof {
        return Error::Corrupt(format!("index run `{}` was cut short", path.display()));
    }
    Error::Io { context: format!("reading index run `{}`", path.display()), source: error }
}
