//! Configuration in two layers: what was written (`written`, strict) and what it means (`checked`, cannot be wrong).
//!
//! Values come from what nodes share (if they do), then from `trunklog.toml` (only if named by `--config` or
//! `TRUNKLOG_CONFIG`), then from `TRUNKLOG_…`
//! variables, then from flags; the later wins, key by key. After start nobody sees strings.

mod bounds;
mod checked;
mod cluster;
mod contacts;
mod countries;
mod layers;
mod tenants;
mod units;
mod written;

use std::path::PathBuf;
use std::sync::Arc;

use toml::Value;

pub use checked::Checked;
pub use layers::SHARED_FILE;
pub use units::Span;
pub use written::Role;

use layers::Layers;

/// Every key outside `[defaults]` and `[tenants]`.
pub const KEYS: [&str; 32] = [
    "data_dir",
    "role",
    "listen",
    "pg_listen",
    "flight_listen",
    "insecure_bind",
    "public_url",
    "log.segment_bytes",
    "log.tail_limit_bytes",
    "log.queue_limit",
    "log.min_free_bytes",
    "fold.bytes",
    "fold.interval",
    "fold.keep_superseded",
    "query.rows",
    "query.time",
    "query.memory_bytes",
    "query.concurrent",
    "query.queued",
    "limits.message_bytes",
    "limits.report_bytes",
    "limits.recording_bytes",
    "recordings.small_bytes",
    "recordings.presign",
    "store.url",
    "kafka.brokers",
    "kafka.topic",
    "kafka.partitions",
    "kafka.replication",
    "kafka.min_insync_replicas",
    "kafka.retention",
    "kafka.message_timeout",
];

/// What is wrong with the configuration, and where.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    #[error("cannot read {}: {source}", .path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {reason}", .path.display())]
    File { path: PathBuf, reason: String },
    #[error("the environment variable `{0}` is no setting of trunklog")]
    Variable(String),
    #[error("{origin}: {reason}")]
    Value { origin: String, reason: String },
}

/// What the command line says about the configuration. Kept, so that SIGHUP can read everything again.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// The file.
    pub file: Option<PathBuf>,
    /// What nodes share, if they do.
    pub shared: Option<Arc<str>>,
    /// Keys set by flags: key, value, name of the flag.
    pub flags: Vec<(&'static str, Value, &'static str)>,
}

impl Overrides {
    /// Takes a flag if it was given.
    pub fn set(&mut self, key: &'static str, value: Option<impl Into<Value>>, flag: &'static str) {
        self.flags.extend(value.map(|value| (key, value.into(), flag)));
    }

    /// Reads all layers and checks them.
    pub fn load(&self) -> Result<Checked, ConfigError> {
        let mut layers = Layers::default();
        if let Some(text) = &self.shared {
            layers.read_shared(text)?;
        }
        if let Some(file) = &self.file {
            layers.read_file(file)?;
        }
        layers.read_environment(
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?))),
        )?;
        for (key, value, flag) in &self.flags {
            layers.set(key, value.clone(), flag)?;
        }
        Checked::new(layers)
    }
}

#[cfg(test)]
mod tests;
