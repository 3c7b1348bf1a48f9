//! Compaction: parts merged into the final rows of their day, small files joined, superseded ones dropped.
//!
//! A swap exchanges, in one commit, the part files of some days and those of their final files that have a row of a call
//! with parts; other files stay as they are. It merges only the calls that have parts, passes every other row through,
//! and sorts. A sort that does not fit into memory spills.

use std::collections::{BTreeMap, HashSet};
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use datafusion::prelude::{Expr, col, ident, lit};
use futures::{StreamExt, TryStreamExt};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::fold::{BATCH_ROWS, merge};
use super::landed::Present;
use super::projection::{Exchange, Projected, home_key};
use super::store::{Store, Tables};
use crate::call::CallState;
use crate::error::Error;
use crate::lake::{self, File, Order, Table};
use crate::recording::RecordingState;
use crate::rows::{self, FINAL, Keyed, PART, day_name, day_of};

/// Calls whose states are decoded and merged at once.
const MERGED_AT_ONCE: usize = 20_000;
/// Rows of small days that are swapped in one commit.
const GROUP_ROWS: u64 = 200_000;
/// A day that is over is swapped when its oldest part has waited for so long.
const QUIET: Duration = Duration::from_secs(3600);

/// How much of the compaction is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// What memory cannot hold, and nothing is joined: while a long log is read, which needs memory too.
    Crowded,
    /// What is due.
    Due,
    /// Every day that has parts.
    Everything,
}

impl Store {
    /// Swaps the days whose parts are due, or every day that has parts; joins small files; drops superseded ones.
    ///
    /// # Errors
    /// If a table cannot be read or written; it is then as before.
    pub async fn compact(&self, tables: &mut Tables, scope: Scope) -> Result<(), Error> {
        self.swap_due_days::<CallState>(tables, scope).await?;
        self.swap_due_days::<RecordingState>(tables, scope).await?;
        if scope != Scope::Crowded {
            self.join_small_files::<CallState>(tables).await?;
            self.join_small_files::<RecordingState>(tables).await?;
            if tables.events.join_small_files(&self.session, Order::Along("offset")).await? {
                self.show_events(tables).await?;
            }
        }
        let keep =
            chrono::Duration::from_std(self.config.keep_superseded).unwrap_or_else(|_| chrono::Duration::days(1));
        // After maintenance the commits that an older provider reads may be gone.
        if tables.events.maintain(keep).await? {
            self.show_events(tables).await?;
        }
        self.maintain::<CallState>(tables, keep).await?;
        self.maintain::<RecordingState>(tables, keep).await
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

    async fn swap_due_days<S: Projected>(&self, tables: &mut Tables, scope: Scope) -> Result<(), Error> {
        self.settle::<S>(tables).await?;
        for group in group_days(self.due_days::<S>(tables, scope).await?) {
            self.swap_days::<S>(tables, &group).await?;
        }
        Ok(())
    }

    async fn join_small_files<S: Projected>(&self, tables: &mut Tables) -> Result<(), Error> {
        let lane = S::lane(tables);
        if lane.table.join_small_files(&self.session, Order::By(&["tenant", S::TIME, S::ID])).await? {
            let (present, sequencer) =
                (Present::of(lane, self.config.keep_superseded).await?, Arc::clone(&self.sequencer));
            drop(self.foreground.run(move || present.show(S::of_mut(&mut sequencer.lock()))).await?);
        }
        Ok(())
    }

    /// The days to swap, with their rows: those with many parts or that are over and quiet, and when memory holds too
    /// many calls with parts, those with the most of them.
    async fn due_days<S: Projected>(&self, tables: &mut Tables, scope: Scope) -> Result<Vec<(String, u64)>, Error> {
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

    async fn swap_days<S: Projected>(&self, tables: &mut Tables, days: &[String]) -> Result<(), Error> {
        let started = Instant::now();
        let replaced = self.replaced::<S>(&S::lane(tables).table, days).await?;
        let adds = self.write_swapped(&S::lane(tables).table, &replaced).await?;
        let written: i64 = adds.iter().map(|add| add.size).sum();
        let Some(path) = adds.first().map(|add| add.path.clone()) else { return Ok(()) };
        let Replaced { paths, with_parts, ids, .. } = replaced;
        let (lane, merged) = (S::lane(tables), ids.len());
        lane.exchange = Some(Arc::new(Exchange { path, days: days.to_vec(), with_parts }));
        lane.table.swap(adds, |file| paths.contains(&file.path)).await?;
        self.swap_landed::<S>(tables).await?;
        metrics::counter!("trunklog_compacted_calls_total").increment(merged as u64);
        metrics::histogram!("trunklog_compaction_seconds").record(started.elapsed().as_secs_f64());
        tracing::debug!(days = days.len(), merged, bytes = written, "swapped");
        Ok(())
    }

    /// What a swap of these days replaces.
    async fn replaced<S: Projected>(&self, table: &Table, days: &[String]) -> Result<Replaced<S>, Error> {
        let files = table.files().await?.into_iter().filter(|file| days.contains(&file.day));
        let (parts, whole): (Vec<File>, Vec<File>) = files.partition(|file| file.tier == PART);
        let mut paths: HashSet<String> = parts.into_iter().map(|file| file.path).collect();
        let parts = if paths.is_empty() { None } else { Some(table.provider_of(paths.iter().cloned()).await?) };
        let mut with_parts = Vec::new();
        if let Some(parts) = &parts {
            let mut stream = std::pin::pin!(lake::read::homes::<S>(&self.session, parts, None).await?);
            while let Some(batch) = stream.try_next().await? {
                with_parts.extend(batch);
            }
        }
        let ids: HashSet<Arc<str>> = with_parts.iter().map(|(id, _)| Arc::clone(id)).collect();
        let mut touched = Vec::new();
        for file in whole {
            let rows = table.provider_of([file.path.clone()]).await?;
            let mut stream = std::pin::pin!(lake::read::homes::<S>(&self.session, &rows, None).await?);
            while let Some(batch) = stream.try_next().await? {
                if batch.iter().any(|(id, _)| ids.contains(id)) {
                    touched.push(file.path);
                    break;
                }
            }
        }
        let whole = if touched.is_empty() { None } else { Some(table.provider_of(touched.clone()).await?) };
        paths.extend(touched);
        Ok(Replaced { paths, whole, parts, with_parts, ids, states: PhantomData })
    }

    /// Writes what replaces them.
    async fn write_swapped<S: Projected>(
        &self,
        table: &Table,
        replaced: &Replaced<S>,
    ) -> Result<Vec<lake::Add>, Error> {
        let schema = table.stored_schema()?;
        let (sender, receiver) = mpsc::channel(2);
        let source = Once { schema: Arc::clone(&schema), receiver: Mutex::new(Some(receiver)) };
        let rows = StreamingTable::try_new(Arc::clone(&schema), vec![Arc::new(source)])?;
        let session = lake::in_one_partition(&self.session, None);
        let order = ["day", "tenant", S::TIME, S::ID].map(|column| ident(column).sort(true, false)).to_vec();
        let sorted = table.as_stored(session.read_table(Arc::new(rows))?)?.sort(order)?;
        let produce = async {
            if let Some(whole) = &replaced.whole {
                let whole = table.as_stored(session.read_table(Arc::clone(whole))?)?;
                pass_through::<S>(whole.execute_stream().await?, &replaced.ids, &sender).await?;
            }
            self.send_merged(replaced, &sender).await?;
            drop(sender);
            Ok::<(), Error>(())
        };
        let written = async { table.write(sorted.execute_stream().await?).await };
        let (produced, written) = futures::future::join(produce, written).await;
        produced?;
        written
    }

    /// Sends the merged rows of those with parts, so many at once that memory stays bounded.
    async fn send_merged<S: Projected>(
        &self,
        replaced: &Replaced<S>,
        sender: &mpsc::Sender<RecordBatch>,
    ) -> Result<(), Error> {
        let rounds = replaced.ids.len().div_ceil(MERGED_AT_ONCE) as u128;
        for round in 0..rounds {
            let is_wanted = |id: &str| home_key(id) % rounds == round && replaced.ids.contains(id);
            let mut stored: Vec<Keyed<S>> = Vec::new();
            // Final rows first: they have the keys of the first message.
            for rows in [&replaced.whole, &replaced.parts].into_iter().flatten() {
                stored.extend(lake::read::states_of(&self.session, rows, lit(true), is_wanted).await?);
            }
            for chunk in merge(stored).chunks(BATCH_ROWS) {
                let rows = rows::stored(chunk, FINAL, self.decoder.as_ref())?;
                if sender.send(rows).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// What a swap replaces.
struct Replaced<S> {
    paths: HashSet<String>,
    /// The final files that have rows of calls with parts, if there are any.
    whole: Option<Arc<dyn TableProvider>>,
    parts: Option<Arc<dyn TableProvider>>,
    /// Ids and home days of those that have parts; an id may come more than once.
    with_parts: Vec<(Arc<str>, i32)>,
    ids: HashSet<Arc<str>>,
    states: PhantomData<S>,
}

/// Sends the rows that have no parts, as they are.
async fn pass_through<S: Projected>(
    mut rows: SendableRecordBatchStream,
    ids: &HashSet<Arc<str>>,
    sender: &mpsc::Sender<RecordBatch>,
) -> Result<(), Error> {
    while let Some(batch) = rows.try_next().await? {
        let column = batch.column_by_name(S::ID).and_then(|column| column.as_string_opt::<i32>());
        let column = column.ok_or_else(|| Error::Corrupt(format!("column `{}` is missing or not text", S::ID)))?;
        let stays: BooleanArray = (0..column.len()).map(|row| Some(!ids.contains(column.value(row)))).collect();
        let kept = if stays.true_count() == stays.len() { batch } else { filter_record_batch(&batch, &stays)? };
        // Nobody takes them any more when writing has failed; that error is the one to tell.
        if kept.num_rows() > 0 && sender.send(kept).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Rows that are produced while they are sorted; read once.
struct Once {
    schema: arrow::datatypes::SchemaRef,
    receiver: Mutex<Option<mpsc::Receiver<RecordBatch>>>,
}

impl std::fmt::Debug for Once {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Once").finish_non_exhaustive()
    }
}

impl PartitionStream for Once {
    fn schema(&self) -> &arrow::datatypes::SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.schema);
        let taken = self.receiver.lock().take();
        let rows = futures::stream::unfold(taken, |receiver| async move {
            let mut receiver = receiver?;
            let batch = receiver.recv().await?;
            Some((batch, Some(receiver)))
        });
        let conform = {
            let schema = Arc::clone(&schema);
            move |batch: RecordBatch| {
                RecordBatch::try_new(Arc::clone(&schema), batch.columns().to_vec()).map_err(DataFusionError::from)
            }
        };
        Box::pin(RecordBatchStreamAdapter::new(schema, rows.map(conform)))
    }
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
