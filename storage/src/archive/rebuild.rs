//! Rebuilding: the calls dropped and folded again from the messages at rest, in one commit.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::TryStreamExt;

use super::keyer::Keyer;
use super::overlay::Overlay;
use super::sequencer::{Home, Sequencer};
use super::snapshot::arrival;
use super::tail::Tail;
use super::{Archive, Inner, Message};
use crate::error::Error;
use crate::lake;
use crate::rows::{self, KeyedCall};

/// What a rebuild did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RebuildReport {
    /// Messages read again.
    pub messages: u64,
    /// Calls written.
    pub calls: u64,
}

impl Archive {
    /// Folds all messages again and replaces every row of `calls` by the result. Messages that arrive meanwhile wait in
    /// the tail. All calls are held in memory while it runs.
    ///
    /// # Errors
    /// If a table cannot be read or written; the calls are then as before.
    pub async fn rebuild(&self) -> Result<RebuildReport, Error> {
        self.in_background(|inner| async move { inner.rebuild().await }).await
    }
}

impl Inner {
    async fn rebuild(&self) -> Result<RebuildReport, Error> {
        let mut tables = self.tables.lock().await;
        self.fold(&mut tables).await?;
        let Some(until) = tables.calls.watermark else { return Ok(RebuildReport { messages: 0, calls: 0 }) };
        let (events, calls) = (tables.events.provider().await?, tables.calls.provider().await?);
        let mut again = Sequencer {
            tail: Tail::default(),
            overlay: Overlay::default(),
            duplicates: super::duplicates::Duplicates::default(),
            keyer: Keyer::default(),
            homes: HashMap::new(),
            dirty: HashSet::new(),
            lacking: HashSet::new(),
            last: None,
            events_watermark: Some(until),
            calls_watermark: None,
            events: Arc::clone(&events),
            calls,
            history: Vec::new(),
        };
        let mut messages = 0;
        let mut stream = std::pin::pin!(lake::read::messages(&self.session, &events, None, Some(until)).await?);
        while let Some(batch) = stream.try_next().await? {
            messages += batch.len() as u64;
            for stored in batch {
                again.take(arrival(stored.offset, Message::new(stored.event, self.decoder.as_ref())));
            }
        }
        let merged = super::fold::merge(again.overlay.entries().map(|entry| entry.call.clone()).collect());
        let days: HashSet<i32> = merged.iter().map(|call| call.day).collect();
        let decoder = self.decoder.as_ref();
        let whole = |calls: &[KeyedCall]| rows::stored_calls(calls, "final", decoder);
        let batches: Result<Vec<RecordBatch>, Error> = merged.chunks(8192).map(whole).collect();
        tables.calls.swap(batches?, None).await?;
        self.take_up(&tables, again.homes, &days).await?;
        Ok(RebuildReport { messages, calls: merged.len() as u64 })
    }

    /// The new rows replace what memory knew of the old ones.
    async fn take_up(
        &self,
        tables: &super::Tables,
        homes: HashMap<u128, Home>,
        days: &HashSet<i32>,
    ) -> Result<(), Error> {
        let provider = tables.calls.provider().await?;
        let mut sequencer = self.sequencer.lock();
        sequencer.calls = provider;
        let late: HashMap<u128, Home> = sequencer
            .homes
            .iter()
            .filter(|(key, _)| !homes.contains_key(key))
            .map(|(key, home)| (*key, *home))
            .collect();
        sequencer.homes = homes.into_iter().map(|(key, home)| (key, Home { stored: true, ..home })).collect();
        sequencer.homes.extend(late);
        // Calls that came meanwhile were placed by what was known before.
        let homes = sequencer.homes.clone();
        let moved: Vec<_> =
            sequencer.overlay.entries().map(|entry| (entry.call.call_id.clone(), entry.call.day)).collect();
        for (id, day) in moved {
            let home = homes.get(&super::sequencer::home_key(&id)).map_or(day, |home| home.day);
            if home != day {
                sequencer.overlay.change(&id, |entry| entry.call.day = home);
            }
        }
        let mut all = days.clone();
        all.extend(sequencer.overlay.entries().map(|entry| entry.call.day).collect::<Vec<_>>());
        sequencer.swapped(&all);
        super::fold::remember(&mut sequencer, tables, self.config.keep_superseded);
        Ok(())
    }
}
