//! Folding: tail and changed states into the tables, swaps of days, trimming of the log. Runs in the background and on
//! request; one at a time.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use datafusion::prelude::{Expr, col, lit};

use super::projection::{Projected, Projection};
use super::sequencer::Sequencer;
use super::{Archive, Inner, Tables};
use crate::call::CallState;
use crate::error::Error;
use crate::event::Offset;
use crate::lake::{self, Table, Version};
use crate::log::Log;
use crate::recording::RecordingState;
use crate::rows::{self, Keyed, LoggedEvent, State, day_name, day_of, parse_day};

/// Rows per record batch that is written.
const BATCH_ROWS: usize = 8192;
/// How often days that are over are looked at although nothing arrives.
const LOOK_FOR_QUIET_DAYS: Duration = Duration::from_secs(600);

/// Folds by size and age until the archive is gone.
pub(super) async fn run(archive: Weak<Inner>) {
    let mut looked = Instant::now();
    loop {
        let Some(inner) = archive.upgrade() else { return };
        let interval = inner.config.fold_interval;
        {
            let woken = inner.wake.notified();
            let _ = tokio::time::timeout(interval.min(Duration::from_secs(5)), woken).await;
        }
        if inner.closed.load(std::sync::atomic::Ordering::Acquire) {
            return;
        }
        inner.advance();
        let due = inner.tail_bytes.load(std::sync::atomic::Ordering::Relaxed) >= inner.config.fold_bytes;
        let quiet = looked.elapsed() >= LOOK_FOR_QUIET_DAYS && inner.has_parts();
        if !(due || quiet || inner.is_old(interval)) {
            continue;
        }
        looked = Instant::now();
        // A task of its own, so that a panic in it does not end folding for good.
        let work = Arc::clone(&inner);
        let folded = tokio::spawn(async move { work.fold_and_compact(false).await }).await;
        let broken = |panic| Err(Error::Corrupt(format!("the fold broke off: {panic}")));
        if let Err(error) = folded.unwrap_or_else(broken) {
            // The tail keeps what could not be folded; ingest stops at its limit, and the next round tries again.
            tracing::error!(%error, "folding failed; it will be tried again");
            metrics::counter!("trunklog_fold_errors_total").increment(1);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

impl Archive {
    /// Folds and compacts everything up to now; returns the last offset that is then in the tables.
    ///
    /// # Errors
    /// If a table cannot be written; nothing is lost by that.
    pub async fn flush(&self) -> Result<Option<Offset>, Error> {
        self.in_background(|inner| async move { inner.fold_and_compact(true).await }).await
    }

    /// Folds without compacting: what the end of a process needs.
    pub(super) async fn fold_now(&self) -> Result<Option<Offset>, Error> {
        self.in_background(|inner| async move {
            let mut tables = inner.tables.lock().await;
            inner.fold(&mut tables).await
        })
        .await
    }

    /// Runs on the background threads, so that heavy work has their priority whoever asks for it.
    pub(super) async fn in_background<T, F>(&self, work: impl FnOnce(Arc<Inner>) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let handle = self.inner.background.lock().as_ref().map(|runtime| runtime.handle().clone());
        let handle = handle.ok_or(Error::Closed)?;
        handle.spawn(work(Arc::clone(&self.inner))).await.map_err(|_| Error::Closed)?
    }
}

/// States that were gathered: dirty again unless they get written, whatever ends the fold.
struct Pending<'a, S: Projected> {
    inner: &'a Inner,
    /// The table lacks the messages up to this fold's end.
    behind: bool,
    states: Vec<Keyed<S>>,
}

impl<S: Projected> Drop for Pending<'_, S> {
    fn drop(&mut self) {
        if !self.states.is_empty() {
            let mut sequencer = self.inner.sequencer.lock();
            S::of_mut(&mut sequencer).dirty.extend(self.states.drain(..).map(|keyed| keyed.id));
        }
    }
}

impl<'a, S: Projected> Pending<'a, S> {
    fn gather(inner: &'a Inner, sequencer: &mut Sequencer, until: Offset) -> Pending<'a, S> {
        let projection = S::of_mut(sequencer);
        let states = projection.changed();
        projection.dirty.clear();
        Pending { inner, behind: projection.is_behind(until), states }
    }
}

/// What a fold writes.
struct Work<'a> {
    until: Offset,
    events: Vec<LoggedEvent>,
    events_behind: bool,
    calls: Pending<'a, CallState>,
    recordings: Pending<'a, RecordingState>,
}

impl Inner {
    fn is_old(&self, interval: Duration) -> bool {
        let sequencer = self.sequencer.lock();
        let oldest = sequencer.tail.oldest();
        oldest.map_or(sequencer.folded() < sequencer.last, |since: Instant| since.elapsed() >= interval)
    }

    fn has_parts(&self) -> bool {
        let sequencer = self.sequencer.lock();
        sequencer.calls.parts_since.is_some() || sequencer.recordings.parts_since.is_some()
    }

    async fn fold_and_compact(&self, everything: bool) -> Result<Option<Offset>, Error> {
        let mut tables = self.tables.lock().await;
        let until = self.fold(&mut tables).await?;
        self.compact::<CallState>(&mut tables, everything).await?;
        self.compact::<RecordingState>(&mut tables, everything).await?;
        if tables.events.join_small_files(&self.session, "offset").await? {
            let provider = tables.events.provider().await?;
            self.sequencer.lock().events = provider;
        }
        let keep =
            chrono::Duration::from_std(self.config.keep_superseded).unwrap_or_else(|_| chrono::Duration::days(1));
        // After maintenance the commits that an older provider reads may be gone.
        if tables.events.maintain(keep).await? {
            let provider = tables.events.provider().await?;
            self.sequencer.lock().events = provider;
        }
        self.maintain::<CallState>(&mut tables, keep).await?;
        self.maintain::<RecordingState>(&mut tables, keep).await?;
        Ok(until)
    }

    async fn maintain<S: Projected>(&self, tables: &mut Tables, keep: chrono::Duration) -> Result<(), Error> {
        let table = S::table(tables);
        if table.maintain(keep).await? {
            let provider = table.provider().await?;
            S::of_mut(&mut self.sequencer.lock()).table = provider;
        }
        Ok(())
    }

    /// Writes the tail: each table with its own watermark, then the log is trimmed.
    pub(super) async fn fold(&self, tables: &mut Tables) -> Result<Option<Offset>, Error> {
        let started = Instant::now();
        let Some(work) = self.gather() else {
            return Ok(self.sequencer.lock().last);
        };
        let Work { until, events, events_behind, calls, recordings } = work;
        if events_behind {
            self.fold_events(tables, &events, until).await?;
        }
        self.fold_states(tables, calls, until).await?;
        self.fold_states(tables, recordings, until).await?;
        metrics::histogram!("trunklog_fold_seconds").record(started.elapsed().as_secs_f64());
        metrics::counter!("trunklog_folded_messages_total").increment(events.len() as u64);
        self.log.trim(Offset(until.0 + 1))?;
        Ok(Some(until))
    }

    fn gather(&self) -> Option<Work<'_>> {
        let mut sequencer = self.sequencer.lock();
        self.advance_locked(&mut sequencer);
        let until = sequencer.last?;
        if sequencer.folded() >= Some(until) {
            return None;
        }
        let events_behind = sequencer.events_watermark.is_none_or(|watermark| watermark < until);
        let calls = Pending::gather(self, &mut sequencer, until);
        let recordings = Pending::gather(self, &mut sequencer, until);
        let tail = sequencer.tail.view();
        drop(sequencer);
        Some(Work { until, events: tail.events().cloned().collect(), events_behind, calls, recordings })
    }

    async fn fold_events(&self, tables: &mut Tables, events: &[LoggedEvent], until: Offset) -> Result<(), Error> {
        // A commit may have landed although the fold then failed: the table says what it has.
        let has = tables.events.watermark;
        let missing = events.iter().filter(|logged| has.is_none_or(|has| logged.offset > has));
        let missing: Vec<LoggedEvent> = missing.cloned().collect();
        if has.is_none_or(|has| has < until) {
            let batches: Result<Vec<RecordBatch>, Error> =
                missing.chunks(BATCH_ROWS).map(rows::stored_events).collect();
            tables.events.fold(batches?, until).await?;
        }
        let provider = tables.events.provider().await?;
        let released = {
            let mut sequencer = self.sequencer.lock();
            sequencer.events = provider;
            sequencer.events_watermark = Some(until);
            let released = sequencer.tail.release(until);
            self.tail_bytes.store(sequencer.tail.bytes(), std::sync::atomic::Ordering::Relaxed);
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
            pending.states.clear();
            return Ok(());
        }
        let decoder = self.decoder.as_ref();
        let parts = |states: &[Keyed<S>]| rows::stored(states, "part", decoder);
        let batches: Result<Vec<RecordBatch>, Error> = pending.states.chunks(BATCH_ROWS).map(parts).collect();
        let table = S::table(tables);
        table.fold(batches?, until).await?;
        let provider = table.provider().await?;
        let mut sequencer = self.sequencer.lock();
        let projection = S::of_mut(&mut sequencer);
        projection.table = provider;
        projection.watermark = Some(until);
        remember(projection, table, self.config.keep_superseded);
        if !pending.states.is_empty() {
            projection.parts_since.get_or_insert_with(Instant::now);
        }
        drop(sequencer);
        pending.states.clear();
        Ok(())
    }

    /// Swaps the days whose parts are due, or every day that has parts.
    async fn compact<S: Projected>(&self, tables: &mut Tables, everything: bool) -> Result<(), Error> {
        let mut days: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for ((day, tier), rows) in S::table(tables).rows_by_partition().await? {
            let counts = days.entry(day).or_default();
            if tier == "part" { counts.0 += rows } else { counts.1 += rows }
        }
        let today = day_of(crate::event::now());
        let quiet = Duration::from_secs(3600);
        let parts_since = S::of(&self.sequencer.lock()).parts_since;
        let is_quiet = parts_since.is_some_and(|since| since.elapsed() >= quiet);
        let is_due = |day: &str, parts: u64, whole: u64| {
            let over = is_quiet && parse_day(day).is_some_and(|day| day < today);
            everything || over || parts >= self.config.compact_calls && parts * 2 > whole
        };
        let dirty: Vec<(String, u64)> = days
            .into_iter()
            .filter(|(_, (parts, _))| *parts > 0)
            .map(|(day, (parts, whole))| (day, parts, whole))
            .filter(|(day, parts, whole)| is_due(day, *parts, *whole))
            .map(|(day, parts, whole)| (day, parts + whole))
            .collect();
        for group in group_days(dirty) {
            self.swap_days::<S>(tables, &group).await?;
        }
        let left = S::table(tables).rows_by_partition().await?.keys().any(|(_, tier)| tier == "part");
        if !left {
            S::of_mut(&mut self.sequencer.lock()).parts_since = None;
        }
        Ok(())
    }

    async fn swap_days<S: Projected>(&self, tables: &mut Tables, days: &[String]) -> Result<(), Error> {
        let started = Instant::now();
        let table = S::table(tables);
        let provider = table.provider().await?;
        let stored = lake::read::states::<S>(&self.session, &provider, in_days(days)).await?;
        let read = stored.len() as u64;
        let merged = merge(stored);
        let written = merged.len() as u64;
        let decoder = self.decoder.as_ref();
        let whole = |states: &[Keyed<S>]| rows::stored(states, "final", decoder);
        let batches: Result<Vec<RecordBatch>, Error> = merged.chunks(BATCH_ROWS).map(whole).collect();
        drop(merged);
        table.swap(batches?, Some(days)).await?;
        let provider = table.provider().await?;
        let numbers: HashSet<i32> = days.iter().filter_map(|day| parse_day(day)).collect();
        let mut sequencer = self.sequencer.lock();
        let projection = S::of_mut(&mut sequencer);
        projection.table = provider;
        projection.swapped(&numbers);
        remember(projection, table, self.config.keep_superseded);
        drop(sequencer);
        metrics::counter!("trunklog_compacted_rows_read_total").increment(read);
        metrics::counter!("trunklog_compacted_rows_written_total").increment(written);
        metrics::histogram!("trunklog_compaction_seconds").record(started.elapsed().as_secs_f64());
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

/// Days that are swapped in one commit: few rows together, many alone, so that a backlog of small days costs few
/// commits and memory stays bounded by a large day.
fn group_days(days: Vec<(String, u64)>) -> Vec<Vec<String>> {
    const ROWS: u64 = 200_000;
    let mut groups: Vec<Vec<String>> = Vec::new();
    let mut rows = u64::MAX;
    for (day, count) in days {
        if rows.saturating_add(count) > ROWS {
            groups.push(Vec::new());
            rows = 0;
        }
        rows += count;
        if let Some(group) = groups.last_mut() {
            group.push(day);
        }
    }
    groups
}

pub(super) fn in_days(days: &[String]) -> Expr {
    col("day").in_list(days.iter().map(lit).collect(), false)
}

/// Day numbers as the table names them.
pub(super) fn day_names(days: &[i32]) -> Vec<String> {
    days.iter().map(|day| day_name(*day)).collect()
}

/// Merges rows of the same id, and sorts by tenant, time and id.
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
    merged.sort_by_cached_key(|keyed| (Arc::clone(&keyed.tenant), S::time(keyed), Arc::clone(&keyed.id)));
    merged
}
