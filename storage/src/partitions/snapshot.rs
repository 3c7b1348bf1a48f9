//! One view of all partitions: a snapshot of each, taken at one time.

use std::sync::Arc;

use crate::archive::{self, StoredFile, StoredTable};
use crate::error::Error;
use crate::event::Micros;
use crate::position::Position;

/// One view of the archive; cheap to clone, unchanging, usable for as long as superseded files are kept.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When it was taken, or the time it stands for.
    pub time: Micros,
    over_kafka: bool,
    /// In order of the partitions.
    all: Arc<[archive::Snapshot]>,
}

impl Snapshot {
    pub(super) fn new(over_kafka: bool, all: Vec<archive::Snapshot>) -> Snapshot {
        // What was received before the first of them is in all of them.
        let time = all.iter().map(|part| part.time).min().unwrap_or_default();
        Snapshot { time, over_kafka, all: all.into() }
    }

    /// The last messages that it contains.
    pub fn position(&self) -> Position {
        let parts = self.all.iter().enumerate();
        parts.fold(Position::unsaid(self.over_kafka), |position, (at, part)| position.with(at, part.offset))
    }

    /// The snapshots of the partitions that have messages, with their numbers. Of others no rows are shown.
    pub fn parts(&self) -> impl Iterator<Item = (usize, &archive::Snapshot)> {
        self.all.iter().enumerate().filter(|(_, part)| part.offset.is_some())
    }

    /// The snapshots of all partitions, in order.
    pub fn all(&self) -> &[archive::Snapshot] {
        &self.all
    }

    /// The files of a table with rows that are shown.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn files(&self, table: StoredTable) -> Result<Vec<StoredFile>, Error> {
        let mut files = Vec::new();
        for (_, part) in self.parts() {
            files.extend(part.files(table).await?);
        }
        Ok(files)
    }

    /// Of the stored messages of each partition only those up to here count; `None` for all of them.
    pub fn stored_until(&self) -> Option<Position> {
        let parts = self.all.iter().enumerate().filter_map(|(at, part)| Some((at, part.stored_until?)));
        let until = parts.fold(Position::unsaid(self.over_kafka), |until, (at, offset)| until.with(at, Some(offset)));
        Some(until).filter(|until| !until.is_empty())
    }
}
