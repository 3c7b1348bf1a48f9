//! Joining the small files of a day, so that a query opens few: the rows stay what they are.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::functions_aggregate::expr_fn::{max, min};
use datafusion::prelude::{DataFrame, SessionContext, ident};
use deltalake::kernel::Add;
use futures::TryStreamExt;

use super::session::in_one_partition;
use super::{Effort, Table};
use crate::error::Error;

/// Files below the first size are joined with each other, those below the second with each other, others not at all: a
/// large one is not written again for the sake of many that are next to nothing.
const SIZES: [i64; 2] = [1 << 20, 16 << 20];
/// So many files of a size are joined.
const JOINED_FILES: usize = 16;
/// At most so many bytes of files are joined at once.
const JOINED_BYTES: i64 = 128 << 20;
/// Messages that are copied at once from file to file.
const COPIED_ROWS: usize = 128;
/// The same of each of several files that overlap: a message may have a MiB.
const MERGED_ROWS: usize = 16;

/// How the rows of joined files come into order.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// Sorted by these columns.
    By(&'static [&'static str]),
    /// Every file has them in the order of this column already.
    Along(&'static str),
}

impl Table {
    /// Writes the rows of these files into few.
    ///
    /// # Errors
    /// If the table cannot be read or written.
    pub async fn joined(
        &self,
        session: &SessionContext,
        order: Order,
        paths: &HashSet<String>,
    ) -> Result<Vec<Add>, Error> {
        match order {
            Order::By(columns) => self.sorted(&in_one_partition(session, None), columns, paths).await,
            Order::Along(column) => {
                let (files, apart) = self.in_order(session, column, paths).await?;
                let rows = if apart { COPIED_ROWS } else { MERGED_ROWS };
                self.merged(&in_one_partition(session, Some(rows)), column, files).await
            }
        }
    }

    /// Small files of about one size, of a partition that has many, but for those in `kept`.
    ///
    /// # Errors
    /// If the snapshot cannot be read.
    pub async fn small_files(&self, kept: &[String]) -> Result<Option<HashSet<String>>, Error> {
        let mut alike: BTreeMap<(String, String, usize), Vec<(i64, String)>> = BTreeMap::new();
        for file in self.files().await?.into_iter().filter(|file| !kept.contains(&file.path)) {
            if let Some(size) = SIZES.iter().position(|size| file.bytes < *size) {
                alike.entry((file.day, file.tier, size)).or_default().push((file.bytes, file.path));
            }
        }
        let crowded = alike.into_values().find(|files| files.len() >= JOINED_FILES);
        Ok(crowded.map(|mut files| {
            files.sort_unstable();
            let mut bytes = 0;
            let fits = files.into_iter().take_while(|(size, _)| {
                bytes += size;
                bytes <= JOINED_BYTES
            });
            fits.map(|(_, path)| path).collect()
        }))
    }

    async fn rows_of(
        &self,
        session: &SessionContext,
        paths: impl IntoIterator<Item = &String>,
    ) -> Result<DataFrame, Error> {
        self.as_stored(session.read_table(self.provider_of(paths.into_iter().cloned()).await?)?)
    }

    /// The files in the order of this column, each with its first value, and whether no two overlap.
    async fn in_order(
        &self,
        session: &SessionContext,
        column: &str,
        paths: &HashSet<String>,
    ) -> Result<(Vec<(i64, String)>, bool), Error> {
        let mut ranges = Vec::with_capacity(paths.len());
        for path in paths {
            let ends = vec![min(ident(column)), max(ident(column))];
            let ends = self.rows_of(session, [path]).await?.aggregate(Vec::new(), ends)?.collect().await?;
            let end = |end: usize| {
                let values = ends.first()?.column(end).as_primitive_opt::<Int64Type>()?;
                values.iter().next().flatten()
            };
            ranges.push((end(0).unwrap_or(i64::MIN), end(1).unwrap_or(i64::MAX), path.clone()));
        }
        ranges.sort_unstable();
        let apart = ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
        Ok((ranges.into_iter().map(|(first, _, path)| (first, path)).collect(), apart))
    }

    /// Writes the rows of files that have them in the order of this column each, in that order. A file is opened when its
    /// first row is due, so that only those are open at once which overlap.
    async fn merged(
        &self,
        session: &SessionContext,
        column: &str,
        files: Vec<(i64, String)>,
    ) -> Result<Vec<Add>, Error> {
        let mut writer = self.writer(Effort::Compaction)?;
        let firsts = files.iter().enumerate().map(|(file, (first, _))| Reverse((*first, file)));
        let mut due: BinaryHeap<Reverse<(i64, usize)>> = firsts.collect();
        let mut open: HashMap<usize, (SendableRecordBatchStream, RecordBatch)> = HashMap::new();
        while let Some(Reverse((_, file))) = due.pop() {
            let (mut rows, mut batch) = match open.remove(&file) {
                Some(open) => open,
                None => {
                    let rows = self.rows_of(session, [&files[file].1]).await?.execute_stream().await?;
                    let none = RecordBatch::new_empty(rows.schema());
                    (rows, none)
                }
            };
            // Where the next file's rows begin.
            let until = due.peek().map_or(i64::MAX, |Reverse((first, _))| *first);
            loop {
                if batch.num_rows() == 0 {
                    let Some(more) = rows.try_next().await? else { break };
                    batch = more;
                    continue;
                }
                let values = batch.column_by_name(column).and_then(|values| values.as_primitive_opt::<Int64Type>());
                let values = values.ok_or_else(|| Error::Corrupt(format!("a file has no `{column}`")))?.values();
                let count = values.partition_point(|value| *value <= until);
                if count == 0 {
                    due.push(Reverse((values[0], file)));
                    open.insert(file, (rows, batch));
                    break;
                }
                writer.write(batch.slice(0, count)).await?;
                batch = batch.slice(count, batch.num_rows() - count);
            }
        }
        writer.finish().await
    }

    async fn sorted(
        &self,
        session: &SessionContext,
        columns: &[&str],
        paths: &HashSet<String>,
    ) -> Result<Vec<Add>, Error> {
        let rows = self.rows_of(session, paths).await?;
        let sorted = rows.sort(columns.iter().map(|column| ident(*column).sort(true, false)).collect())?;
        self.write(sorted.execute_stream().await?).await
    }
}

#[cfg(test)]
impl Table {
    /// Joins small files for as long as there are many; says whether there were.
    pub(super) async fn join_small_files(&mut self, session: &SessionContext, order: Order) -> Result<bool, Error> {
        let mut joined = false;
        while let Some(paths) = self.small_files(&[]).await? {
            let adds = self.joined(session, order, &paths).await?;
            self.swap(adds, &paths).await?;
            joined = true;
        }
        Ok(joined)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
    use arrow::datatypes::{DataType, Field, Schema};

    use super::super::{Columns, Effort, Place, Right, session};
    use super::*;
    use crate::event::Offset;

    /// Rows of a file.
    const ROWS: i64 = 4000;

    /// A table of numbered texts of a KiB: `files` says of each file which blocks of rows it has.
    async fn filled(directory: &Path, session: &SessionContext, files: &[Vec<i64>]) -> Table {
        let state = Arc::new(session.state());
        let place = Place { directory, identity: "log", session: state, wrap: None, bucket: None, right: Right::Alone };
        let fields = [Field::new("number", DataType::Int64, true), Field::new("text", DataType::Utf8, true)];
        let schema = Arc::new(Schema::new(fields.to_vec()));
        let columns = Columns { bloom: &[], unique: &[], opaque: &[] };
        let mut table = Table::open(&place, "texts", &schema, &[], columns).await.expect("opens");
        for (until, blocks) in files.iter().enumerate() {
            let numbers =
                Int64Array::from_iter_values(blocks.iter().flat_map(|block| block * ROWS..(block + 1) * ROWS));
            let texts = numbers.values().iter().map(|number| format!("{number:01024}"));
            let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
            let mut writer = table.writer(Effort::Fold).expect("a writer");
            let rows = RecordBatch::try_from_iter_with_nullable([
                ("number", Arc::new(numbers) as ArrayRef, true),
                ("text", texts, true),
            ]);
            writer.write(rows.expect("of one length")).await.expect("written");
            table.fold(writer.finish().await.expect("ended"), &[], Offset(until as u64)).await.expect("folded");
        }
        table
    }

    /// The numbers as they lie in the files.
    async fn numbers(session: &SessionContext, table: &Table) -> Vec<i64> {
        let session = in_one_partition(session, None);
        let rows = session.read_table(table.provider().await.expect("a snapshot").whole()).expect("a table");
        let batches = rows.select_columns(&["number"]).expect("a column").collect().await.expect("readable");
        let columns = batches.iter().map(|batch| batch.column(0).as_primitive::<Int64Type>());
        columns.flat_map(|column| column.values().to_vec()).collect()
    }

    /// Sixteen files of four MiB are more than a sort within 24 MiB can hold.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn files_are_joined_in_less_memory_than_their_rows_need() {
        let apart: Vec<Vec<i64>> = (0..16).rev().map(|block| vec![block]).collect();
        let twice: Vec<Vec<i64>> = (0..16).map(|file| vec![file / 2]).collect();
        // As small files are that were joined, of before and behind larger ones.
        let around: Vec<Vec<i64>> = [vec![0, 8, 16]].into_iter().chain((1..16).map(|block| vec![block])).collect();
        let cases = [
            (Order::By(&["number"]), &apart),
            (Order::Along("number"), &apart),
            (Order::Along("number"), &twice),
            (Order::Along("number"), &around),
        ];
        for (order, files) in cases {
            let directory = tempfile::tempdir().expect("temporary directory");
            let session = session(24 << 20, &directory.path().join("spill")).expect("a session");
            let mut table = filled(directory.path(), &session, files).await;
            assert!(table.join_small_files(&session, order).await.expect("joined"), "{order:?}");
            let mut expected: Vec<i64> =
                files.iter().flatten().flat_map(|block| block * ROWS..(block + 1) * ROWS).collect();
            expected.sort_unstable();
            let read = numbers(&session, &table).await;
            assert!(read == expected, "{order:?}: {} of {} rows, or not in order", read.len(), expected.len());
            assert_eq!(table.files().await.expect("readable").len(), 1);
        }
    }
}
