//! One version of a table, which does not change: as a whole for queries, and file by file for what remembers what each
//! file contributes.

use std::fmt::{self, Debug, Formatter};
use std::ops::Deref;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use deltalake::DeltaTable;
use futures::TryStreamExt;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use tokio::sync::OnceCell;

use super::{DataFile, File};
use crate::error::Error;

/// A version of a table. It is also its provider.
pub struct Pinned {
    provider: Arc<dyn TableProvider>,
    handle: DeltaTable,
    files: OnceCell<Arc<[File]>>,
}

impl Debug for Pinned {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Pinned").field("version", &self.handle.version()).finish_non_exhaustive()
    }
}

impl Deref for Pinned {
    type Target = Arc<dyn TableProvider>;

    fn deref(&self) -> &Arc<dyn TableProvider> {
        &self.provider
    }
}

impl Pinned {
    pub(super) fn new(provider: Arc<dyn TableProvider>, handle: DeltaTable) -> Pinned {
        Pinned { provider, handle, files: OnceCell::new() }
    }

    /// All of it, for queries.
    pub fn whole(&self) -> Arc<dyn TableProvider> {
        Arc::clone(&self.provider)
    }

    /// Its files; they are listed once.
    ///
    /// # Errors
    /// If the snapshot cannot be read.
    pub async fn files(&self) -> Result<Arc<[File]>, Error> {
        let list = async {
            let files: Vec<_> = self.handle.get_active_add_actions_by_predicate(None).try_collect().await?;
            Ok::<_, Error>(files.iter().map(File::of).collect())
        };
        self.files.get_or_try_init(|| list).await.cloned()
    }

    fn reader(&self, file: &File) -> Result<DataFile, Error> {
        let path = Path::parse(&file.path).map_err(|error| Error::Corrupt(format!("`{}`: {error}", file.path)))?;
        Ok(DataFile { store: self.handle.object_store(), path, bytes: file.bytes.cast_unsigned() })
    }

    /// Reads the end of a file: its columns and statistics.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub async fn footer(&self, file: &File) -> Result<ArrowReaderMetadata, Error> {
        let mut reader = self.reader(file)?;
        ArrowReaderMetadata::load_async(&mut reader, ArrowReaderOptions::default()).await.map_err(damaged)
    }

    /// Begins to read a file whose end was read before.
    ///
    /// # Errors
    /// If the file cannot be named.
    pub fn open(
        &self,
        file: &File,
        footer: ArrowReaderMetadata,
    ) -> Result<ParquetRecordBatchStreamBuilder<DataFile>, Error> {
        Ok(ParquetRecordBatchStreamBuilder::new_with_metadata(self.reader(file)?, footer))
    }
}

fn damaged(error: parquet::errors::ParquetError) -> Error {
    Error::Lake(error.into())
}
