//! A snapshot in pieces, for who remembers what each piece contributes: stored files, which never change, what memory
//! has, and which rows of which files give way to it.

use std::collections::HashMap;
use std::sync::Arc;

use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;

use super::snapshot::{Part, Snapshot};
use crate::call::LEG;
use crate::error::Error;
use crate::event::{Id, Source};
use crate::lake::{DataFile, File, Pinned};
use crate::rows::{FINAL, LoggedEvent, ShownCall, State, day_name};

/// A table of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StoredTable {
    /// `calls`.
    Calls,
    /// `recordings`.
    Recordings,
    /// `events`.
    Events,
}

/// A file with rows that are shown, but for those that memory supersedes.
#[derive(Clone, Debug)]
pub struct StoredFile {
    table: Arc<Pinned>,
    file: File,
    /// Ids of rows that memory has too, and that may be in this file.
    pub maybe_superseded: Arc<[Id]>,
}

impl StoredFile {
    /// Its name, which no other file ever has.
    pub fn path(&self) -> &str {
        &self.file.path
    }

    /// Rows in it.
    pub fn rows(&self) -> u64 {
        self.file.rows
    }

    /// Reads its end: columns and statistics.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub async fn footer(&self) -> Result<ArrowReaderMetadata, Error> {
        self.table.footer(&self.file).await
    }

    /// Begins to read it; `footer` is what [`StoredFile::footer`] gave.
    ///
    /// # Errors
    /// If the file cannot be named.
    pub fn open(&self, footer: ArrowReaderMetadata) -> Result<ParquetRecordBatchStreamBuilder<DataFile>, Error> {
        self.table.open(&self.file, footer)
    }
}

/// A call that memory has; its rows in files do not count.
#[derive(Clone, Debug)]
pub struct FreshCall<'a> {
    /// Whose it is.
    pub tenant: &'a str,
    /// The telephone system.
    pub source: Source,
    /// Our id.
    pub call_id: &'a str,
    /// The rest.
    pub shown: Arc<ShownCall>,
}

impl Snapshot {
    /// The files of a table with rows that are shown; of messages see [`Snapshot::stored_until`].
    ///
    /// # Errors
    /// If the table cannot be read.
    pub async fn files(&self, table: StoredTable) -> Result<Vec<StoredFile>, Error> {
        if self.offset.is_none() {
            return Ok(Vec::new());
        }
        match table {
            StoredTable::Calls => files_of(&self.calls).await,
            StoredTable::Recordings => files_of(&self.recordings).await,
            StoredTable::Events => {
                let (table, none) = (&self.stored_events, Arc::from([]));
                let files = table.files().await?;
                let stored = files.iter().map(|file| StoredFile {
                    table: Arc::clone(table),
                    file: file.clone(),
                    maybe_superseded: Arc::clone(&none),
                });
                Ok(stored.collect())
            }
        }
    }

    /// The calls that memory has, but for those that became legs of others.
    pub fn fresh_calls(&self) -> impl Iterator<Item = FreshCall<'_>> {
        let entries = self.calls.overlay.entries().filter(|_| self.offset.is_some());
        entries.filter_map(|entry| {
            let call = &entry.keyed;
            let shown = entry.shown.get_or_init(|| Arc::new(State::show(call, self.decoder.as_ref())));
            let fresh =
                FreshCall { tenant: &call.tenant, source: call.source, call_id: &call.id, shown: Arc::clone(shown) };
            (shown.row.state != LEG).then_some(fresh)
        })
    }

    /// The messages that are not in the table yet.
    pub fn fresh_messages(&self) -> impl Iterator<Item = &LoggedEvent> {
        self.tail.events().filter(|_| self.offset.is_some())
    }
}

/// What a file may have of what memory supersedes depends on its day, and on whether its rows are provisional.
async fn files_of<S: State>(part: &Part<S>) -> Result<Vec<StoredFile>, Error> {
    let placement = &part.placement;
    let mut superseded: HashMap<(i32, bool), Vec<Id>> = HashMap::new();
    for entry in part.overlay.entries() {
        let places = match (placement.is_noting, entry.stored) {
            (true, _) => [Some(true), Some(false)],
            (false, true) => [Some(entry.provisional), None],
            (false, false) => [None, None],
        };
        for provisional in places.into_iter().flatten() {
            superseded.entry((entry.keyed.day, provisional)).or_default().push(entry.keyed.id.clone());
        }
    }
    let superseded: HashMap<(String, bool), Arc<[Id]>> =
        superseded.into_iter().map(|((day, provisional), ids)| ((day_name(day), provisional), ids.into())).collect();
    let files = part.table.files().await?;
    let shown = files.iter().filter(|file| file.tier == FINAL);
    let stored = shown.map(|file| {
        let provisional = placement.provisional.contains(&file.path);
        let maybe_superseded = superseded.get(&(file.day.clone(), provisional)).cloned().unwrap_or_default();
        StoredFile { table: Arc::clone(&part.table), file: file.clone(), maybe_superseded }
    });
    Ok(stored.collect())
}

#[cfg(test)]
mod tests;
