//! The Delta tables at rest: `events`, `calls` and `recordings`.
//!
//! Rules that every commit here keeps (break one and rows double or vanish):
//! - a fold commit carries the log's offset as application transaction under an id that contains the log's identity,
//!   and is refused unless the offset on the very snapshot it commits to is the expected one;
//! - a commit that removes files also carries the transaction `trunklog/remover`;
//! - no checkpoint or clean-up inside a commit, never the library's OPTIMIZE, no deletion vectors;
//! - after a commit error the table is read again before anything is concluded.

mod history;
mod join;
pub mod read;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::prelude::{SessionConfig, SessionContext};
use deltalake::kernel::engine::arrow_conversion::TryFromArrow;
use deltalake::kernel::transaction::{CommitBuilder, CommitProperties, TableReference};
use deltalake::kernel::{Action, StructType, Transaction};
use deltalake::protocol::{DeltaOperation, SaveMode};
use deltalake::writer::{DeltaWriter, RecordBatchWriter};
use deltalake::{DeltaTable, DeltaTableBuilder, DeltaTableError};
use futures::TryStreamExt;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::schema::types::ColumnPath;
use url::Url;

use crate::error::{Context, Error};
use crate::event::Offset;
use crate::objects::DurableStore;
use crate::schema;

pub use history::Version;

/// The shared application id of every commit that removes files.
const REMOVER: &str = "trunklog/remover";
/// Commits between checkpoints.
const CHECKPOINT_EVERY: u64 = 100;

/// One Delta table and the log offset up to which it has read.
pub struct Table {
    name: &'static str,
    application: String,
    handle: DeltaTable,
    /// Last offset that is in the table.
    pub watermark: Option<Offset>,
    bloom: &'static [&'static str],
    since_checkpoint: u64,
    /// Offsets of commits whose outcome is not known: one of them may have landed.
    attempted: Vec<Offset>,
    session: Arc<SessionState>,
}

/// A session for the archive's own reads: strings as strings, filters pushed into Parquet.
pub fn session() -> SessionContext {
    let mut config = SessionConfig::new().with_information_schema(false);
    config.options_mut().execution.parquet.schema_force_view_types = false;
    config.options_mut().execution.parquet.pushdown_filters = true;
    SessionContext::new_with_config(config)
}

impl Table {
    /// Opens or makes `calls`.
    ///
    /// # Errors
    /// If the table cannot be read or made.
    pub async fn calls(tables: &Path, identity: &str, session: Arc<SessionState>) -> Result<Table, Error> {
        let bloom = &["call_id", "call_key", "from_number", "to_number"];
        Table::open(tables, "calls", identity, &schema::calls_table(), &["day", "tier"], bloom, session).await
    }

    /// Opens or makes `recordings`.
    ///
    /// # Errors
    /// If the table cannot be read or made.
    pub async fn recordings(tables: &Path, identity: &str, session: Arc<SessionState>) -> Result<Table, Error> {
        let bloom = &["recording_id", "call_id", "sha256", "uploaded_as"];
        let schema = schema::recordings_table();
        Table::open(tables, "recordings", identity, &schema, &["day", "tier"], bloom, session).await
    }

    /// Opens or makes `events`.
    ///
    /// # Errors
    /// If the table cannot be read or made.
    pub async fn events(tables: &Path, identity: &str, session: Arc<SessionState>) -> Result<Table, Error> {
        let bloom = &["event_id", "call_key", "fingerprint"];
        Table::open(tables, "events", identity, &schema::events_table(), &["day"], bloom, session).await
    }

    async fn open(
        tables: &Path,
        name: &'static str,
        identity: &str,
        schema: &arrow::datatypes::SchemaRef,
        partitions: &[&str],
        bloom: &'static [&'static str],
        session: Arc<SessionState>,
    ) -> Result<Table, Error> {
        let directory = tables.join(name);
        std::fs::create_dir_all(&directory).context(format!("making `{}`", directory.display()))?;
        let directory = std::fs::canonicalize(&directory).context(format!("opening `{}`", directory.display()))?;
        // The Delta kernel decodes the path of a table's address once more than it was encoded.
        let name_of = directory.to_string_lossy();
        let escaped = name_of
            .split('%')
            .skip(1)
            .any(|rest| rest.len() > 1 && rest.bytes().take(2).all(|byte| byte.is_ascii_hexdigit()));
        if escaped || name_of.contains('\\') {
            let reason = "a data directory may not have `\\` or `%` and two hex digits in its path";
            return Err(Error::Config(format!("{reason}: `{name_of}`")));
        }
        let url = Url::from_directory_path(&directory)
            .map_err(|()| Error::Config(format!("`{}` is not an absolute path", directory.display())))?;
        let store = DurableStore::new(&directory);
        crate::log_sync_directory(tables)?;
        let mut handle =
            DeltaTableBuilder::from_url(url.clone())?.with_storage_backend(Arc::new(store), url).build()?;
        if handle.verify_deltatable_existence().await? {
            handle.load().await?;
        } else {
            let columns =
                StructType::try_from_arrow(schema.as_ref()).map_err(|error| Error::Config(error.to_string()))?;
            let columns: Vec<_> = columns.fields().cloned().collect();
            let properties = [
                ("delta.dataSkippingNumIndexedCols", Some("16")),
                // Longer than any setting of how long superseded files are kept, so that vacuum still knows them.
                ("delta.deletedFileRetentionDuration", Some("interval 30 days")),
            ];
            handle = handle
                .create()
                .with_table_name(name)
                .with_columns(columns)
                .with_partition_columns(partitions.iter().copied())
                .with_configuration(properties)
                .await?;
        }
        let application = format!("trunklog/{identity}/0");
        let mut table = Table {
            name,
            application,
            handle,
            watermark: None,
            bloom,
            since_checkpoint: 0,
            attempted: Vec::new(),
            session,
        };
        table.watermark = table.read_watermark().await?;
        // Commits of former processes count too; one checkpoint too many at a start costs little.
        table.since_checkpoint = table.version().min(CHECKPOINT_EVERY);
        Ok(table)
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The version that reads and commits refer to.
    pub fn version(&self) -> u64 {
        self.handle.version().unwrap_or_default()
    }

    async fn read_watermark(&self) -> Result<Option<Offset>, Error> {
        let version = self.transaction(&self.application).await?;
        Ok(version.map(|offset| Offset(offset.cast_unsigned())))
    }

    async fn transaction(&self, application: &str) -> Result<Option<i64>, Error> {
        let log_store = self.handle.log_store();
        Ok(self.handle.snapshot()?.transaction_version(log_store.as_ref(), application).await?)
    }

    /// The pinned table for queries.
    ///
    /// # Errors
    /// If the snapshot cannot be read.
    pub async fn provider(&self) -> Result<Arc<dyn TableProvider>, Error> {
        Ok(self.handle.table_provider().with_session(Arc::clone(&self.session)).await?)
    }

    /// The table as it was at an earlier version.
    ///
    /// # Errors
    /// `Gone` when that version can no longer be read.
    pub async fn provider_at(&self, version: u64) -> Result<Arc<dyn TableProvider>, Error> {
        let mut handle = self.handle.clone();
        handle.load_version(version).await.map_err(|_| Error::Gone(format!("version {version} of `{}`", self.name)))?;
        Ok(handle.table_provider().with_session(Arc::clone(&self.session)).await?)
    }

    /// Appends rows and moves the watermark, in one commit.
    ///
    /// # Errors
    /// `Conflict` when another writer moved the watermark; other errors leave the table as it was.
    pub async fn fold(&mut self, rows: Vec<RecordBatch>, until: Offset) -> Result<(), Error> {
        let adds = self.write(rows).await?;
        self.commit(adds.into_iter().map(Action::Add).collect(), Some(until), false).await
    }

    /// Replaces the files of these days (`None`: of all) by rows, in one commit.
    ///
    /// # Errors
    /// As [`Table::fold`].
    pub async fn swap(&mut self, rows: Vec<RecordBatch>, days: Option<&[String]>) -> Result<(), Error> {
        let removed = self.files(|values| {
            let day = values.get("day").cloned().flatten().unwrap_or_default();
            days.is_none_or(|days| days.contains(&day))
        });
        let removed = removed.await?;
        let adds = self.write(rows).await?;
        self.replace(removed, adds).await
    }

    /// Commits the exchange of files that hold the same rows.
    async fn replace(&mut self, removed: Vec<Action>, adds: Vec<deltalake::kernel::Add>) -> Result<(), Error> {
        let mut actions = removed;
        for mut add in adds {
            add.data_change = false;
            actions.push(Action::Add(add));
        }
        self.commit(actions, None, true).await
    }

    async fn files(&self, wanted: impl Fn(&HashMap<String, Option<String>>) -> bool) -> Result<Vec<Action>, Error> {
        let files: Vec<_> = self.handle.get_active_add_actions_by_predicate(None).try_collect().await?;
        let wanted = files.iter().filter(|file| wanted(&file.partition_values_map()));
        Ok(wanted.map(|file| Action::Remove(file.remove_action(false))).collect())
    }

    /// Files of the pinned version.
    #[cfg(test)]
    pub async fn file_count(&self) -> Result<usize, Error> {
        Ok(self.handle.get_active_add_actions_by_predicate(None).try_collect::<Vec<_>>().await?.len())
    }

    /// Rows per (day, tier) of the pinned version.
    ///
    /// # Errors
    /// If the snapshot cannot be read.
    pub async fn rows_by_partition(&self) -> Result<HashMap<(String, String), u64>, Error> {
        let files: Vec<_> = self.handle.get_active_add_actions_by_predicate(None).try_collect().await?;
        let mut rows = HashMap::new();
        for file in files {
            let values = file.partition_values_map();
            let value = |name: &str| values.get(name).cloned().flatten().unwrap_or_default();
            *rows.entry((value("day"), value("tier"))).or_default() += file.num_records().unwrap_or_default() as u64;
        }
        Ok(rows)
    }

    async fn write(&self, rows: Vec<RecordBatch>) -> Result<Vec<deltalake::kernel::Add>, Error> {
        let mut writer = self.writer()?;
        for batch in rows {
            if batch.num_rows() > 0 {
                writer.write(batch).await?;
            }
        }
        Ok(writer.flush().await?)
    }

    fn writer(&self) -> Result<RecordBatchWriter, Error> {
        let mut properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).map_err(DeltaTableError::from)?))
            .set_max_row_group_row_count(Some(128 * 1024));
        for column in self.bloom {
            properties = properties.set_column_bloom_filter_enabled(ColumnPath::from(*column), true);
        }
        Ok(RecordBatchWriter::for_table(&self.handle)?.with_writer_properties(properties.build()))
    }

    async fn commit(&mut self, actions: Vec<Action>, until: Option<Offset>, removes: bool) -> Result<(), Error> {
        let stored = self.read_watermark().await?;
        if stored != self.watermark && stored.is_some_and(|stored| self.attempted.contains(&stored)) {
            self.watermark = stored;
            return Err(Error::Conflict(format!(
                "`{}`: an earlier commit had landed; the fold is tried again",
                self.name
            )));
        }
        if stored != self.watermark {
            let (name, expected) = (self.name, self.watermark);
            return Err(Error::Conflict(format!(
                "`{name}` is at offset {stored:?}, not at {expected:?}: another writer"
            )));
        }
        let mut properties = CommitProperties::default()
            .with_create_checkpoint(false)
            .with_cleanup_expired_logs(Some(false))
            .with_metadata([("isBlindAppend".to_owned(), serde_json::Value::Bool(!removes))]);
        if let Some(until) = until {
            properties =
                properties.with_application_transaction(Transaction::new(&self.application, until.0.cast_signed()));
        }
        if removes {
            let number = self.transaction(REMOVER).await?.unwrap_or_default() + 1;
            properties = properties.with_application_transaction(Transaction::new(REMOVER, number));
        }
        let mode = if removes { SaveMode::Overwrite } else { SaveMode::Append };
        let operation = DeltaOperation::Write { mode, partition_by: None, predicate: None };
        let before = self.version();
        self.attempted.extend(until);
        let outcome = {
            let snapshot = self.handle.snapshot()?;
            CommitBuilder::from(properties)
                .with_actions(actions)
                .build(Some(snapshot as &dyn TableReference), self.handle.log_store(), operation)
                .await
        };
        match outcome {
            Ok(committed) => self.handle.state = Some(committed.snapshot()),
            Err(error) => {
                // The commit may have landed although its answer was lost: only the table can tell.
                self.handle.update_state().await?;
                let landed = match until {
                    Some(until) => self.read_watermark().await? == Some(until),
                    None => false,
                };
                if !landed {
                    return Err(error.into());
                }
            }
        }
        tracing::debug!(table = self.name, from = before, to = self.version(), "committed");
        self.watermark = until.or(self.watermark);
        self.attempted.clear();
        self.since_checkpoint += 1;
        Ok(())
    }

    /// Writes a checkpoint when enough commits have come since the last, and opens the table from it; drops files that
    /// were superseded longer ago than `keep`. Says whether it did.
    ///
    /// # Errors
    /// If the checkpoint or the clean-up fails; the table is as good as before.
    pub async fn maintain(&mut self, keep: chrono::Duration) -> Result<bool, Error> {
        if self.since_checkpoint < CHECKPOINT_EVERY {
            return Ok(false);
        }
        // Files first: a checkpoint forgets the tombstones by which they are found.
        let vacuum = self.handle.clone().vacuum().with_retention_period(keep).with_enforce_retention_duration(false);
        vacuum.await?;
        self.handle.load().await?;
        deltalake::checkpoints::create_checkpoint(&self.handle, None).await?;
        deltalake::checkpoints::cleanup_metadata(&self.handle, None).await?;
        self.handle.load().await?;
        self.since_checkpoint = 0;
        Ok(true)
    }
}
