//! What is remembered of files, which never change: their ends, the ids in them, and what they contribute to reports.

use std::any::Any;
use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use trunklog_storage::event::{Id, Micros};

use super::calendar::Interval;

/// All that is remembered takes no more than about so many bytes.
const MOST_BYTES: usize = 192 << 20;

/// What a piece is of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum PieceKey {
    /// The end of a file.
    Footer(String),
    /// The sorted hashes of the ids in a file.
    Ids(String),
    /// What the rows of a file come to that count for this tenant; those within the interval, or all.
    Partial { shape: Arc<str>, tenant: Option<Arc<str>>, path: String, within: Option<Interval> },
}

/// What a file contributes, without the rows that are superseded.
#[derive(Clone)]
pub(crate) struct Piece {
    /// The partial result, the end, or the ids.
    pub value: Arc<dyn Any + Send + Sync>,
    /// Ids that are left out, sorted.
    pub superseded: Arc<[Id]>,
    /// As of when it was computed; before then it may have been another one.
    pub made_at: Micros,
    /// From then on it is another one.
    pub changes_at: Option<Micros>,
}

impl Piece {
    /// What is true of a file whatever the question, and for ever.
    pub fn of_file(value: Arc<dyn Any + Send + Sync>) -> Piece {
        Piece { value, superseded: Arc::from([]), made_at: Micros::MIN, changes_at: None }
    }

    /// Whether it holds at this time.
    pub fn holds(&self, at: Micros) -> bool {
        self.made_at <= at && self.changes_at.is_none_or(|changes_at| changes_at >= at)
    }
}

struct Remembered {
    piece: Piece,
    bytes: usize,
    used: u64,
}

#[derive(Default)]
struct Memory {
    pieces: HashMap<PieceKey, Remembered>,
    bytes: usize,
    clock: u64,
}

/// What is remembered. Losing it costs time only.
#[derive(Default)]
pub(crate) struct Partials {
    memory: Mutex<Memory>,
}

impl Partials {
    /// What is remembered under this key.
    pub fn get(&self, key: &PieceKey) -> Option<Piece> {
        let mut memory = self.memory.lock();
        memory.clock += 1;
        let clock = memory.clock;
        let found = memory.pieces.get_mut(key)?;
        found.used = clock;
        Some(found.piece.clone())
    }

    /// Remembers a piece; what was not used for longest is forgotten.
    pub fn put(&self, key: PieceKey, piece: Piece, bytes: usize) {
        let mut memory = self.memory.lock();
        memory.clock += 1;
        let used = memory.clock;
        memory.bytes += bytes;
        if let Some(before) = memory.pieces.insert(key, Remembered { piece, bytes, used }) {
            memory.bytes -= before.bytes;
        }
        if memory.bytes > MOST_BYTES {
            memory.forget();
        }
        metrics::gauge!("trunklog_report_memory_bytes").set(memory.bytes as f64);
    }
}

impl Memory {
    /// Down to three quarters, so that it need not be done for every piece.
    fn forget(&mut self) {
        let mut by_use: Vec<(u64, PieceKey)> =
            self.pieces.iter().map(|(key, remembered)| (remembered.used, key.clone())).collect();
        by_use.sort_unstable_by_key(|(used, _)| *used);
        for (_, key) in by_use {
            if self.bytes <= MOST_BYTES / 4 * 3 {
                return;
            }
            self.bytes -= self.pieces.remove(&key).map_or(0, |remembered| remembered.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_is_forgotten() {
        let partials = Partials::default();
        let piece = Piece::of_file(Arc::new(()));
        let key = |number: usize| PieceKey::Ids(number.to_string());
        for number in 0..100 {
            partials.put(key(number), piece.clone(), MOST_BYTES / 50);
            assert!(partials.get(&key(0)).is_some(), "it is used all the time");
        }
        assert!(partials.get(&key(1)).is_none() && partials.get(&key(99)).is_some());
        assert!(partials.memory.lock().bytes <= MOST_BYTES);
    }
}
