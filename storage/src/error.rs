//! What can go wrong in storage, named after what the caller should do.

use parquet::errors::ParquetError;

/// Errors of the archive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Disk or tail is full: nothing was written; try again later.
    #[error("the archive is full: {0}")]
    Full(String),
    /// Too many appends are waiting: nothing was written; try again at once.
    #[error("too many appends are waiting")]
    Busy,
    /// A write or sync of the log failed: nothing more is accepted until a restart.
    #[error("the log failed and takes no more messages until restart: {0}")]
    Poisoned(String),
    /// A server that storage rests on does not answer: nothing was acknowledged; try again later.
    #[error("not available: {0}")]
    Unavailable(String),
    /// The archive is shutting down.
    #[error("the archive is closing")]
    Closed,
    /// That version is no longer kept.
    #[error("no longer available: {0}")]
    Gone(String),
    /// There is no such object.
    #[error("there is no `{0}`")]
    Missing(String),
    /// More bytes than are taken; nothing was kept.
    #[error("larger than {0} bytes")]
    TooLarge(u64),
    /// What is on disk contradicts itself; nothing was changed.
    #[error("corrupt: {0}")]
    Corrupt(String),
    /// Another process holds or changed it.
    #[error("conflict: {0}")]
    Conflict(String),
    /// A setting is wrong.
    #[error("configuration: {0}")]
    Config(String),
    /// The file system failed.
    #[error("{context}: {source}")]
    Io {
        /// What was being done.
        context: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Delta Lake failed.
    #[error("table: {0}")]
    Lake(#[from] deltalake::DeltaTableError),
    /// Arrow failed.
    #[error("arrow: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    /// A query of the archive's own failed.
    #[error("query: {0}")]
    Query(#[from] datafusion::error::DataFusionError),
}

impl Error {
    /// Whether a server that holds files gave no answer: another try may do.
    pub fn is_outage(&self) -> bool {
        matches!(self, Error::Unavailable(_)) || is_outage(self)
    }
}

/// Whether this goes back to a server of files that gave no answer. Local files have no such errors.
pub fn is_outage(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|cause| {
        let store = cause.downcast_ref::<object_store::Error>();
        matches!(store, Some(object_store::Error::Generic { store, .. }) if !store.starts_with("Local"))
            || cause.downcast_ref::<ParquetError>().is_some_and(is_outage_at_footer)
    })
}

/// `DataFusion` 55 hands on what went wrong while it read a file's footer as text only
/// (`ParquetFileReader::get_metadata`); [`object_store::Error::Generic`] shows itself there as "Generic S3 error: …".
fn is_outage_at_footer(error: &ParquetError) -> bool {
    let ParquetError::General(text) = error else { return false };
    let store = text.split_once(": Generic ").map(|(_, store)| store);
    text.starts_with("Failed to fetch metadata for file") && store.is_some_and(|store| !store.starts_with("Local"))
}

/// Adds what was being done to an I/O error.
pub(crate) trait Context<T> {
    fn context(self, what: impl Into<String>) -> Result<T, Error>;
}

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, what: impl Into<String>) -> Result<T, Error> {
        self.map_err(|source| Error::Io { context: what.into(), source })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, RecordBatch};
    use datafusion::datasource::file_format::parquet::ParquetFormat;
    use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
    use datafusion::prelude::{SessionConfig, SessionContext};
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt};
    use parquet::arrow::ArrowWriter;

    use super::*;
    use crate::faults::{Fault, Faults, Operation, Rule};

    #[tokio::test]
    async fn a_store_that_gives_no_footer_is_an_outage() {
        let column: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let rows = RecordBatch::try_from_iter([("a", column)]).expect("works");
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, rows.schema(), None).expect("works");
        writer.write(&rows).expect("works");
        writer.close().expect("works");
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        store.put(&Path::from("a.parquet"), bytes.into()).await.expect("works");

        let faults = Arc::new(Faults::default());
        let session = SessionContext::new_with_config(SessionConfig::new().with_collect_statistics(false));
        let address = ListingTableUrl::parse("memory://store/a.parquet").expect("works");
        session.register_object_store(address.object_store().as_ref(), faults.wrapper()(store, ""));
        let options = ListingOptions::new(Arc::new(ParquetFormat::default()));
        let config = ListingTableConfig::new(address).with_listing_options(options).with_schema(rows.schema());
        let table = Arc::new(ListingTable::try_new(config).expect("works"));
        // The first is asked whether the file is there.
        let rule =
            Rule { operation: Operation::Get, table: "", path: "", skip: 1, times: 1, fault: Fault::InputOutput };
        faults.plan(rule);
        let failed =
            session.read_table(Arc::clone(&table) as _).expect("works").collect().await.expect_err("no footer");
        assert!(failed.to_string().contains("fetch metadata"), "not what this test is about: {failed}");
        assert!(is_outage(&failed), "{failed:?}");
        assert_eq!(session.read_table(table).expect("works").count().await.expect("works"), 2);
    }
}
