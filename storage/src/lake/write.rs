//! Writing rows into new files that no commit names yet.

use std::sync::Arc;

use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use datafusion::execution::SendableRecordBatchStream;
use deltalake::DeltaTableError;
use deltalake::kernel::Add;
use deltalake::writer::{DeltaWriter, RecordBatchWriter};
use futures::TryStreamExt;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

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
pub struct Writer(RecordBatchWriter);

impl std::fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Writer").finish_non_exhaustive()
    }
}

impl Writer {
    /// Writes more rows, in the table's columns.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub async fn write(&mut self, rows: RecordBatch) -> Result<(), Error> {
        Ok(self.0.write(rows).await?)
    }

    /// Ends the files and names them, for a commit.
    ///
    /// # Errors
    /// If a file cannot be written.
    pub async fn finish(mut self) -> Result<Vec<Add>, Error> {
        Ok(self.0.flush().await?)
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
        for column in self.columns.bloom {
            properties = properties.set_column_bloom_filter_enabled(ColumnPath::from(*column), true);
        }
        for column in self.columns.opaque {
            properties = properties.set_column_statistics_enabled(ColumnPath::from(*column), EnabledStatistics::None);
        }
        let schema = self.stored_schema()?;
        for column in self.columns.unique {
            let path = ColumnPath::from(*column);
            properties = properties.set_column_dictionary_enabled(path.clone(), false);
            let kind = schema.field_with_name(column).map(|field| field.data_type().clone());
            if matches!(kind, Ok(DataType::Int64 | DataType::Timestamp(..))) {
                properties = properties.set_column_encoding(path, Encoding::DELTA_BINARY_PACKED);
            }
        }
        let writer = RecordBatchWriter::for_table(&self.handle)?.with_writer_properties(properties.build());
        Ok(Writer(writer.with_target_file_size(FILE_BYTES)))
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
