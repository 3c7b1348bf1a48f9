//! Folding: the tail and the changed states into the tables, each with its own watermark.
//!
//! A call or recording that has no row yet is appended whole to the final tier, which reads nothing and rewrites
//! nothing; of one that has a row a part is appended, and [`super::compact`] merges the two later. So most calls are
//! written once. All rows of a table go in one commit with the log's offset; then the index of home days is told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;

use super::duplicates::Duplicates;
use super::keyer::Keyer;
use super::projection::{Attempt, Projected, Projection, home_entry};
use super::sequencer::Sequencer;
use super::store::{Store, Tables};
use crate::call::CallState;
use crate::error::Error;
use crate::event::{Micros, Offset};
use crate::lake::{Table, Version};
use crate::recording::RecordingState;
use crate::rows::{self, Keyed, LoggedEvent, State};

/// Rows per record batch that is written.
pub(super) const BATCH_ROWS: usize = 8192;

/// States that were gathered: dirty again unless they get written, whatever ends the fold.
struct Pending<'a, S: Projected> {
    store: &'a Store,
    /// The table lacks the messages up to this fold's end.
    behind: bool,
    /// Those that get their first row.
    whole: Vec<Keyed<S>>,
    /// Those that have one.
    parts: Vec<Keyed<S>>,
}

impl<S: Projected> Drop for Pending<'_, S> {
    fn drop(&mut self) {
        if !(self.whole.is_empty() && self.parts.is_empty()) {
            let mut sequencer = self.store.sequencer.lock();
            let ids = self.whole.drain(..).chain(self.parts.drain(..)).map(|keyed| keyed.id);
            S::of_mut(&mut sequencer).dirty.extend(ids);
        }
    }
}

impl<'a, S: Projected> Pending<'a, S> {
    fn gather(store: &'a Store, sequencer: &mut Sequencer, until: Offset) -> Pending<'a, S> {
        let projection = S::of_mut(sequencer);
        let (whole, parts) = projection.changed();
        projection.dirty.clear();
        Pending { store, behind: projection.is_behind(until), whole, parts }
    }

    fn written(&mut self) {
        self.whole.clear();
        self.parts.clear();
    }

    fn attempt(&self, until: Offset) -> Attempt {
        Attempt {
            until,
            whole: self.whole.iter().map(|keyed| (Arc::clone(&keyed.id), keyed.day)).collect(),
            parts: self.parts.iter().map(|keyed| Arc::clone(&keyed.id)).collect(),
        }
    }

    fn rows(&mut self) -> Result<Vec<RecordBatch>, Error> {
        let decoder = self.store.decoder.as_ref();
        let mut batches = Vec::new();
        for (states, tier) in [(&mut self.whole, "final"), (&mut self.parts, "part")] {
            sort(states);
            for chunk in states.chunks(BATCH_ROWS) {
                batches.push(rows::stored(chunk, tier, decoder)?);
            }
        }
        Ok(batches)
    }
}

/// What a fold writes.
struct Work<'a> {
    until: Offset,
    events: Vec<LoggedEvent>,
    events_behind: bool,
    calls: Pending<'a, CallState>,
    recordings: Pending<'a, RecordingState>,
    keyer: Keyer,
    /// The highest receipt time of all messages up to the fold's end: what follows must not show in it.
    latest: Micros,
}

impl Store {
    /// Writes what was taken in; returns the last offset that is then in every table.
    ///
    /// # Errors
    /// If a table or index cannot be written or read; nothing is lost by that, and the next fold tries again.
    pub async fn fold(&self, tables: &mut Tables) -> Result<Option<Offset>, Error> {
        let started = Instant::now();
        tables.events.settle().await?;
        self.settle::<CallState>(tables).await?;
        self.settle::<RecordingState>(tables).await?;
        let Some(work) = self.gather() else {
            return Ok(self.sequencer.lock().last);
        };
        let Work { until, events, events_behind, calls, recordings, keyer, latest } = work;
        if events_behind {
            self.fold_events(tables, &events, until, latest).await?;
        }
        if self.ignoring.load(Ordering::Acquire) {
            return Ok(Some(until));
        }
        self.fold_states(tables, calls, until).await?;
        self.fold_states(tables, recordings, until).await?;
        let aside = self.sequencer.lock().duplicates.aside(latest);
        tables.checkpoint.write(until, keyer, aside)?;
        tables.measure();
        metrics::histogram!("trunklog_fold_seconds").record(started.elapsed().as_secs_f64());
        metrics::counter!("trunklog_folded_messages_total").increment(events.len() as u64);
        Ok(Some(until))
    }

    fn gather(&self) -> Option<Work<'_>> {
        let mut sequencer = self.sequencer.lock();
        let until = sequencer.last?;
        if sequencer.folded() >= Some(until) {
            return None;
        }
        let events_behind = sequencer.events_watermark.is_none_or(|watermark| watermark < until);
        let calls = Pending::gather(self, &mut sequencer, until);
        let recordings = Pending::gather(self, &mut sequencer, until);
        let (keyer, latest) = (sequencer.keyer.clone(), sequencer.duplicates.latest());
        let tail = sequencer.tail.view();
        drop(sequencer);
        let events = tail.events().cloned().collect();
        Some(Work { until, events, events_behind, calls, recordings, keyer, latest })
    }

    async fn fold_events(
        &self,
        tables: &mut Tables,
        events: &[LoggedEvent],
        until: Offset,
        latest: Micros,
    ) -> Result<(), Error> {
        // A commit may have landed although the fold then failed: the table says what it has.
        let has = tables.events.watermark;
        if has.is_none_or(|has| has < until) {
            let missing = events.iter().filter(|logged| has.is_none_or(|has| logged.offset > has));
            let missing: Vec<LoggedEvent> = missing.cloned().collect();
            let batches: Result<Vec<RecordBatch>, Error> =
                missing.chunks(BATCH_ROWS).map(rows::stored_events).collect();
            tables.events.fold(batches?, until).await?;
        }
        let (deliveries, stamp) = self.sequencer.lock().duplicates.unwritten(until);
        tables.fingerprints.add(deliveries, until, stamp)?;
        tables.fingerprints.forget(Duplicates::is_gone(latest, until))?;
        let provider = tables.events.provider().await?;
        let released = {
            let mut sequencer = self.sequencer.lock();
            sequencer.events = provider;
            sequencer.events_watermark = Some(until);
            sequencer.duplicates.release(until, latest, tables.fingerprints.view());
            let released = sequencer.tail.release(until);
            self.tail_bytes.store(sequencer.tail.bytes(), Ordering::Relaxed);
            released
        };
        // Freeing many messages takes time that the lock should not be held for.
        drop(released);
        Ok(())
    }

    async fn fold_states<S: Projected>(
        &self,
        tables: &mut Tables,
        mut pending: Pending<'_, S>,
        until: Offset,
    ) -> Result<(), Error> {
        if !pending.behind {
            pending.written();
            return Ok(());
        }
        let batches = pending.rows()?;
        let lane = S::lane(tables);
        lane.attempt = Some(pending.attempt(until));
        lane.table.fold(batches, until).await?;
        self.landed::<S>(tables).await?;
        pending.written();
        Ok(())
    }

    /// Finds out what became of a fold that failed, and notes it if it landed: else its rows would be written twice.
    async fn settle<S: Projected>(&self, tables: &mut Tables) -> Result<(), Error> {
        let lane = S::lane(tables);
        let Some(attempt) = &lane.attempt else { return lane.table.settle().await };
        let until = attempt.until;
        lane.table.settle().await?;
        if lane.table.watermark >= Some(until) {
            return self.landed::<S>(tables).await;
        }
        lane.attempt = None;
        Ok(())
    }

    /// Takes up a fold that has landed: first the index, then memory.
    async fn landed<S: Projected>(&self, tables: &mut Tables) -> Result<(), Error> {
        let lane = S::lane(tables);
        let Some(attempt) = lane.attempt.clone() else { return Ok(()) };
        let homes = attempt.whole.iter().map(|(id, day)| home_entry(id, *day)).collect();
        lane.homes.add(homes, attempt.until, 0)?;
        let provider = lane.table.provider().await?;
        let mut sequencer = self.sequencer.lock();
        let projection = S::of_mut(&mut sequencer);
        projection.table = provider;
        projection.homes = lane.homes.view();
        projection.folded(&attempt);
        remember(projection, &lane.table, self.config.keep_superseded);
        drop(sequencer);
        lane.attempt = None;
        Ok(())
    }
}

/// Which version of the table belongs to which offset, for reading as of an offset; versions whose files may be gone
/// are forgotten.
pub(super) fn remember<S>(projection: &mut Projection<S>, table: &Table, keep: Duration) {
    let at = crate::event::now();
    let history = &mut projection.history;
    history.push(Version { watermark: table.watermark, number: table.version(), at });
    let kept = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
    let gone = history.windows(2).take_while(|pair| pair[1].at < at.saturating_sub(kept)).count();
    history.drain(..gone);
}

/// Merges rows of the same id, and sorts.
pub(super) fn merge<S: State>(stored: Vec<Keyed<S>>) -> Vec<Keyed<S>> {
    let mut merged: HashMap<Arc<str>, Keyed<S>> = HashMap::with_capacity(stored.len());
    for keyed in stored {
        match merged.get_mut(&keyed.id) {
            Some(known) => Arc::make_mut(&mut known.state).join(Arc::unwrap_or_clone(keyed.state)),
            None => {
                merged.insert(Arc::clone(&keyed.id), keyed);
            }
        }
    }
    let mut merged: Vec<Keyed<S>> = merged.into_values().collect();
    sort(&mut merged);
    merged
}

/// By day, tenant, time and id: the order of rows in files.
fn sort<S: State>(states: &mut [Keyed<S>]) {
    states.sort_by_cached_key(|keyed| (keyed.day, Arc::clone(&keyed.tenant), S::time(keyed), Arc::clone(&keyed.id)));
}
