//! Folding: tail and changed calls into the tables, swaps of days, trimming of the log. Runs in the background and on
//! request; one at a time.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use datafusion::prelude::{Expr, col, lit};

use super::sequencer::Sequencer;
use super::{Archive, Inner, Tables};
use crate::error::Error;
use crate::event::Offset;
use crate::lake::{self, Version};
use crate::log::Log;
use crate::rows::{self, KeyedCall, LoggedEvent, day_name, day_of, parse_day};

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
        let quiet = looked.elapsed() >= LOOK_FOR_QUIET_DAYS && inner.parts_since.lock().is_some();
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

/// Calls that were gathered: dirty again unless they get written, whatever ends the fold.
struct Unwritten<'a> {
    inner: &'a Inner,
    calls: Vec<Arc<str>>,
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        if !self.calls.is_empty() {
            self.inner.sequencer.lock().dirty.extend(self.calls.drain(..));
        }
    }
}

/// What a fold writes.
struct Work {
    until: Offset,
    events: Vec<LoggedEvent>,
    calls: Vec<KeyedCall>,
    events_behind: bool,
    calls_behind: bool,
}

impl Inner {
    fn is_old(&self, interval: Duration) -> bool {
        let sequencer = self.sequencer.lock();
        let oldest = sequencer.tail.oldest();
        oldest.map_or(sequencer.calls_watermark < sequencer.last, |since: Instant| since.elapsed() >= interval)
    }

    async fn fold_and_compact(&self, everything: bool) -> Result<Option<Offset>, Error> {
        let mut tables = self.tables.lock().await;
        let until = self.fold(&mut tables).await?;
        self.compact(&mut tables, everything).await?;
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
        if tables.calls.maintain(keep).await? {
            let provider = tables.calls.provider().await?;
            self.sequencer.lock().calls = provider;
        }
        Ok(until)
    }

    /// Writes the tail: each table with its own watermark, then the log is trimmed.
    pub(super) async fn fold(&self, tables: &mut Tables) -> Result<Option<Offset>, Error> {
        let started = Instant::now();
        let Some(work) = self.gather() else {
            return Ok(self.sequencer.lock().last);
        };
        let until = work.until;
        let calls = work.calls.iter().map(|call| Arc::clone(&call.call_id)).collect();
        let mut unwritten = Unwritten { inner: self, calls };
        if work.events_behind {
            self.fold_events(tables, &work).await?;
        }
        if work.calls_behind {
            self.fold_calls(tables, &work).await?;
        }
        unwritten.calls.clear();
        metrics::histogram!("trunklog_fold_seconds").record(started.elapsed().as_secs_f64());
        metrics::counter!("trunklog_folded_messages_total").increment(work.events.len() as u64);
        self.log.trim(Offset(until.0 + 1))?;
        Ok(Some(until))
    }

    fn gather(&self) -> Option<Work> {
        let mut sequencer = self.sequencer.lock();
        self.advance_locked(&mut sequencer);
        let until = sequencer.last?;
        let behind = |watermark: Option<Offset>| watermark.is_none_or(|watermark| watermark < until);
        let (events_behind, calls_behind) = (behind(sequencer.events_watermark), behind(sequencer.calls_watermark));
        if !events_behind && !calls_behind {
            return None;
        }
        let calls = sequencer.changed();
        sequencer.dirty.clear();
        let tail = sequencer.tail.view();
        drop(sequencer);
        Some(Work { until, events: tail.events().cloned().collect(), calls, events_behind, calls_behind })
    }

    async fn fold_events(&self, tables: &mut Tables, work: &Work) -> Result<(), Error> {
        // A commit may have landed although the fold then failed: the table says what it has.
        let has = tables.events.watermark;
        let missing = work.events.iter().filter(|logged| has.is_none_or(|has| logged.offset > has));
        let missing: Vec<LoggedEvent> = missing.cloned().collect();
        if has.is_none_or(|has| has < work.until) {
            let batches: Result<Vec<RecordBatch>, Error> =
                missing.chunks(BATCH_ROWS).map(rows::stored_events).collect();
            tables.events.fold(batches?, work.until).await?;
        }
        let provider = tables.events.provider().await?;
        let released = {
            let mut sequencer = self.sequencer.lock();
            sequencer.events = provider;
            sequencer.events_watermark = Some(work.until);
            let released = sequencer.tail.release(work.until);
            self.tail_bytes.store(sequencer.tail.bytes(), std::sync::atomic::Ordering::Relaxed);
            released
        };
        // Freeing many messages takes time that the lock should not be held for.
        drop(released);
        Ok(())
    }

    async fn fold_calls(&self, tables: &mut Tables, work: &Work) -> Result<(), Error> {
        let decoder = self.decoder.as_ref();
        let parts = |calls: &[KeyedCall]| rows::stored_calls(calls, "part", decoder);
        let batches: Result<Vec<RecordBatch>, Error> = work.calls.chunks(BATCH_ROWS).map(parts).collect();
        tables.calls.fold(batches?, work.until).await?;
        let provider = tables.calls.provider().await?;
        let mut sequencer = self.sequencer.lock();
        sequencer.calls = provider;
        sequencer.calls_watermark = Some(work.until);
        remember(&mut sequencer, tables, self.config.keep_superseded);
        if !work.calls.is_empty() {
            self.parts_since.lock().get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// Swaps the days whose parts are due, or every day that has parts.
    async fn compact(&self, tables: &mut Tables, everything: bool) -> Result<(), Error> {
        let mut days: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for ((day, tier), rows) in tables.calls.rows_by_partition().await? {
            let counts = days.entry(day).or_default();
            if tier == "part" { counts.0 += rows } else { counts.1 += rows }
        }
        let today = day_of(crate::event::now());
        let quiet = Duration::from_secs(3600);
        let is_quiet = self.parts_since.lock().is_some_and(|since| since.elapsed() >= quiet);
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
            self.swap_days(tables, &group).await?;
        }
        let left = tables.calls.rows_by_partition().await?.keys().any(|(_, tier)| tier == "part");
        if !left {
            *self.parts_since.lock() = None;
        }
        Ok(())
    }

    async fn swap_days(&self, tables: &mut Tables, days: &[String]) -> Result<(), Error> {
        let started = Instant::now();
        let provider = tables.calls.provider().await?;
        let stored = lake::read::states(&self.session, &provider, in_days(days)).await?;
        let read = stored.len() as u64;
        let merged = merge(stored);
        let written = merged.len() as u64;
        let decoder = self.decoder.as_ref();
        let whole = |calls: &[KeyedCall]| rows::stored_calls(calls, "final", decoder);
        let batches: Result<Vec<RecordBatch>, Error> = merged.chunks(BATCH_ROWS).map(whole).collect();
        drop(merged);
        tables.calls.swap(batches?, Some(days)).await?;
        let provider = tables.calls.provider().await?;
        let numbers: HashSet<i32> = days.iter().filter_map(|day| parse_day(day)).collect();
        let mut sequencer = self.sequencer.lock();
        sequencer.calls = provider;
        sequencer.swapped(&numbers);
        remember(&mut sequencer, tables, self.config.keep_superseded);
        drop(sequencer);
        metrics::counter!("trunklog_compacted_rows_read_total").increment(read);
        metrics::counter!("trunklog_compacted_rows_written_total").increment(written);
        metrics::histogram!("trunklog_compaction_seconds").record(started.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Which version of `calls` belongs to which offset, for reading as of an offset; versions whose files may be gone
/// are forgotten.
pub(super) fn remember(sequencer: &mut Sequencer, tables: &Tables, keep: Duration) {
    let at = crate::event::now();
    sequencer.history.push(Version { watermark: tables.calls.watermark, number: tables.calls.version(), at });
    let kept = i64::try_from(keep.as_micros()).unwrap_or(i64::MAX);
    let gone = sequencer.history.windows(2).take_while(|pair| pair[1].at < at.saturating_sub(kept)).count();
    sequencer.history.drain(..gone);
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

/// Merges rows of the same call, and sorts by tenant, start and id.
pub(super) fn merge(stored: Vec<KeyedCall>) -> Vec<KeyedCall> {
    let mut calls: std::collections::HashMap<Arc<str>, KeyedCall> =
        std::collections::HashMap::with_capacity(stored.len());
    for call in stored {
        match calls.get_mut(&call.call_id) {
            Some(known) => Arc::make_mut(&mut known.state).merge(Arc::unwrap_or_clone(call.state)),
            None => {
                calls.insert(Arc::clone(&call.call_id), call);
            }
        }
    }
    let mut calls: Vec<KeyedCall> = calls.into_values().collect();
    calls.sort_by_cached_key(|call| {
        let started = call.state.row(&call.tenant, call.source).started_at;
        (Arc::clone(&call.tenant), started, Arc::clone(&call.call_id))
    });
    calls
}
