//! Rebuilding: all messages folded again, and the result put in place of every row of `calls` and `recordings`.
//!
//! The messages are folded into scratch tables while everything goes on; only the last of them and the exchange hold
//! up other folds. A table is exchanged in one commit.

use std::collections::BTreeSet;
use std::sync::Arc;

use datafusion::prelude::{col, ident, lit};

use super::fold::remember;
use super::projection::{Projected, Projection};
use super::refold::Scratch;
use super::restore::index_homes;
use super::store::Tables;
use super::{Archive, Inner};
use crate::call::CallState;
use crate::error::Error;
use crate::event::Offset;
use crate::recording::RecordingState;
use crate::rows::LoggedEvent;

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

impl Archive {
    /// Folds all messages again and replaces every row of `calls` and `recordings` by the result. Messages that arrive
    /// meanwhile wait in the tail.
    ///
    /// # Errors
    /// If a table cannot be read or written; a table is then as before or whole.
    pub async fn rebuild(&self) -> Result<RebuildReport, Error> {
        self.in_background(|inner| async move { inner.rebuild().await }).await
    }
}

impl Inner {
    async fn rebuild(&self) -> Result<RebuildReport, Error> {
        let directory = self.config.data_dir.join("rebuild");
        let mut scratch = Scratch::make(self, &directory, &|_| ()).await?;
        let mut tables = self.tables.lock().await;
        let until = self.fold_into(&mut tables).await?;
        let events = tables.events.provider().await?;
        scratch.take(&events, until, &|_| ()).await?;
        let mut report = RebuildReport { messages: scratch.messages, calls: 0, recordings: 0 };
        if let Some(until) = until {
            let mut again = scratch.store.tables.lock().await;
            scratch.store.compact(&mut again, true).await?;
            report.calls = self.replace::<CallState>(&mut tables, &mut again, until).await?;
            report.recordings = self.replace::<RecordingState>(&mut tables, &mut again, until).await?;
            self.take_up(&mut tables, &scratch, until).await?;
            self.ignoring.store(false, std::sync::atomic::Ordering::Release);
        }
        // A leftover is removed by the next rebuild.
        let _ = std::fs::remove_dir_all(&directory);
        Ok(report)
    }

    /// Writes what was folded again in place of all rows; says how many.
    async fn replace<S: Projected>(
        &self,
        tables: &mut Tables,
        again: &mut Tables,
        until: Offset,
    ) -> Result<u64, Error> {
        let scratch = &S::lane(again).table;
        let (provider, rows) = (scratch.provider().await?, scratch.rows_by_partition().await?);
        let lane = S::lane(tables);
        let mut adds = Vec::new();
        let days: BTreeSet<&String> = rows.keys().map(|(day, _)| day).collect();
        for day in days {
            let frame = self.session.read_table(Arc::clone(&provider))?;
            let frame = frame.filter(col("day").eq(lit(day)).and(col("tier").eq(lit("final"))))?;
            let order = ["tenant", S::TIME, S::ID].map(|column| ident(column).sort(true, false)).to_vec();
            let sorted = lane.table.as_stored(frame)?.sort(order)?;
            adds.extend(lane.table.write(sorted.execute_stream().await?).await?);
        }
        // Home days may be others now: an index that is empty is made again after a crash, a wrong one is not.
        lane.homes.clear()?;
        lane.table.swap(adds, None).await?;
        if lane.table.watermark < Some(until) {
            // It was not folded on the way here.
            lane.table.fold(Vec::new(), until).await?;
        }
        let provider = lane.table.provider().await?;
        index_homes::<S>(&self.session, &mut lane.homes, &provider, lane.table.watermark).await?;
        Ok(rows.values().sum())
    }

    /// The new rows replace what memory knew of the old ones, and the tail is taken in again.
    async fn take_up(&self, tables: &mut Tables, scratch: &Scratch, until: Offset) -> Result<(), Error> {
        let providers = (tables.calls.table.provider().await?, tables.recordings.table.provider().await?);
        let keyer = scratch.store.sequencer.lock().keyer.clone();
        let mut sequencer = self.sequencer.lock();
        renew(&mut sequencer.calls, Projection::new(providers.0, Some(until), tables.calls.homes.view()));
        renew(&mut sequencer.recordings, Projection::new(providers.1, Some(until), tables.recordings.homes.view()));
        remember(&mut sequencer.calls, &tables.calls.table, self.config.keep_superseded);
        remember(&mut sequencer.recordings, &tables.recordings.table, self.config.keep_superseded);
        (sequencer.keyer, sequencer.keyed) = (keyer, Some(until));
        let tail: Vec<LoggedEvent> = sequencer.tail.view().events().cloned().collect();
        for logged in tail.iter().filter(|logged| logged.offset > until) {
            sequencer.project(logged.offset, &logged.event, &logged.decoded, false)?;
        }
        Ok(())
    }
}

fn renew<S>(projection: &mut Projection<S>, fresh: Projection<S>) {
    let history = std::mem::take(&mut projection.history);
    *projection = Projection { history, ..fresh };
}
