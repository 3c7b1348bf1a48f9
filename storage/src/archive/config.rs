//! The settings of an archive, and their defaults.

use std::path::PathBuf;
use std::time::Duration;

use crate::bucket::Bucket;
use crate::lake::WrapStore;
use crate::log::kafka::KafkaConfig;

/// Settings of the archive.
#[derive(Clone)]
pub struct ArchiveConfig {
    /// The data directory.
    pub data_dir: PathBuf,
    /// Size of a log segment.
    pub segment_bytes: u64,
    /// Fold when the tail is this long …
    pub fold_bytes: u64,
    /// … or this old.
    pub fold_interval: Duration,
    /// Refuse messages while the tail is longer than this.
    pub tail_limit_bytes: u64,
    /// Appends that may wait for the log.
    pub queue_limit: usize,
    /// Refuse messages while the disk has less free than this.
    pub min_free_bytes: u64,
    /// How long superseded files stay readable.
    pub keep_superseded: Duration,
    /// Do not read the projections when opening: they are about to be rebuilt, and may be damaged.
    pub ignore_projections: bool,
    /// Change no table and take no messages: for comparing.
    pub read_only: bool,
    /// Swap a day when its parts have at least this many calls (and more than half of its final calls).
    pub compact_calls: u64,
    /// Calls with parts that memory may hold: of more, those of the fullest days are swapped.
    pub overlay_calls: u64,
    /// Memory for sorting in folds, compactions and rebuilds; what needs more spills to disk.
    pub sort_bytes: usize,
    /// What stands between the tables and their files: tests put faults here.
    pub wrap_store: Option<WrapStore>,
    /// Tables lie in it instead of in the data directory.
    pub bucket: Option<Bucket>,
    /// The log is a topic instead of files in the data directory.
    pub kafka: Option<KafkaConfig>,
    /// Fold when no other node does. Of nodes with the same log and bucket one folds; without others it is this one.
    pub leads: bool,
}

impl std::fmt::Debug for ArchiveConfig {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ArchiveConfig").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}

impl ArchiveConfig {
    /// Whether other nodes may have the same log and tables.
    pub fn is_shared(&self) -> bool {
        self.bucket.is_some() && self.kafka.is_some()
    }

    /// The defaults, with the data in this directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> ArchiveConfig {
        ArchiveConfig {
            data_dir: data_dir.into(),
            segment_bytes: 64 << 20,
            fold_bytes: 64 << 20,
            fold_interval: Duration::from_secs(60),
            tail_limit_bytes: 512 << 20,
            queue_limit: 4096,
            min_free_bytes: 256 << 20,
            keep_superseded: Duration::from_secs(24 * 3600),
            ignore_projections: false,
            read_only: false,
            compact_calls: 5_000,
            overlay_calls: 20_000,
            sort_bytes: 128 << 20,
            wrap_store: None,
            bucket: None,
            kafka: None,
            leads: true,
        }
    }
}
