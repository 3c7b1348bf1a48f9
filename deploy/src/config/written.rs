//! The configuration as it is written: every key there is, and nothing else. What it means is in `checked`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::units::{BaseUrl, Country, Listen, Scalar, Size, Span, Zone};

/// `trunklog.toml`, or all layers put together. Each value is `None` where it is not written.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Written {
    pub data_dir: Option<PathBuf>,
    pub role: Option<Role>,
    pub listen: Option<Listen>,
    pub pg_listen: Option<Listen>,
    pub flight_listen: Option<Listen>,
    pub insecure_bind: Option<bool>,
    pub public_url: Option<BaseUrl>,
    pub log: Log,
    pub fold: Fold,
    pub query: Query,
    pub limits: Limits,
    pub recordings: Recordings,
    pub store: Store,
    pub kafka: Kafka,
    pub defaults: Tenant,
    pub tenants: BTreeMap<String, Tenant>,
}

/// What this process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Everything, on one machine.
    All,
    /// Only takes messages in.
    Ingest,
    /// Only folds and compacts.
    Compact,
    /// Only answers queries.
    Query,
}

impl Role {
    pub fn as_str(self) -> &'static str {
        match self {
            Role::All => "all",
            Role::Ingest => "ingest",
            Role::Compact => "compact",
            Role::Query => "query",
        }
    }
}

/// `[log]`: the embedded log, and what waits for a log of either kind.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    pub segment_bytes: Option<Size>,
    pub tail_limit_bytes: Option<Size>,
    pub queue_limit: Option<usize>,
    pub min_free_bytes: Option<Size>,
}

/// `[fold]`: when the log is folded into tables, and how long replaced files stay.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fold {
    pub bytes: Option<Size>,
    pub interval: Option<Span>,
    pub keep_superseded: Option<Span>,
}

/// `[query]`: what one statement may use, and how many run at once.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Query {
    pub rows: Option<u64>,
    pub time: Option<Span>,
    pub memory_bytes: Option<Size>,
    pub concurrent: Option<usize>,
    pub queued: Option<usize>,
}

/// `[limits]`: how large a request may be.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    pub message_bytes: Option<Size>,
    pub report_bytes: Option<Size>,
    pub recording_bytes: Option<Size>,
}

/// `[recordings]`: how audio is kept.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Recordings {
    pub small_bytes: Option<Size>,
    pub presign: Option<Span>,
}

/// `[store]`: a bucket in which tables and recordings lie. `options` are those of the crate `object_store`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    pub url: Option<String>,
    pub options: BTreeMap<String, Scalar>,
}

/// `[kafka]`: a topic that is the log. `options` are those of librdkafka.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    pub brokers: Option<String>,
    pub topic: Option<String>,
    pub partitions: Option<usize>,
    pub replication: Option<i32>,
    pub min_insync_replicas: Option<i32>,
    pub retention: Option<Span>,
    pub message_timeout: Option<Span>,
    pub options: BTreeMap<String, Scalar>,
}

/// `[defaults]` and `[tenants.<name>]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tenant {
    pub country: Option<Country>,
    pub time_zone: Option<Zone>,
    pub kazoo: Kazoo,
    pub placetel: Placetel,
    pub voispeed: Voispeed,
    pub planfix: Planfix,
    pub fetch: Fetch,
    pub timeout: Timeout,
}

/// `kazoo.*`: holds for `virtualpbx` too.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kazoo {
    pub callflow: BTreeMap<String, serde_json::Value>,
    pub accounts: Option<Vec<String>>,
    pub record: Option<Record>,
}

/// `kazoo.record`: calls are recorded to this archive if it is there, were it empty, unless `enabled` is false.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Record {
    pub enabled: Option<bool>,
    pub format: Option<Format>,
    pub time_limit: Option<Span>,
    pub caller_only: Option<bool>,
}

/// `kazoo.record.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Mp3,
    Wav,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Placetel {
    pub answer: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Voispeed {
    pub ivr: BTreeMap<String, Vec<String>>,
    pub alias: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Planfix {
    pub contacts: Option<PathBuf>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Fetch {
    pub allow: Option<Vec<String>>,
}

/// `timeout.<source>`: how long a call may stay open without a message; `timeout.placetel_ringing`: the same for a
/// call of which nothing but its IncomingCall came.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeout {
    pub kazoo: Option<Span>,
    pub virtualpbx: Option<Span>,
    pub placetel: Option<Span>,
    pub placetel_ringing: Option<Span>,
    pub voispeed: Option<Span>,
    pub planfix: Option<Span>,
}
