//! Arrow IPC streams and Parquet files, drained as they are written.

use std::io::{self, Write};
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::ipc::writer::StreamWriter;
use parking_lot::Mutex;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;

use super::Encoder;
use crate::error::QueryError;

/// A row group is written out when it has this many bytes.
const ROW_GROUP_BYTES: usize = 64 << 20;

pub(super) struct ArrowStream {
    writer: StreamWriter<Vec<u8>>,
}

impl ArrowStream {
    pub(super) fn new(schema: &Schema) -> Result<ArrowStream, QueryError> {
        Ok(ArrowStream { writer: StreamWriter::try_new(Vec::new(), schema)? })
    }
}

impl Encoder for ArrowStream {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, QueryError> {
        self.writer.write(batch)?;
        Ok(std::mem::take(self.writer.get_mut()))
    }

    fn finish(&mut self) -> Result<Vec<u8>, QueryError> {
        self.writer.finish()?;
        Ok(std::mem::take(self.writer.get_mut()))
    }
}

/// Where the Parquet writer leaves its bytes, and we take them from.
#[derive(Clone, Default)]
struct Drain(Arc<Mutex<Vec<u8>>>);

impl Write for Drain {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(super) struct Parquet {
    writer: Option<ArrowWriter<Drain>>,
    schema: SchemaRef,
    drain: Drain,
}

impl Parquet {
    pub(super) fn new(schema: SchemaRef) -> Result<Parquet, QueryError> {
        let drain = Drain::default();
        let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
        let writer = ArrowWriter::try_new(drain.clone(), Arc::clone(&schema), Some(properties)).map_err(fault)?;
        Ok(Parquet { writer: Some(writer), schema, drain })
    }
}

impl Encoder for Parquet {
    fn batch(&mut self, batch: &RecordBatch) -> Result<Vec<u8>, QueryError> {
        if let Some(writer) = &mut self.writer {
            // The writer compares schemas to the last comment.
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let columns = batch.columns().to_vec();
            let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options)?;
            writer.write(&batch).map_err(fault)?;
            if writer.in_progress_size() > ROW_GROUP_BYTES {
                writer.flush().map_err(fault)?;
            }
        }
        Ok(std::mem::take(&mut *self.drain.0.lock()))
    }

    fn finish(&mut self) -> Result<Vec<u8>, QueryError> {
        if let Some(writer) = self.writer.take() {
            writer.close().map_err(fault)?;
        }
        Ok(std::mem::take(&mut *self.drain.0.lock()))
    }
}

fn fault(error: ParquetError) -> QueryError {
    match error {
        ParquetError::NYI(what) => QueryError::Sql(format!("Parquet cannot hold this answer: {what}")),
        other => QueryError::Internal(other.to_string()),
    }
}
