//! Joining the small files of a day, so that a query opens few: the rows stay what they are.

use std::collections::{BTreeMap, HashSet};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use datafusion::functions_aggregate::expr_fn::{max, min};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::prelude::{DataFrame, SessionContext, ident};
use deltalake::kernel::Add;
use futures::{StreamExt, TryStreamExt};

use super::Table;
use super::session::in_one_partition;
use crate::error::Error;

/// A file below this size is small.
const SMALL_BYTES: i64 = 16 << 20;
/// So many small files of a day are joined.
const JOINED_FILES: usize = 16;
/// At most so many bytes of files are joined at once.
const JOINED_BYTES: i64 = 128 << 20;
/// Messages that are copied at once from file to file.
const COPIED_ROWS: usize = 128;
/// Messages that are sorted at once: a sort needs room for two batches and divides none, and a message may have a MiB.
const SORTED_MESSAGES: usize = 16;

/// How the rows of joined files come into order.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// Sorted by these columns.
    By(&'static [&'static str]),
    /// Every file has them in the order of this column already, and no two overlap: else sorted by it.
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
            Order::Along(column) => match self.in_order(session, column, paths).await? {
                Some(files) => self.copied(&in_one_partition(session, Some(COPIED_ROWS)), files).await,
                None => self.sorted(&in_one_partition(session, Some(SORTED_MESSAGES)), &[column], paths).await,
            },
        }
    }

    /// Small files of a partition that has many, but for those in `kept`.
    ///
    /// # Errors
    /// If the snapshot cannot be read.
    pub async fn small_files(&self, kept: &[String]) -> Result<Option<HashSet<String>>, Error> {
        let mut partitions: BTreeMap<(String, String), Vec<(i64, String)>> = BTreeMap::new();
        let files = self.files().await?.into_iter();
        for file in files.filter(|file| file.bytes < SMALL_BYTES && !kept.contains(&file.path)) {
            partitions.entry((file.day, file.tier)).or_default().push((file.bytes, file.path));
        }
        let crowded = partitions.into_values().find(|files| files.len() >= JOINED_FILES);
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

    /// The files in the order of this column, unless two overlap.
    async fn in_order(
        &self,
        session: &SessionContext,
        column: &str,
        paths: &HashSet<String>,
    ) -> Result<Option<Vec<String>>, Error> {
        let mut ranges = Vec::with_capacity(paths.len());
        for path in paths {
            let ends = vec![min(ident(column)), max(ident(column))];
            let ends = self.rows_of(session, [path]).await?.aggregate(Vec::new(), ends)?.collect().await?;
            let end = |end: usize| {
                let values = ends.first()?.column(end).as_primitive_opt::<Int64Type>()?;
                values.iter().next().flatten()
            };
            let (Some(first), Some(last)) = (end(0), end(1)) else { return Ok(None) };
            ranges.push((first, last, path.clone()));
        }
        ranges.sort_unstable();
        let apart = ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
        Ok(apart.then(|| ranges.into_iter().map(|(_, _, path)| path).collect()))
    }

    /// Writes the rows of one file after the other.
    async fn copied(&self, session: &SessionContext, files: Vec<String>) -> Result<Vec<Add>, Error> {
        let mut frames = Vec::with_capacity(files.len());
        for file in &files {
            frames.push(self.rows_of(session, [file]).await?);
        }
        let rows = futures::stream::iter(frames).then(DataFrame::execute_stream).try_flatten();
        self.write(Box::pin(RecordBatchStreamAdapter::new(self.stored_schema()?, rows))).await
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

    /// A table of numbered texts of a KiB: `files` says of each file how many others could stand before it.
    async fn filled(directory: &Path, session: &SessionContext, files: &[i64]) -> Table {
        let state = Arc::new(session.state());
        let place = Place { directory, identity: "log", session: state, wrap: None, bucket: None, right: Right::Alone };
        let fields = [Field::new("number", DataType::Int64, true), Field::new("text", DataType::Utf8, true)];
        let schema = Arc::new(Schema::new(fields.to_vec()));
        let columns = Columns { bloom: &[], unique: &[], opaque: &[] };
        let mut table = Table::open(&place, "texts", &schema, &[], columns).await.expect("opens");
        for (until, first) in files.iter().enumerate() {
            let numbers = Int64Array::from_iter_values((first * ROWS..).take(ROWS as usize));
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
        let apart: Vec<i64> = (0..16).rev().collect();
        let overlapping: Vec<i64> = (0..16).map(|file| file / 2).collect();
        let cases = [
            (Order::By(&["number"]), &apart),
            (Order::Along("number"), &apart),
            (Order::Along("number"), &overlapping),
        ];
        for (order, files) in cases {
            let directory = tempfile::tempdir().expect("temporary directory");
            let session = session(24 << 20, &directory.path().join("spill")).expect("a session");
            let mut table = filled(directory.path(), &session, files).await;
            assert!(table.join_small_files(&session, order).await.expect("joined"), "{order:?}");
            let mut expected: Vec<i64> = files.iter().flat_map(|file| file * ROWS..(file + 1) * ROWS).collect();
            expected.sort_unstable();
            let read = numbers(&session, &table).await;
            assert!(read == expected, "{order:?}: {} of {} rows, or not in order", read.len(), expected.len());
            assert_eq!(table.files().await.expect("readable").len(), 1);
        }
    }
}
