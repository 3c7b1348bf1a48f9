//! What folds: the state of the log's end, the tables, and what both need. The archive has one over its own log; a
//! rebuild has another one over scratch tables.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use datafusion::prelude::SessionContext;
use serde::{Deserialize, Serialize};

use super::ArchiveConfig;
use super::duplicates::{Aside, DELIVERY_BYTES};
use super::foreground::Foreground;
use super::idle::Idle;
use super::keyer::Keyer;
use super::lock::Lock;
use super::projection::Lane;
use super::sequencer::Sequencer;
use crate::durable_file;
use crate::error::{Context, Error};
use crate::event::Offset;
use crate::fact::Decoder;
use crate::index::Runs;
use crate::lake::{Place, Right, Table};

/// Of what a fold did so much is noted at once: who appends waits for the lock meanwhile.
pub(super) const NOTED_AT_ONCE: usize = 128;
/// The same where nobody waits.
const NOTED_WHEN_ALONE: usize = 16_384;

/// Tables and indexes. Whoever writes them holds them; never held by ingest.
pub(crate) struct Tables {
    pub events: Table,
    /// Recent fingerprints of the messages in `events`.
    pub fingerprints: Runs<DELIVERY_BYTES>,
    pub calls: Lane,
    pub recordings: Lane,
    pub checkpoint: CheckpointFile,
}

impl Tables {
    /// Opens or makes all of them: tables in `place`, indexes below `index`.
    pub async fn open(place: &Place<'_>, index: &Path) -> Result<Tables, Error> {
        let identity = place.identity;
        let lane = |table, name| -> Result<Lane, Error> {
            Ok(Lane {
                table,
                homes: Runs::open(&index.join(name), identity)?,
                attempt: None,
                exchange: None,
                parted: None,
                provisional: Vec::new(),
            })
        };
        Ok(Tables {
            events: Table::events(place).await?,
            fingerprints: Runs::open(&index.join("fingerprints"), identity)?,
            calls: lane(Table::calls(place).await?, "calls")?,
            recordings: lane(Table::recordings(place).await?, "recordings")?,
            checkpoint: CheckpointFile { path: index.join("checkpoint.json"), identity: identity.to_owned() },
        })
    }

    /// Takes up what other nodes committed, and forgets what this one was about. Commits nothing until it may again.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn take_up(&mut self) -> Result<(), Error> {
        self.permit(&Right::Nobody);
        self.events.take_up().await?;
        for lane in [&mut self.calls, &mut self.recordings] {
            lane.table.take_up().await?;
            (lane.attempt, lane.exchange, lane.parted) = (None, None, None);
            lane.provisional.clear();
        }
        Ok(())
    }

    /// From now on commits need this right.
    pub fn permit(&mut self, right: &Right) {
        for table in [&mut self.events, &mut self.calls.table, &mut self.recordings.table] {
            table.right = right.clone();
        }
    }

    /// Whether another node committed something since.
    ///
    /// # Errors
    /// If a table cannot be read.
    pub async fn have_newer(&self) -> Result<bool, Error> {
        let Tables { events, calls, recordings, .. } = self;
        Ok(events.has_newer().await? || calls.table.has_newer().await? || recordings.table.has_newer().await?)
    }

    /// Whether all of them have the same messages: no fold has reached only some of them.
    pub fn agree(&self) -> bool {
        let until = self.events.watermark;
        self.calls.table.watermark == until && self.recordings.table.watermark == until
    }

    /// Throws the indexes away, so that the next start makes them again.
    pub fn forget_indexes(&mut self) -> Result<(), Error> {
        self.checkpoint.remove()?;
        self.fingerprints.clear()?;
        self.calls.homes.clear()?;
        self.recordings.homes.clear()
    }

    /// Tells how much memory the indexes take, and how much is in them.
    pub fn measure(&self) {
        let Tables { fingerprints, calls, recordings, .. } = self;
        let bytes = fingerprints.memory_bytes() + calls.homes.memory_bytes() + recordings.homes.memory_bytes();
        metrics::gauge!("trunklog_index_bytes").set(bytes as f64);
        metrics::gauge!("trunklog_index_entries", "index" => "fingerprints").set(fingerprints.entries() as f64);
        metrics::gauge!("trunklog_index_entries", "index" => "calls").set(calls.homes.entries() as f64);
        metrics::gauge!("trunklog_index_entries", "index" => "recordings").set(recordings.homes.entries() as f64);
    }
}

/// What the sequencer knew when everything up to one offset was in the tables: a cache, made again if it is lost.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    /// The log's identity.
    identity: String,
    /// Everything up to here is in it and in all tables.
    pub until: Option<Offset>,
    pub keyer: Keyer,
    pub aside: Aside,
}

/// Where the checkpoint is kept.
pub(crate) struct CheckpointFile {
    path: PathBuf,
    identity: String,
}

impl CheckpointFile {
    /// The checkpoint, if there is one of this log.
    pub fn read(&self) -> Option<Checkpoint> {
        let read = durable_file::read::<Checkpoint>(&self.path);
        let read = read.inspect_err(|error| tracing::warn!(%error, "the checkpoint is made again"));
        read.ok().flatten().filter(|checkpoint| checkpoint.identity == self.identity)
    }

    /// Makes sure that there is none.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn remove(&self) -> Result<(), Error> {
        match std::fs::remove_file(&self.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).context(format!("removing `{}`", self.path.display()))
            }
            Err(_) => Ok(()),
            // Or it might be back after a power failure.
            Ok(()) => self.path.parent().map_or(Ok(()), crate::log_sync_directory),
        }
    }

    /// Replaces it.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, until: Offset, keyer: Keyer, aside: Aside) -> Result<(), Error> {
        let identity = self.identity.clone();
        durable_file::write(&self.path, &Checkpoint { identity, until: Some(until), keyer, aside })
    }
}

/// One fold with all it needs.
pub(crate) struct Store {
    pub config: ArchiveConfig,
    pub decoder: Arc<dyn Decoder>,
    pub sequencer: Arc<Lock<Sequencer>>,
    /// Where the background does what it does under that lock, if it is more than a moment's work.
    pub foreground: Foreground,
    pub tables: tokio::sync::Mutex<Tables>,
    /// Held by whoever compacts or rebuilds: files that are merged must stay until the result replaces them. Taken
    /// before the tables.
    pub compacting: tokio::sync::Mutex<()>,
    pub idle: Idle,
    pub session: SessionContext,
    /// Size of the tail in memory.
    pub tail_bytes: AtomicU64,
    /// The projections were not read, for they are about to be made again: until then only `events` is written.
    pub ignoring: AtomicBool,
    /// Nobody appends or asks: the log is being read at the start, or its messages are folded anew.
    pub alone: AtomicBool,
}

impl Store {
    /// How much of what a fold did is noted at once.
    pub fn noted_at_once(&self) -> usize {
        if self.alone.load(Ordering::Relaxed) { NOTED_WHEN_ALONE } else { NOTED_AT_ONCE }
    }
}
