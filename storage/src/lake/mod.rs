//! The Delta tables at rest: `events`, `calls` and `recordings`.
//!
//! Rules that every commit here keeps (break one and rows double or vanish):
//! - a fold commit carries the log's offset as application transaction under an id that contains the log's identity,
//!   and is refused unless the offset on the very snapshot it commits to is the expected one;
//! - a commit that removes files also carries the transaction `trunklog/remover`;
//! - no checkpoint or clean-up inside a commit, never the library's OPTIMIZE, no deletion vectors;
//! - after a commit error the table is read again before anything is concluded.

mod commit;
mod data_file;
mod history;
mod join;
mod pinned;
pub mod read;
#[cfg(test)]
mod rules;
mod session;
mod write;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::execution::SessionState;
use datafusion::prelude::{DataFrame, cast, ident};
use deltalake::DeltaTable;
use deltalake::kernel::engine::arrow_conversion::TryFromArrow;
use deltalake::kernel::{LogicalFileView, StructType};
use deltalake::logstore::{StorageConfig, default_logstore};
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::prefix::PrefixStore;
use url::Url;

use crate::bucket::Bucket;
use crate::error::{Context, Error};
use crate::event::Offset;
use crate::lease::Lease;
use crate::objects::{DurableStore, remove_staged};
use crate::schema;

pub use data_file::DataFile;
pub use datafusion::execution::object_store::ObjectStoreUrl;
pub use deltalake::kernel::Add;
pub use history::Version;
pub use join::Order;
pub use pinned::Pinned;
pub use session::{in_one_partition, session};
pub use write::{Effort, Writer};

use self::write::Columns;

/// The shared application id of every commit that removes files.
const REMOVER: &str = "trunklog/remover";
/// Commits between checkpoints.
const CHECKPOINT_EVERY: u64 = 100;

/// One file of a table.
#[derive(Clone, Debug)]
pub struct File {
    /// As the commits name it.
    pub path: String,
    /// Its day, as the table names it.
    pub day: String,
    /// Its tier; empty in `events`.
    pub tier: String,
    /// Rows in it.
    pub rows: u64,
    /// Its size in bytes.
    pub bytes: i64,
}

impl File {
    fn of(file: &LogicalFileView) -> File {
        let values = file.partition_values_map();
        let value = |name: &str| values.get(name).cloned().flatten().unwrap_or_default();
        File {
            path: file.path().into_owned(),
            day: value("day"),
            tier: value("tier"),
            rows: file.num_records().unwrap_or_default() as u64,
            bytes: file.size(),
        }
    }
}

/// One Delta table and the log offset up to which it has read.
pub struct Table {
    name: &'static str,
    application: String,
    handle: DeltaTable,
    /// Last offset that is in the table.
    pub watermark: Option<Offset>,
    columns: Columns,
    since_checkpoint: u64,
    /// The outcome of the last commit is not known: it may have landed.
    in_doubt: bool,
    session: Arc<SessionState>,
    /// Whether it commits.
    pub right: Right,
    /// The watermark that the last commit was to have, if it was to move it.
    attempted: Option<Offset>,
}

/// Who may commit.
#[derive(Clone)]
pub enum Right {
    /// This process: nobody else has the tables.
    Alone,
    /// Who holds the lease.
    Leased(Arc<Lease>),
    /// Others.
    Nobody,
}

impl Right {
    async fn check(&self) -> Result<(), Error> {
        match self {
            Right::Alone => Ok(()),
            Right::Leased(lease) => lease.check().await,
            Right::Nobody => Err(Error::Conflict("this node does not write tables".into())),
        }
    }
}

/// Wraps the store of a table: tests put faults between.
pub type WrapStore = Arc<dyn Fn(Arc<dyn ObjectStore>, &str) -> Arc<dyn ObjectStore> + Send + Sync>;

/// The store through which data files are read.
pub fn local_files() -> Arc<dyn ObjectStore> {
    Arc::new(object_store::local::LocalFileSystem::new())
}

/// Where tables lie and what they share.
pub struct Place<'a> {
    /// The directory of all tables.
    pub directory: &'a Path,
    /// The log's identity.
    pub identity: &'a str,
    /// For reading.
    pub session: Arc<SessionState>,
    /// What stands between a table and its files, if anything.
    pub wrap: Option<WrapStore>,
    /// Tables lie in it, below `tables`, instead of in the directory.
    pub bucket: Option<&'a Bucket>,
    /// Whether commits may be made.
    pub right: Right,
}

impl Place<'_> {
    /// The address of a table, and the store that it lies in.
    fn home(&self, name: &'static str) -> Result<(Url, Arc<dyn ObjectStore>), Error> {
        let (url, store) = match self.bucket {
            Some(bucket) => (bucket.directory(&format!("tables/{name}"))?, bucket.whole()),
            None => local_home(self.directory, name)?,
        };
        let store = if let Some(wrap) = &self.wrap { wrap(store, name) } else { store };
        Ok((url, store))
    }
}

fn local_home(tables: &Path, name: &str) -> Result<(Url, Arc<dyn ObjectStore>), Error> {
    let directory = tables.join(name);
    std::fs::create_dir_all(&directory).context(format!("making `{}`", directory.display()))?;
    let directory = std::fs::canonicalize(&directory).context(format!("opening `{}`", directory.display()))?;
    remove_staged(&directory).context(format!("clearing `{}`", directory.display()))?;
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
    crate::log_sync_directory(tables)?;
    Ok((url, Arc::new(DurableStore::new(&directory))))
}

impl Table {
    /// Opens or makes `calls`.
    ///
    /// # Errors
    /// If the table cannot be read or made.
    pub async fn calls(place: &Place<'_>) -> Result<Table, Error> {
        let columns = Columns {
            bloom: &["call_id", "call_key", "from_number", "to_number"],
            unique: &[
                "call_id",
                "call_key",
                "started_at",
                "ringing_at",
                "answered_at",
                "ended_at",
                "first_received_at",
                "last_received_at",
                "first_offset",
                "last_offset",
                "fold",
                "from_number",
                "to_number",
                "from_e164",
                "to_e164",
                "duration_ms",
                "ring_ms",
                "legs.list.element.started_at",
                "legs.list.element.ringing_at",
                "legs.list.element.answered_at",
                "legs.list.element.ended_at",
            ],
            opaque: &["fold"],
        };
        Table::open(place, "calls", &schema::calls_table(), &["day", "tier"], columns).await
    }

    /// Opens or makes `recordings`.
    ///
    /// # Errors
    /// If the table cannot be read or made.
    pub async fn recordings(place: &Place<'_>) -> Result<Table, Error> {
        let columns = Columns {
            bloom: &["recording_id", "call_id", "sha256", "uploaded_as"],
            unique: &["recording_id", "sha256", "uploaded_as", "object", "received_at", "fold"],
            opaque: &["fold"],
        };
        Table::open(place, "recordings", &schema::recordings_table(), &["day", "tier"], columns).await
    }

    /// Opens or makes `events`.
    ///
    /// # Errors
    /// If the table cannot be read or made.
    pub async fn events(place: &Place<'_>) -> Result<Table, Error> {
        let columns = Columns {
            bloom: &["event_id", "call_key"],
            unique: &[
                "event_id",
                "call_key",
                "subject",
                "received_at",
                "occurred_at",
                "offset",
                "query",
                "payload",
                "fingerprint",
            ],
            opaque: &["payload", "fingerprint"],
        };
        Table::open(place, "events", &schema::events_table(), &["day"], columns).await
    }

    async fn open(
        place: &Place<'_>,
        name: &'static str,
        schema: &arrow::datatypes::SchemaRef,
        partitions: &[&str],
        columns: Columns,
    ) -> Result<Table, Error> {
        let (url, store) = place.home(name)?;
        // The library knows by itself only how to commit to a local disk; in a bucket it is the same conditional put.
        let below = object_store::path::Path::from_url_path(url.path());
        let below = below.map_err(|error| Error::Config(format!("`{url}`: {error}")))?;
        let own: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(Arc::clone(&store), below));
        let mut handle = DeltaTable::new(default_logstore(own, store, &url, &StorageConfig::default()));
        if handle.verify_deltatable_existence().await? {
            handle.load().await?;
        } else {
            let fields =
                StructType::try_from_arrow(schema.as_ref()).map_err(|error| Error::Config(error.to_string()))?;
            let fields: Vec<_> = fields.fields().cloned().collect();
            let properties = [
                ("delta.dataSkippingNumIndexedCols", Some("16")),
                // Longer than any setting of how long superseded files are kept, so that vacuum still knows them.
                ("delta.deletedFileRetentionDuration", Some("interval 30 days")),
            ];
            let made = handle
                .clone()
                .create()
                .with_table_name(name)
                .with_columns(fields)
                .with_partition_columns(partitions.iter().copied())
                .with_configuration(properties)
                .await;
            match made {
                Ok(made) => handle = made,
                // Another node was quicker.
                Err(_) if handle.verify_deltatable_existence().await? => handle.load().await?,
                Err(error) => return Err(error.into()),
            }
        }
        let application = format!("trunklog/{}/0", place.identity);
        let mut table = Table {
            name,
            application,
            handle,
            watermark: None,
            columns,
            since_checkpoint: 0,
            in_doubt: false,
            session: Arc::clone(&place.session),
            right: place.right.clone(),
            attempted: None,
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

    /// That version for reading, and for writing files that no commit names yet, while commits go on.
    pub fn at_rest(&self) -> Arc<Table> {
        Arc::new(Table {
            name: self.name,
            application: self.application.clone(),
            handle: self.handle.clone(),
            watermark: self.watermark,
            columns: self.columns,
            since_checkpoint: self.since_checkpoint,
            in_doubt: self.in_doubt,
            session: Arc::clone(&self.session),
            right: self.right.clone(),
            attempted: None,
        })
    }

    /// That version, with its watermark, as of now.
    pub fn pinned(&self) -> Version {
        Version { watermark: self.watermark, number: self.version(), at: crate::event::now() }
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
    pub async fn provider(&self) -> Result<Arc<Pinned>, Error> {
        self.pin(self.handle.clone()).await
    }

    async fn pin(&self, handle: DeltaTable) -> Result<Arc<Pinned>, Error> {
        let provider = handle.table_provider().with_session(Arc::clone(&self.session)).await?;
        Ok(Arc::new(Pinned::new(provider, handle)))
    }

    /// The table as it was at an earlier version.
    ///
    /// # Errors
    /// `Gone` when that version can no longer be read.
    pub async fn provider_at(&self, version: u64) -> Result<Arc<Pinned>, Error> {
        let mut handle = self.handle.clone();
        handle.load_version(version).await.map_err(|_| Error::Gone(format!("version {version} of `{}`", self.name)))?;
        self.pin(handle).await
    }

    /// The files of the pinned version.
    ///
    /// # Errors
    /// If the snapshot cannot be read.
    pub async fn files(&self) -> Result<Vec<File>, Error> {
        let files: Vec<_> = self.handle.get_active_add_actions_by_predicate(None).try_collect().await?;
        Ok(files.iter().map(File::of).collect())
    }

    /// The pinned table with no other files than these.
    ///
    /// # Errors
    /// If the snapshot cannot be read.
    pub async fn provider_of(
        &self,
        paths: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Arc<dyn TableProvider>, Error> {
        let provider = self.handle.table_provider().with_session(Arc::clone(&self.session));
        Ok(provider.with_file_paths(paths).await?)
    }

    /// Rows per (day, tier) of the pinned version.
    ///
    /// # Errors
    /// If the snapshot cannot be read.
    pub async fn rows_by_partition(&self) -> Result<HashMap<(String, String), u64>, Error> {
        let mut rows = HashMap::new();
        for file in self.files().await? {
            *rows.entry((file.day, file.tier)).or_default() += file.rows;
        }
        Ok(rows)
    }

    /// The columns of the frame as this table stores them.
    ///
    /// # Errors
    /// If the frame lacks one.
    pub fn as_stored(&self, frame: DataFrame) -> Result<DataFrame, Error> {
        let schema = self.stored_schema()?;
        let columns = schema.fields().iter();
        let columns = columns.map(|field| cast(ident(field.name()), field.data_type().clone()).alias(field.name()));
        Ok(frame.select(columns.collect::<Vec<_>>())?)
    }
}
