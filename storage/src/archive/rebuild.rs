//! Rebuilding: the projections dropped and folded again from the messages at rest, each in one commit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::TryStreamExt;

use super::projection::{Home, Projected, Projection, home_key};
use super::sequencer::Sequencer;
use super::snapshot::arrival;
use super::{Archive, Inner, Message, Tables};
use crate::call::CallState;
use crate::error::Error;
use crate::lake;
use crate::recording::RecordingState;
use crate::rows::{self, Keyed};

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
    /// meanwhile wait in the tail. Everything is held in memory while it runs.
    ///
    /// # Errors
    /// If a table cannot be read or written; a table is then as before or whole.
    pub async fn rebuild(&self) -> Result<RebuildReport, Error> {
        self.in_background(|inner| async move { inner.rebuild().await }).await
    }
}

impl Inner {
    async fn rebuild(&self) -> Result<RebuildReport, Error> {
        let mut tables = self.tables.lock().await;
        self.fold(&mut tables).await?;
        let Some(until) = tables.calls.watermark else {
            return Ok(RebuildReport { messages: 0, calls: 0, recordings: 0 });
        };
        let events = tables.events.provider().await?;
        let (calls, recordings) = (tables.calls.provider().await?, tables.recordings.provider().await?);
        let (calls, recordings) = (Projection::new(calls, None), Projection::new(recordings, None));
        let mut again = Sequencer::new(Arc::clone(&events), Some(until), calls, recordings);
        let mut messages = 0;
        let mut stream = std::pin::pin!(lake::read::messages(&self.session, &events, None, Some(until)).await?);
        while let Some(batch) = stream.try_next().await? {
            messages += batch.len() as u64;
            for stored in batch {
                again.take(arrival(stored.offset, Message::new(stored.event, self.decoder.as_ref())));
            }
        }
        let Sequencer { calls, recordings, .. } = again;
        let calls = self.replace::<CallState>(&mut tables, calls).await?;
        let recordings = self.replace::<RecordingState>(&mut tables, recordings).await?;
        Ok(RebuildReport { messages, calls, recordings })
    }

    /// Writes what was folded again in place of all rows; says how many.
    async fn replace<S: Projected>(&self, tables: &mut Tables, again: Projection<S>) -> Result<u64, Error> {
        let merged = super::fold::merge(again.overlay.entries().map(|entry| entry.keyed.clone()).collect());
        let days: HashSet<i32> = merged.iter().map(|keyed| keyed.day).collect();
        let decoder = self.decoder.as_ref();
        let whole = |items: &[Keyed<S>]| rows::stored(items, "final", decoder);
        let batches: Result<Vec<RecordBatch>, Error> = merged.chunks(8192).map(whole).collect();
        S::table(tables).swap(batches?, None).await?;
        self.take_up::<S>(tables, again.homes, days).await?;
        Ok(merged.len() as u64)
    }

    /// The new rows replace what memory knew of the old ones.
    async fn take_up<S: Projected>(
        &self,
        tables: &mut Tables,
        homes: HashMap<u128, Home>,
        mut days: HashSet<i32>,
    ) -> Result<(), Error> {
        let provider = S::table(tables).provider().await?;
        let mut sequencer = self.sequencer.lock();
        let projection = S::of_mut(&mut sequencer);
        projection.table = provider;
        let late: Vec<(u128, Home)> = projection.homes.drain().filter(|(key, _)| !homes.contains_key(key)).collect();
        projection.homes = homes.into_iter().map(|(key, home)| (key, Home { stored: true, ..home })).collect();
        projection.homes.extend(late);
        // What came meanwhile was placed by what was known before.
        let entries = projection.overlay.entries();
        let placed: Vec<_> = entries.map(|entry| (Arc::clone(&entry.keyed.id), entry.keyed.day)).collect();
        for (id, day) in placed {
            let home = projection.homes.get(&home_key(&id)).map_or(day, |home| home.day);
            if home != day {
                projection.overlay.change(&id, |entry| entry.keyed.day = home);
            }
        }
        days.extend(projection.overlay.entries().map(|entry| entry.keyed.day));
        projection.swapped(&days);
        super::fold::remember(projection, S::table(tables), self.config.keep_superseded);
        Ok(())
    }
}
