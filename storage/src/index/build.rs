//! Writing a run: entries come in order, blocks go out, and nothing but filter, fences and checksums is kept.

use std::fs::{File, OpenOptions};
use std::io::{Result as IoResult, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::filter::Filter;
use super::layout::{self, Footer, HEADER_BYTES, Header};
use super::run::Run;
use crate::error::{Context, Error};
use crate::event::{Micros, Offset};

/// Bytes that are gathered for one write.
const BUFFER_BYTES: usize = 1 << 20;
/// After so many bytes the file is synced, so that no sync of the log has to wait for a gigabyte of ours.
const SYNC_BYTES: usize = 16 << 20;

/// A run that is being written. It is not durable, and no run, before [`Builder::finish`].
pub(super) struct Builder<const V: usize> {
    path: PathBuf,
    output: Output,
    /// The block that is being filled.
    block: Vec<u8>,
    footer: Footer,
    entries: u64,
}

impl<const V: usize> Builder<V> {
    /// Begins a new file, for at most so many entries.
    pub fn begin(path: &Path, at_most: u64) -> Result<Builder<V>, Error> {
        let what = || format!("making index run `{}`", path.display());
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).context(what())?;
        let mut output = Output { file, buffer: Vec::with_capacity(BUFFER_BYTES + layout::BLOCK_BYTES), unsynced: 0 };
        // The place of the header, which is known at the end.
        output.write(&[0; HEADER_BYTES]).context(what())?;
        let footer = Footer { fences: Vec::new(), checksums: Vec::new(), filter: Filter::for_entries(at_most) };
        let block = Vec::with_capacity(Run::<V>::FULL_BLOCK);
        Ok(Builder { path: path.to_owned(), output, block, footer, entries: 0 })
    }

    /// Takes the next entry; it must be greater than the one before.
    pub fn push(&mut self, key: u128, value: &[u8; V]) -> Result<(), Error> {
        if self.block.is_empty() {
            self.footer.fences.push((key >> 64) as u64);
        }
        self.block.extend_from_slice(&key.to_be_bytes());
        self.block.extend_from_slice(value);
        self.footer.filter.insert(key);
        self.entries += 1;
        if self.block.len() == Run::<V>::FULL_BLOCK {
            self.end_block()?;
        }
        Ok(())
    }

    fn end_block(&mut self) -> Result<(), Error> {
        self.footer.checksums.push(crc32c::crc32c(&self.block));
        let written = self.output.write(&self.block);
        self.block.clear();
        written.context(format!("writing index run `{}`", self.path.display()))
    }

    /// Writes footer and header and syncs the file; its directory entry is the manifest's care.
    pub fn finish(mut self, identity: &str, until: Offset, stamp: Micros) -> Result<Run<V>, Error> {
        if !self.block.is_empty() {
            self.end_block()?;
        }
        let what = || format!("finishing index run `{}`", self.path.display());
        let output = &mut self.output;
        let footer_checksum = self.footer.store(|bytes| output.write(bytes)).context(what())?;
        output.flush().context(what())?;
        let filter_lines = self.footer.filter.line_count() as u64;
        let header = Header { entries: self.entries, until, stamp, filter_lines, footer_checksum };
        output.file.write_all_at(&header.to_bytes(V, identity), 0).context(what())?;
        output.file.sync_all().context(what())?;
        self.footer.fences.shrink_to_fit();
        self.footer.checksums.shrink_to_fit();
        Ok(Run::new(self.path, self.output.file, header, self.footer))
    }
}

struct Output {
    file: File,
    buffer: Vec<u8>,
    unsynced: usize,
}

impl Output {
    fn write(&mut self, bytes: &[u8]) -> IoResult<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() < BUFFER_BYTES {
            return Ok(());
        }
        self.flush()?;
        if self.unsynced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(())
    }

    fn flush(&mut self) -> IoResult<()> {
        self.file.write_all(&self.buffer)?;
        self.unsynced += self.buffer.len();
        self.buffer.clear();
        Ok(())
    }
}
