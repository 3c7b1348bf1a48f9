//! Which runs become one, and how: as streams, so that memory does not grow with what is merged.

use std::sync::Arc;

use super::build::Builder;
use super::layout;
use super::run::{Run, entry};
use crate::error::Error;

/// A run is merged with those behind it once they have so many entries, less one, for each of its own.
const FACTOR: u64 = 4;
/// Less than this in all is written anew each time: it costs no more than the sync does.
const SMALL_ENTRIES: u64 = 4096;
/// No merge makes a run of more than this, so an append never waits for more than some seconds.
const LARGEST_ENTRIES: u64 = 1 << 25;
/// Blocks that a merge reads at once from each run.
const BLOCKS_AT_ONCE: usize = 64;

/// An entry of an index.
pub(super) type Entry<const V: usize> = (u128, [u8; V]);

/// The first of the runs (given by their entries, oldest first) that so many new entries are merged with; all behind
/// it are, too, because runs stay in the order of the log.
pub(super) fn first_to_merge(runs: &[u64], added: u64) -> usize {
    let mut first = runs.len();
    let mut behind = added;
    for (at, &entries) in runs.iter().enumerate().rev() {
        let together = behind + entries;
        if together > LARGEST_ENTRIES {
            break;
        }
        if together <= SMALL_ENTRIES || entries * (FACTOR - 1) <= behind {
            first = at;
        }
        behind = together;
    }
    first
}

/// Writes the sorted entries and those of the runs in one order; the very same entry is written once.
pub(super) fn merge<const V: usize>(
    entries: Vec<Entry<V>>,
    runs: &[Arc<Run<V>>],
    builder: &mut Builder<V>,
) -> Result<(), Error> {
    let mut sources: Vec<Source<V>> = runs.iter().map(|run| Source::Run(Cursor::new(run))).collect();
    sources.push(Source::Entries(entries.into_iter()));
    let mut heads = Vec::with_capacity(sources.len());
    for mut source in sources {
        heads.extend(source.next()?.map(|head| (head, source)));
    }
    let mut last = None;
    // There are but a few: to look at all of their heads takes less time than to keep entries of this size in a heap.
    while let Some(at) = (0..heads.len()).min_by(|one, other| heads[*one].0.cmp(&heads[*other].0)) {
        let (head, source) = &mut heads[at];
        if last != Some(*head) {
            builder.push(head.0, &head.1)?;
            last = Some(*head);
        }
        match source.next()? {
            Some(next) => *head = next,
            None => drop(heads.swap_remove(at)),
        }
    }
    Ok(())
}

enum Source<'a, const V: usize> {
    Run(Cursor<'a, V>),
    Entries(std::vec::IntoIter<Entry<V>>),
}

impl<const V: usize> Source<'_, V> {
    fn next(&mut self) -> Result<Option<Entry<V>>, Error> {
        match self {
            Source::Run(cursor) => cursor.next(),
            Source::Entries(entries) => Ok(entries.next()),
        }
    }
}

/// Reads a run from front to back.
struct Cursor<'a, const V: usize> {
    run: &'a Run<V>,
    next_block: usize,
    buffer: Vec<u8>,
    at: usize,
    entries: usize,
}

impl<'a, const V: usize> Cursor<'a, V> {
    fn new(run: &'a Run<V>) -> Self {
        let blocks = run.blocks().min(BLOCKS_AT_ONCE);
        Cursor { run, next_block: 0, buffer: vec![0; blocks * Run::<V>::FULL_BLOCK], at: 0, entries: 0 }
    }

    fn next(&mut self) -> Result<Option<Entry<V>>, Error> {
        if self.at == self.entries {
            let end = self.run.blocks().min(self.next_block + BLOCKS_AT_ONCE);
            if end == self.next_block {
                return Ok(None);
            }
            self.entries = self.run.read(self.next_block..end, &mut self.buffer)? / layout::entry_bytes(V);
            self.next_block = end;
            self.at = 0;
        }
        let entry = entry(&self.buffer, self.at);
        self.at += 1;
        Ok(Some(entry))
    }
}
