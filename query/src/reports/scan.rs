//! Reads of one stored file what a report needs: some columns of some row groups.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use futures::TryStreamExt;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::statistics::Statistics;
use trunklog_storage::archive::{StoredFile, StoredTable};
use trunklog_storage::error::Error;
use trunklog_storage::event::Micros;

use super::calendar::Interval;
use super::call::OF_LEGS;
use super::family::Basis;
use crate::error::QueryError;

const BATCH_ROWS: usize = 8192;

/// The end of a file: its columns, and what is known of the values in them.
pub(crate) struct Footer {
    metadata: ArrowReaderMetadata,
    times: [(&'static str, Range); 4],
}

/// The times by which rows count, in one table or another.
const TIMES: [&str; 4] = ["started_at", "answered_at", "ended_at", "received_at"];

/// The first and the last value of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Range {
    Unknown,
    /// It has no values.
    Empty,
    Between(Micros, Micros),
}

/// How a file lies to an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Relation {
    /// None of its rows count.
    Outside,
    /// All of them do that have the time at all.
    Inside,
    /// Some of them may.
    Across,
}

impl Footer {
    /// Reads it.
    pub async fn of(file: &StoredFile) -> Result<Footer, QueryError> {
        let mut footer = Footer { metadata: file.footer().await?, times: TIMES.map(|name| (name, Range::Unknown)) };
        footer.times = TIMES.map(|name| (name, footer.range(name)));
        Ok(footer)
    }

    /// Bytes of memory, about.
    pub fn bytes(&self) -> usize {
        size_of::<Footer>() + self.metadata.metadata().memory_size()
    }

    fn groups(&self) -> &[RowGroupMetaData] {
        self.metadata.metadata().row_groups()
    }

    fn column(&self, name: &str) -> Option<usize> {
        let columns = self.metadata.parquet_schema().columns().iter();
        columns.enumerate().find(|(_, column)| column.path().string() == name).map(|(index, _)| index)
    }

    fn range(&self, name: &str) -> Range {
        let Some(column) = self.column(name) else { return Range::Unknown };
        let mut range = Range::Empty;
        for group in self.groups() {
            let Some(Statistics::Int64(values)) = group.column(column).statistics() else { return Range::Unknown };
            range = match (values.min_opt(), values.max_opt(), range) {
                (Some(min), Some(max), Range::Between(first, last)) => Range::Between(first.min(*min), last.max(*max)),
                (Some(min), Some(max), _) => Range::Between(*min, *max),
                _ if values.null_count_opt() == Some(group.num_rows().cast_unsigned()) => range,
                _ => return Range::Unknown,
            };
        }
        range
    }

    fn times(&self, name: &str) -> Range {
        self.times.iter().find(|(known, _)| *known == name).map_or(Range::Unknown, |(_, range)| *range)
    }

    /// How the file's rows lie to the interval.
    pub fn relation(&self, basis: Basis, within: Interval) -> Relation {
        match basis {
            Basis::Within(name) => match self.times(name) {
                Range::Empty => Relation::Outside,
                Range::Between(first, last) if last < within.from || first >= within.until => Relation::Outside,
                Range::Between(first, last) if first >= within.from && last < within.until => Relation::Inside,
                _ => Relation::Across,
            },
            Basis::Since(name) => match self.times(name) {
                Range::Empty => Relation::Outside,
                Range::Between(_, last) if last < within.from => Relation::Outside,
                _ => Relation::Inside,
            },
            Basis::Overlap => self.overlap(within),
        }
    }

    fn overlap(&self, within: Interval) -> Relation {
        // Calls without an end count when they began within.
        let (first, last, end) = match (self.times("started_at"), self.times("ended_at")) {
            (Range::Empty, _) => return Relation::Outside,
            (Range::Between(first, last), Range::Empty) => (first, last, last),
            (Range::Between(first, last), Range::Between(_, end)) => (first, last, end.max(last)),
            _ => return Relation::Across,
        };
        if first >= within.until || end < within.from {
            Relation::Outside
        } else if first >= within.from && end <= within.until && last < within.until {
            Relation::Inside
        } else {
            Relation::Across
        }
    }

    /// Row groups that may have rows of this tenant.
    fn groups_of(&self, tenant: Option<&str>) -> Vec<usize> {
        let column = self.column("tenant");
        let may_have = |group: &RowGroupMetaData| {
            let (Some(column), Some(tenant)) = (column, tenant) else { return true };
            let Some(Statistics::ByteArray(values)) = group.column(column).statistics() else { return true };
            let after = values.min_opt().is_none_or(|min| min.data() <= tenant.as_bytes());
            after && values.max_opt().is_none_or(|max| max.data() >= tenant.as_bytes())
        };
        self.groups().iter().enumerate().filter(|(_, group)| may_have(group)).map(|(index, _)| index).collect()
    }

    /// The leaves of these columns; of legs only what reports read.
    fn mask(&self, names: &[&str]) -> ProjectionMask {
        let schema = self.metadata.parquet_schema();
        let wanted = schema.columns().iter().enumerate().filter(|(_, column)| {
            let parts = column.path().parts();
            let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
            names.contains(&first.as_str()) && (first != "legs" || OF_LEGS.contains(&last.as_str()))
        });
        let leaves: Vec<usize> = wanted.map(|(index, _)| index).collect();
        ProjectionMask::leaves(schema, leaves)
    }

    /// Hands over the rows of these columns, a batch at a time.
    pub async fn read(
        &self,
        file: &StoredFile,
        columns: &[&str],
        tenant: Option<&str>,
        mut take: impl FnMut(&RecordBatch),
    ) -> Result<(), QueryError> {
        let groups = self.groups_of(tenant);
        if groups.is_empty() {
            return Ok(());
        }
        let reader = file.open(self.metadata.clone())?;
        let reader = reader.with_row_groups(groups).with_projection(self.mask(columns)).with_batch_size(BATCH_ROWS);
        let mut rows = reader.build().map_err(damaged)?;
        while let Some(batch) = rows.try_next().await.map_err(damaged)? {
            take(&batch);
        }
        Ok(())
    }
}

fn damaged(error: parquet::errors::ParquetError) -> QueryError {
    QueryError::from(Error::Lake(error.into()))
}

/// An id as a number, by which it is looked for in files.
pub(crate) fn hash_of(id: &str) -> u64 {
    id.get(..16).and_then(|prefix| u64::from_str_radix(prefix, 16).ok()).unwrap_or_default()
}

/// The ids in a file, sorted, as [`hash_of`] makes them.
pub(crate) async fn ids_in(
    file: &StoredFile,
    footer: &Arc<Footer>,
    table: StoredTable,
) -> Result<Vec<u64>, QueryError> {
    let column = id_column(table);
    let mut ids = Vec::with_capacity(usize::try_from(file.rows()).unwrap_or_default());
    let take = |batch: &RecordBatch| {
        if let Some(column) = batch.column_by_name(column).and_then(|column| column.as_string_opt::<i32>()) {
            ids.extend(column.iter().flatten().map(hash_of));
        }
    };
    footer.read(file, &[column], None, take).await?;
    ids.sort_unstable();
    Ok(ids)
}

fn id_column(table: StoredTable) -> &'static str {
    match table {
        StoredTable::Calls => "call_id",
        StoredTable::Recordings => "recording_id",
        StoredTable::Events => "event_id",
    }
}
