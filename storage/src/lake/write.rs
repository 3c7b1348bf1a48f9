//! Writing rows into new files that no commit names yet.

use std::sync::Arc;

use arrow::array::AsArray;
use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use delta_kernel::expressions::Scalar;
use deltalake::DeltaTableError;
use deltalake::kernel::Add;
use deltalake::writer::{DeltaWriter, RecordBatchWriter, WriteMode};
use futures::TryStreamExt;
use indexmap::IndexMap;
use parquet::arrow::ArrowSchemaConverter;
use parquet::basic::{Compression, Encoding, Type, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::{ColumnDescPtr, ColumnPath};

use super::Table;
use crate::error::Error;

/// A file of this size is full: the next row begins another.
const FILE_BYTES: u64 = 128 << 20;
const ROW_GROUP_ROWS: usize = 128 * 1024;

/// How well to compress: what is soon written again less than what stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Rows of a fold.
    Fold,
    /// Rows of a compaction.
    Compaction,
}

impl Effort {
    fn level(self) -> i32 {
        match self {
            Effort::Fold => 1,
            Effort::Compaction => 3,
        }
    }
}

/// Columns that need something else than the library's defaults.
#[derive(Clone, Copy, Debug)]
pub(super) struct Columns {
    /// Asked for by value: they get a Bloom filter.
    pub bloom: &'static [&'static str],
    /// Hardly any value comes twice: a dictionary of them is work for nothing. Whole numbers and times are then
    /// written as differences.
    pub unique: &'static [&'static str],
    /// Nobody asks which values are less than others: statistics of them are work for nothing.
    pub opaque: &'static [&'static str],
}

/// New files in the making. It needs the table no more.
pub struct Writer {
    files: RecordBatchWriter,
    /// The columns by which the table is partitioned.
    partitioned_by: Arc<[String]>,
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// Writes more rows, in the table's columns. Those of one partition are not copied on the way.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub async fn write(&mut self, rows: RecordBatch) -> Result<(), Error> {
        match self.only_partition(&rows) {
            Some(partition) => drop(self.files.write_partition(rows, &partition, WriteMode::Default).await?),
            None => self.files.write(rows).await?,
        }
        Ok(())
    }

    /// The partition that all rows belong to, if it is one.
    fn only_partition(&self, rows: &RecordBatch) -> Option<IndexMap<String, Scalar>> {
        let value = |name: &String| {
            let column = rows.column_by_name(name)?.as_string_opt::<i32>()?;
            let mut values = column.iter();
            let first = values.next()??;
            values.all(|value| value == Some(first)).then(|| (name.clone(), Scalar::String(first.to_owned())))
        };
        self.partitioned_by.iter().map(value).collect()
    }

    /// Ends the files and names them, for a commit.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub async fn finish(mut self) -> Result<Vec<Add>, Error> {
        Ok(self.files.flush().await?)
    }
}

impl Table {
    /// A writer of new files.
    ///
    /// # Errors
    /// If the table is not loaded.
    pub fn writer(&self, effort: Effort) -> Result<Writer, Error> {
        let level = ZstdLevel::try_new(effort.level()).map_err(DeltaTableError::from)?;
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS));
        // They begin with room for the values of a row group. To say so would be to want them of every column.
        for column in self.columns.bloom {
            properties = properties.set_column_bloom_filter_enabled(ColumnPath::from(*column), true);
        }
        for column in self.columns.opaque {
            properties = properties.set_column_statistics_enabled(ColumnPath::from(*column), EnabledStatistics::None);
        }
        let schema = self.stored_schema()?;
        let leaves = ArrowSchemaConverter::new().convert(&schema).map_err(DeltaTableError::from)?;
        // Within lists and maps nobody skips by value either.
        for nested in leaves.columns().iter().map(|leaf| leaf.path()).filter(|path| path.parts().len() > 1) {
            properties = properties.set_column_statistics_enabled(nested.clone(), EnabledStatistics::None);
        }
        for column in self.columns.unique {
            let path = ColumnPath::from(column.split('.').map(str::to_owned).collect::<Vec<_>>());
            properties = properties.set_column_dictionary_enabled(path.clone(), false);
            let is_whole = |leaf: &ColumnDescPtr| *leaf.path() == path && leaf.physical_type() == Type::INT64;
            if leaves.columns().iter().any(is_whole) {
                properties = properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
            }
        }
        let files = RecordBatchWriter::for_table(&self.handle)?.with_writer_properties(properties.build());
        let partitioned_by = self.handle.snapshot()?.metadata().partition_columns().into();
        Ok(Writer { files: files.with_target_file_size(FILE_BYTES), partitioned_by })
    }

    /// Writes rows into new files that no commit names yet.
    ///
    /// # Errors
    /// If rows cannot be had or files not be written.
    pub async fn write(&self, mut rows: SendableRecordBatchStream) -> Result<Vec<Add>, Error> {
        let mut writer = self.writer(Effort::Compaction)?;
        while let Some(batch) = rows.try_next().await? {
            writer.write(batch).await?;
        }
        writer.finish().await
    }

    /// The schema in which rows are written.
    ///
    /// # Errors
    /// If the table is not loaded.
    pub fn stored_schema(&self) -> Result<arrow::datatypes::SchemaRef, Error> {
        Ok(Arc::clone(&RecordBatchWriter::for_table(&self.handle)?.arrow_schema()))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaDataReader};

    use super::super::{Place, Right, session};
    use super::*;
    use crate::archive::toy::Toy;
    use crate::event::Source;
    use crate::rows::{self, FINAL, KeyedCall};

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn columns_that_need_something_else_are_there() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let session = session(24 << 20, &directory.path().join("spill")).expect("a session");
        let state = Arc::new(session.state());
        let path = directory.path();
        let place =
            Place { directory: path, identity: "log", session: state, wrap: None, bucket: None, right: Right::Alone };
        let tables = [Table::events(&place).await, Table::calls(&place).await, Table::recordings(&place).await];
        for table in tables {
            let table = table.expect("opens");
            let leaves = ArrowSchemaConverter::new().convert(&table.stored_schema().expect("loaded")).expect("Parquet");
            let leaves: Vec<String> = leaves.columns().iter().map(|leaf| leaf.path().string()).collect();
            let Columns { bloom, unique, opaque } = table.columns;
            for column in [bloom, unique, opaque].concat() {
                assert!(leaves.iter().any(|leaf| leaf == column), "`{}` has no `{column}`", table.name());
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn only_what_is_asked_for_by_value_has_a_bloom_filter() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let session = session(24 << 20, &directory.path().join("spill")).expect("a session");
        let state = Arc::new(session.state());
        let path = directory.path();
        let place =
            Place { directory: path, identity: "log", session: state, wrap: None, bucket: None, right: Right::Alone };
        let table = Table::calls(&place).await.expect("opens");
        let keyed = KeyedCall {
            tenant: "acme".into(),
            source: Source::Placetel,
            id: "0".into(),
            key: "0".into(),
            day: 0,
            state: Arc::default(),
        };
        let mut writer = table.writer(Effort::Fold).expect("a writer");
        writer.write(rows::stored(&[keyed], FINAL, &Toy).expect("rows")).await.expect("written");
        let files = writer.finish().await.expect("finished");
        let file = std::fs::File::open(path.join("calls").join(&files[0].path)).expect("a file");
        let footer = ParquetMetaDataReader::new().parse_and_finish(&file).expect("Parquet");
        let filtered = |column: &&ColumnChunkMetaData| column.bloom_filter_offset().is_some();
        let names = footer.row_group(0).columns().iter().filter(filtered).map(|column| column.column_path().string());
        assert_eq!(names.collect::<BTreeSet<_>>(), table.columns.bloom.iter().map(ToString::to_string).collect());
    }
}
