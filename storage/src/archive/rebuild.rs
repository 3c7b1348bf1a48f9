//! Rebuilding: all messages folded again, and the result put in place of every row of `calls` and `recordings`.
//!
//! The messages are folded into scratch tables while everything goes on; the last of them, the compaction
//! of the result and the exchange hold up other folds. A table is exchanged in one commit.

use std::collections::{BTreeSet, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use datafusion::prelude::{col, ident, lit};

use super::compact::Scope;
use super::duplicates::Aside;
use super::keyer::Keyer;
use super::landed::remember;
use super::projection::{Projected, Projection};
use super::refold::Scratch;
use super::restore::index_homes;
use super::sequencer::Failure;
use super::store::Tables;
use super::{Archive, Inner};
use crate::call::CallState;
use crate::error::Error;
use crate::event::Offset;
use crate::fact::decode_safely;
use crate::lake;
use crate::recording::RecordingState;

/// What a rebuild did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebuildReport {
    /// Messages read again.
    pub messages: u64,
    /// Calls written.
    pub calls: u64,
    /// Recordings written.
    pub recordings: u64,
}

/// Where messages are folded again, in the data directory.
pub(super) const SCRATCH: &str = "rebuild";

impl Archive {
    /// Folds all messages again and replaces every row of `calls` and `recordings` by the result. Messages that arrive
    /// meanwhile wait in the tail.
    ///
    /// # Errors
    /// `Conflict` when one is under way; if a table cannot be read or written: a table is then as before or whole. If
    /// that happens while they are exchanged, no more is taken in until a restart.
    pub async fn rebuild(&self) -> Result<RebuildReport, Error> {
        self.in_background(|inner| async move { inner.rebuild().await }).await
    }
}

impl Inner {
    async fn rebuild(&self) -> Result<RebuildReport, Error> {
        let Ok(_alone) = self.rebuilding.try_lock() else {
            return Err(Error::Conflict("a rebuild is under way".into()));
        };
        self.check_leads()?;
        let directory = self.config.data_dir.join(SCRATCH);
        let rebuilt = self.rebuild_in(&directory).await;
        // What stays is removed by the next rebuild or start.
        let _ = std::fs::remove_dir_all(&directory);
        rebuilt
    }

    async fn rebuild_in(&self, directory: &Path) -> Result<RebuildReport, Error> {
        let mut scratch = Scratch::make(self, directory, &|_| ()).await?;
        let _waiting = self.idle.wait();
        let _files_stay = self.compacting.lock().await;
        let mut tables = self.tables.lock().await;
        let until = self.fold_into(&mut tables).await?;
        let events = tables.events.provider().await?;
        scratch.take(&events, until, &|_| ()).await?;
        let mut report = RebuildReport { messages: scratch.messages, calls: 0, recordings: 0 };
        if let Some(until) = until {
            scratch.store.compact(Scope::Everything).await?;
            let mut again = scratch.store.tables.lock().await;
            let calls = self.write_again::<CallState>(&mut tables, &mut again).await?;
            let recordings = match self.write_again::<RecordingState>(&mut tables, &mut again).await {
                Ok(recordings) => recordings,
                Err(error) => {
                    tables.calls.table.discard(&calls.files).await;
                    return Err(error);
                }
            };
            (report.calls, report.recordings) = (calls.rows, recordings.rows);
            if let Err(error) = self.publish(&mut tables, &scratch, (calls, recordings), until).await {
                // Memory and indexes may no longer fit the tables: only a start makes them fit again, and until then no
                // fold may write what memory has, nor let the log go of it.
                self.ignoring.store(true, Ordering::Release);
                self.sequencer.lock().failed = Some(Failure::Other(format!("a rebuild broke off: {error}")));
                self.failed.store(true, Ordering::Release);
                return Err(error);
            }
            self.ignoring.store(false, Ordering::Release);
        }
        Ok(report)
    }

    /// Writes what was folded again into files of the table that no commit names yet.
    async fn write_again<S: Projected>(&self, tables: &mut Tables, again: &mut Tables) -> Result<Again, Error> {
        let scratch = &S::lane(again).table;
        let (provider, rows) = (scratch.provider().await?, scratch.rows_by_partition().await?);
        let table = &mut S::lane(tables).table;
        let (session, mut files) = (lake::in_one_partition(&self.session, None), Vec::new());
        let days: BTreeSet<&String> = rows.keys().map(|(day, _)| day).collect();
        for day in days {
            let frame = session.read_table(Arc::clone(&provider))?;
            let frame = frame.filter(col("day").eq(lit(day)).and(lake::read::is_whole()))?;
            let order = ["tenant", S::TIME, S::ID].map(|column| ident(column).sort(true, false)).to_vec();
            let written = async {
                let sorted = table.as_stored(frame)?.sort(order)?;
                table.write(sorted.execute_stream().await?).await
            };
            match written.await {
                Ok(written) => files.extend(written),
                Err(error) => {
                    table.discard(&files).await;
                    return Err(error);
                }
            }
        }
        Ok(Again { files, rows: rows.values().sum() })
    }

    /// Puts the new rows in the place of all rows, in tables and in memory.
    async fn publish(
        &self,
        tables: &mut Tables,
        scratch: &Scratch,
        (calls, recordings): (Again, Again),
        until: Offset,
    ) -> Result<(), Error> {
        // What it knows of calls without ids rests on the rows of before.
        tables.checkpoint.remove()?;
        self.replace::<CallState>(tables, calls, until).await?;
        self.replace::<RecordingState>(tables, recordings, until).await?;
        let (keyer, aside) = self.take_up(tables, scratch, until).await?;
        tables.checkpoint.write(until, keyer, aside)
    }

    async fn replace<S: Projected>(&self, tables: &mut Tables, again: Again, until: Offset) -> Result<(), Error> {
        let lane = S::lane(tables);
        // Home days may be others now: an index that is empty is made again after a crash, a wrong one is not.
        lane.homes.clear()?;
        lane.table.swap_all(again.files).await?;
        lane.provisional.clear();
        if lane.table.watermark < Some(until) {
            // It was not folded on the way here.
            lane.table.fold(Vec::new(), &[], until).await?;
        }
        let provider = lane.table.provider().await?;
        index_homes::<S>(&self.session, &mut lane.homes, &provider, lane.table.watermark).await
    }

    /// The new rows replace what memory knew of the old ones, and the tail is taken in again. Gives what a checkpoint
    /// at `until` knows.
    async fn take_up(&self, tables: &mut Tables, scratch: &Scratch, until: Offset) -> Result<(Keyer, Aside), Error> {
        let providers = (tables.calls.table.provider().await?, tables.recordings.table.provider().await?);
        let (keyer, latest) = {
            let sequencer = scratch.store.sequencer.lock();
            (sequencer.keyer.clone(), sequencer.duplicates.latest())
        };
        // Decoding takes time that the lock should not be held for; what comes meanwhile is little.
        let mut decoded = VecDeque::new();
        let tail = self.sequencer.lock().tail.view();
        for logged in tail.events().filter(|logged| logged.offset > until) {
            decoded.push_back((logged.offset, decode_safely(self.decoder.as_ref(), &logged.event)));
        }
        let mut sequencer = self.sequencer.lock();
        renew(&mut sequencer.calls, Projection::new(providers.0, Some(until), tables.calls.homes.view()));
        renew(&mut sequencer.recordings, Projection::new(providers.1, Some(until), tables.recordings.homes.view()));
        remember(&mut sequencer.calls, tables.calls.table.pinned(), self.config.keep_superseded);
        remember(&mut sequencer.recordings, tables.recordings.table.pinned(), self.config.keep_superseded);
        (sequencer.keyer, sequencer.keyed) = (keyer.clone(), Some(until));
        let tail = sequencer.tail.view();
        for logged in tail.events().filter(|logged| logged.offset > until) {
            let known = decoded.pop_front().filter(|(offset, _)| *offset == logged.offset);
            let mut decoded =
                known.map_or_else(|| decode_safely(self.decoder.as_ref(), &logged.event), |(_, decoded)| decoded);
            sequencer.project(logged.offset, &logged.event, &mut decoded, false)?;
        }
        Ok((keyer, sequencer.duplicates.aside(latest)))
    }
}

/// The rows of a table, folded again.
struct Again {
    files: Vec<lake::Add>,
    rows: u64,
}

fn renew<S: crate::rows::State>(projection: &mut Projection<S>, fresh: Projection<S>) {
    let history = std::mem::take(&mut projection.history);
    *projection = Projection { history, ..fresh };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::toy::{HOUR, NOON, Toy};
    use crate::archive::{ArchiveConfig, Message};
    use crate::event::{Micros, Source, new_event_id};
    use crate::recording::message;

    const CALLS: Micros = 40_000;

    /// One message a call, within two hours; half of them end theirs.
    fn of_call(number: Micros) -> Message {
        let at = NOON + number * (2 * HOUR / CALLS);
        let what = if number % 2 == 0 { "start" } else { "end" };
        let mut event = message::event("acme", "toy", None, &());
        (event.id, event.source, event.received_at) = (new_event_id(), Source::Placetel, at);
        event.payload = format!("call-{number}|{what}|{at}").into_bytes().into();
        Message::new(event, &Toy)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn rows_that_do_not_fit_into_memory_are_sorted_all_the_same() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let config = ArchiveConfig {
            min_free_bytes: 0,
            sort_bytes: 8 << 20,
            fold_interval: std::time::Duration::from_secs(3600),
            ..ArchiveConfig::new(directory.path())
        };
        let archive = Archive::open(config, Arc::new(Toy)).await.expect("opens");
        for first in (0..CALLS).step_by(2000) {
            archive.append((first..first + 2000).map(of_call).collect()).await.expect("acknowledged");
        }
        archive.flush().await.expect("folded");
        let before = archive.hash(&archive.snapshot().await.expect("a snapshot")).await.expect("hashed");
        let report = archive.rebuild().await.expect("rebuilt");
        assert_eq!(report.calls, CALLS.cast_unsigned());
        let after = archive.hash(&archive.snapshot().await.expect("a snapshot")).await.expect("hashed");
        assert_eq!(format!("{before:?}"), format!("{after:?}"));
        archive.close().await.expect("closed");
    }
}
