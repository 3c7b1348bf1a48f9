//! One run: an immutable file of sorted entries, and how a key is found in it.

use std::fs::File;
use std::io::ErrorKind;
use std::ops::{ControlFlow, Range};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::layout::{self, BLOCK_BYTES, Footer, HEADER_BYTES, Header, KEY_BYTES};
use crate::error::{Context, Error};

/// An open run. It stays readable when its file is unlinked.
pub(super) struct Run<const V: usize> {
    pub path: PathBuf,
    pub header: Header,
    file: File,
    footer: Footer,
}

impl<const V: usize> std::fmt::Debug for Run<V> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Run").field("path", &self.path).field("header", &self.header).finish_non_exhaustive()
    }
}

/// The key and the value of the entry at this place of a block.
pub(super) fn entry<const V: usize>(block: &[u8], at: usize) -> (u128, [u8; V]) {
    let entry = &block[at * layout::entry_bytes(V)..][..layout::entry_bytes(V)];
    let mut value = [0; V];
    value.copy_from_slice(&entry[KEY_BYTES..]);
    (key(block, at, layout::entry_bytes(V)), value)
}

fn key(block: &[u8], at: usize, entry_bytes: usize) -> u128 {
    let mut key = [0; KEY_BYTES];
    key.copy_from_slice(&block[at * entry_bytes..][..KEY_BYTES]);
    u128::from_be_bytes(key)
}

impl<const V: usize> Run<V> {
    const ENTRY_BYTES: usize = layout::entry_bytes(V);
    const PER_BLOCK: usize = layout::entries_per_block(V);
    /// Bytes of every block but the last.
    pub const FULL_BLOCK: usize = Self::PER_BLOCK * Self::ENTRY_BYTES;

    pub fn new(path: PathBuf, file: File, header: Header, footer: Footer) -> Run<V> {
        Run { path, header, file, footer }
    }

    /// Opens a run that a manifest names; reads its header and footer only.
    ///
    /// # Errors
    /// `Corrupt` when it is missing, damaged or of another log; `Io`.
    pub fn open(path: &Path, identity: &str) -> Result<Run<V>, Error> {
        let corrupt = |reason: &str| Error::Corrupt(format!("index run `{}`: {reason}", path.display()));
        let file = match File::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Err(corrupt("it is missing")),
            opened => opened.context(format!("opening index run `{}`", path.display()))?,
        };
        let mut bytes = [0; HEADER_BYTES];
        file.read_exact_at(&mut bytes, 0).map_err(|error| layout::not_read(error, path))?;
        let header = Header::from_bytes(&bytes, V, identity).map_err(corrupt)?;
        let footer = Footer::load(&file, path, &header, V)?;
        Ok(Run { path: path.to_owned(), header, file, footer })
    }

    pub fn blocks(&self) -> usize {
        self.footer.fences.len()
    }

    pub fn memory_bytes(&self) -> u64 {
        self.footer.memory_bytes()
    }

    /// Something of what [`Run::search`] looks at first.
    pub fn fetch(&self, key: u128) -> u32 {
        self.footer.filter.fetch(key)
    }

    /// Gives every value of the key, ascending, until told to stop.
    pub fn search(
        &self,
        key: u128,
        found: &mut impl FnMut(&[u8; V]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        if !self.footer.filter.may_contain(key) {
            return Ok(ControlFlow::Continue(()));
        }
        self.search_blocks(key, found)
    }

    #[inline(never)]
    fn search_blocks(
        &self,
        key: u128,
        found: &mut impl FnMut(&[u8; V]) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, Error> {
        let fence = (key >> 64) as u64;
        let fences = &self.footer.fences;
        // The block before the first that begins with these eight bytes may end with the key, and a key with many
        // values goes on into the blocks behind.
        let first = fences.partition_point(|first| *first < fence).saturating_sub(1);
        let mut buffer = [0; BLOCK_BYTES];
        for (block, _) in fences.iter().enumerate().skip(first).take_while(|(_, first)| **first <= fence) {
            let bytes = self.read(block..block + 1, &mut buffer)?;
            if search_block(&buffer[..bytes], key, found).is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Reads these blocks, one at least, and checks each; returns their bytes. The buffer must have room for them.
    ///
    /// # Errors
    /// `Corrupt` when a checksum differs or the file was cut short, `Io`.
    pub fn read(&self, blocks: Range<usize>, buffer: &mut [u8]) -> Result<usize, Error> {
        let begin = (HEADER_BYTES + blocks.start * Self::FULL_BLOCK) as u64;
        let end = ((HEADER_BYTES + blocks.end * Self::FULL_BLOCK) as u64).min(self.header.footer_at(V));
        let bytes = usize::try_from(end.saturating_sub(begin)).unwrap_or(usize::MAX);
        let buffer = &mut buffer[..bytes];
        self.file.read_exact_at(buffer, begin).map_err(|error| layout::not_read(error, &self.path))?;
        for (block, number) in buffer.chunks(Self::FULL_BLOCK).zip(blocks) {
            if crc32c::crc32c(block) != self.footer.checksums[number] {
                let path = self.path.display();
                return Err(Error::Corrupt(format!("index run `{path}`: block {number} is damaged")));
            }
        }
        Ok(bytes)
    }
}

fn search_block<const V: usize>(
    block: &[u8],
    wanted: u128,
    found: &mut impl FnMut(&[u8; V]) -> ControlFlow<()>,
) -> ControlFlow<()> {
    let entries = block.len() / layout::entry_bytes(V);
    let (mut low, mut high) = (0, entries);
    while low < high {
        let middle = low.midpoint(high);
        if key(block, middle, layout::entry_bytes(V)) < wanted {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    for at in low..entries {
        let (key, value) = entry(block, at);
        if key != wanted {
            break;
        }
        found(&value)?;
    }
    ControlFlow::Continue(())
}
