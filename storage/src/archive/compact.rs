//! Compaction: parts merged into the final rows of their day, small files joined, superseded ones dropped.
//!
//! A swap exchanges, in one commit, the part files of some days and those of their final files that have a row of a call
//! with parts; other files stay as they are. It merges only the calls that have parts, passes every other row through,
//! and sorts. A sort that does not fit into memory spills.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::prelude::{Expr, col, lit};

use super::landed::Present;
use super::projection::{Exchange, Projected};
use super::store::{Store, Tables};
use super::swap::Swap;
use crate::call::CallState;
use crate::error::Error;
use crate::lake::{Add, Order, Table};
use crate::recording::RecordingState;
use crate::rows::{PART, day_name, day_of};

/// Rows of small days that are swapped in one commit.
const GROUP_ROWS: u64 = 200_000;
/// A day that is over is swapped when its oldest part has waited for so long.
const QUIET: Duration = Duration::from_secs(3600);

/// How much of the compaction is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// What memory cannot hold, and nothing is joined: while a long log is read, which needs memory too.
    Crowded,
    /// What is due, and small files are joined.
    Due,
    /// Every day that has parts. Nothing is joined: somebody waits, and it makes no difference to what is read.
    Everything,
}

impl Store {
    /// Swaps the days whose parts are due, or every day that has parts; joins small files; drops superseded ones. Folds
    /// go on meanwhile: what is written is planned and committed between two of them.
    ///
    /// # Errors
    /// If a table cannot be read or written; it is then as before.
    pub async fn compact(&self, scope: Scope) -> Result<(), Error> {
        let _waiting = (scope != Scope::Due).then(|| self.idle.wait());
        let _alone = self.compacting.lock().await;
        self.swap_due_days::<CallState>(scope).await?;
        self.swap_due_days::<RecordingState>(scope).await?;
        if scope == Scope::Due {
            self.join_states::<CallState>().await?;
            self.join_states::<RecordingState>().await?;
            if self.join_small_files(Order::Along("offset"), events_of).await? {
                self.show_events(&*self.tables.lock().await).await?;
            }
        }
        let keep =
            chrono::Duration::from_std(self.config.keep_superseded).unwrap_or_else(|_| chrono::Duration::days(1));
        let mut tables = self.tables.lock().await;
        // After maintenance the commits that an older provider reads may be gone.
        if tables.events.maintain(keep).await? {
            self.show_events(&tables).await?;
        }
        self.maintain::<CallState>(&mut tables, keep).await?;
        self.maintain::<RecordingState>(&mut tables, keep).await
    }

    async fn maintain<S: Projected>(&self, tables: &mut Tables, keep: chrono::Duration) -> Result<(), Error> {
        let table = &mut S::lane(tables).table;
        if table.maintain(keep).await? {
            let (provider, sequencer) = (table.provider().await?, Arc::clone(&self.sequencer));
            let show = move || std::mem::replace(&mut S::of_mut(&mut sequencer.lock()).table, provider);
            drop(self.foreground.run(show).await?);
        }
        Ok(())
    }

    /// Queries read the table of now from now on.
    async fn show_events(&self, tables: &Tables) -> Result<(), Error> {
        let (provider, sequencer) = (tables.events.provider().await?, Arc::clone(&self.sequencer));
        let show = move || std::mem::replace(&mut sequencer.lock().events, provider);
        drop(self.foreground.run(show).await?);
        Ok(())
    }

    async fn swap_due_days<S: Projected>(&self, scope: Scope) -> Result<(), Error> {
        let due = self.due_days::<S>(&mut *self.tables.lock().await, scope).await?;
        for group in group_days(due) {
            self.swap_days::<S>(&group).await?;
        }
        Ok(())
    }

    async fn join_states<S: Projected>(&self) -> Result<(), Error> {
        if self.join_small_files(Order::By(S::ORDER), states_of::<S>).await? {
            let mut tables = self.tables.lock().await;
            let (lane, sequencer) = (S::lane(&mut tables), Arc::clone(&self.sequencer));
            let present = Present::of(lane, self.config.keep_superseded).await?;
            drop(self.foreground.run(move || present.show(S::of_mut(&mut sequencer.lock()))).await?);
        }
        Ok(())
    }

    /// Joins the small files of every partition that has many, but for those named beside the table; says whether
    /// anything was joined.
    async fn join_small_files(
        &self,
        order: Order,
        of: fn(&mut Tables) -> (&mut Table, Vec<String>),
    ) -> Result<bool, Error> {
        let mut joined = false;
        loop {
            let (table, kept) = {
                let mut tables = self.tables.lock().await;
                let (table, kept) = of(&mut tables);
                table.settle().await?;
                (table.at_rest(), kept)
            };
            let Some(paths) = table.small_files(&kept).await? else { return Ok(joined) };
            let paths = Arc::new(paths);
            let write = || {
                let (table, session, paths) = (Arc::clone(&table), self.session.clone(), Arc::clone(&paths));
                async move { table.joined(&session, order, &paths).await }
            };
            let adds = self.idle.run(write).await?;
            of(&mut *self.tables.lock().await).0.swap(adds, &paths).await?;
            joined = true;
        }
    }

    /// The days to swap, with their rows: those with many parts or that are over and quiet, and when memory holds too
    /// many calls with parts, those with the most of them.
    async fn due_days<S: Projected>(&self, tables: &mut Tables, scope: Scope) -> Result<Vec<(String, u64)>, Error> {
        self.settle::<S>(tables).await?;
        if S::of(&self.sequencer.lock()).parts_since.is_empty() {
            return Ok(Vec::new());
        }
        let mut days: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for ((day, tier), rows) in S::lane(tables).table.rows_by_partition().await? {
            let counts = days.entry(day).or_default();
            if tier == PART { counts.0 += rows } else { counts.1 += rows }
        }
        let today = day_of(crate::event::now());
        let quiet: HashSet<String> = {
            let sequencer = self.sequencer.lock();
            let since = S::of(&sequencer).parts_since.iter();
            since
                .filter(|(day, since)| **day < today && since.elapsed() >= QUIET)
                .map(|(day, _)| day_name(*day))
                .collect()
        };
        let mut dirty: Vec<(String, u64, u64)> = days
            .into_iter()
            .filter(|(_, (parts, _))| *parts > 0)
            .map(|(day, (parts, rows))| (day, parts, rows))
            .collect();
        dirty.sort_by_key(|(_, parts, _)| std::cmp::Reverse(*parts));
        let mut kept: u64 = dirty.iter().map(|(_, parts, _)| parts).sum();
        let crowded = kept > self.config.overlay_calls;
        let mut due = Vec::new();
        for (day, parts, whole) in dirty {
            let many = parts >= self.config.compact_calls && parts * 2 > whole;
            let is_due = match scope {
                Scope::Crowded => false,
                Scope::Due => many || quiet.contains(&day),
                Scope::Everything => true,
            };
            if is_due || crowded && kept > self.config.overlay_calls / 2 {
                kept -= parts;
                due.push((day, parts + whole));
            }
        }
        due.sort();
        Ok(due)
    }

    async fn swap_days<S: Projected>(&self, days: &[String]) -> Result<(), Error> {
        let started = Instant::now();
        let table = self.plan_swap::<S>().await?;
        let write = || {
            let (table, session, decoder) = (Arc::clone(&table), self.session.clone(), Arc::clone(&self.decoder));
            let days = days.to_vec();
            async move {
                let swap = Arc::new(Swap::<S>::of(table, session, decoder, &days).await?);
                let adds = swap.write().await?;
                Ok((swap, adds))
            }
        };
        let written = self.idle.run(write).await;
        self.publish_swap(days, written).await?;
        metrics::histogram!("trunklog_compaction_seconds").record(started.elapsed().as_secs_f64());
        Ok(())
    }

    /// The table whose rows are to be swapped. What gets a part from now on is noted.
    pub(super) async fn plan_swap<S: Projected>(&self) -> Result<Arc<Table>, Error> {
        let mut tables = self.tables.lock().await;
        self.settle::<S>(&mut tables).await?;
        let lane = S::lane(&mut tables);
        lane.parted = Some(HashSet::new());
        Ok(lane.table.at_rest())
    }

    /// Puts what was written into the table.
    pub(super) async fn publish_swap<S: Projected>(
        &self,
        days: &[String],
        written: Result<(Arc<Swap<S>>, Vec<Add>), Error>,
    ) -> Result<(), Error> {
        let mut tables = self.tables.lock().await;
        let lane = S::lane(&mut tables);
        let (swap, adds) = written.inspect_err(|_| lane.parted = None)?;
        let bytes: i64 = adds.iter().map(|add| add.size).sum();
        let Some(path) = adds.first().map(|add| add.path.clone()) else {
            lane.parted = None;
            return Ok(());
        };
        lane.exchange = Some(Arc::new(Exchange { path, days: days.to_vec(), with_parts: swap.with_parts.clone() }));
        lane.table.swap(adds, &swap.paths).await?;
        self.swap_landed::<S>(&mut tables).await?;
        let merged = swap.ids.len();
        metrics::counter!("trunklog_compacted_calls_total").increment(merged as u64);
        tracing::debug!(days = days.len(), merged, bytes, "swapped");
        Ok(())
    }
}

fn events_of(tables: &mut Tables) -> (&mut Table, Vec<String>) {
    (&mut tables.events, Vec::new())
}

/// Files that the next fold replaces stay what they are.
fn states_of<S: Projected>(tables: &mut Tables) -> (&mut Table, Vec<String>) {
    let lane = S::lane(tables);
    (&mut lane.table, lane.provisional.clone())
}

pub(super) fn in_days(days: &[String]) -> Expr {
    col("day").in_list(days.iter().map(lit).collect(), false)
}

/// Day numbers as the table names them.
pub(super) fn day_names(days: &[i32]) -> Vec<String> {
    days.iter().map(|day| day_name(*day)).collect()
}

/// Days that are swapped in one commit: few rows together, many alone, so that a backlog of small days costs few
/// commits.
fn group_days(days: Vec<(String, u64)>) -> Vec<Vec<String>> {
    let mut groups: Vec<Vec<String>> = Vec::new();
    let mut rows = u64::MAX;
    for (day, count) in days {
        if rows.saturating_add(count) > GROUP_ROWS {
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
