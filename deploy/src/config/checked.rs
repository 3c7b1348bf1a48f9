//! What the configuration means: checked, with defaults filled in, in the types of the crates that use it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use trunklog_ingest::settings::{Limits, Settings, TenantSettings};
use trunklog_query::QueryLimits;
use trunklog_storage::archive::ArchiveConfig;
use trunklog_storage::keys::is_tenant_name;
use trunklog_storage::log::kafka::KafkaConfig;
use trunklog_storage::media::MediaConfig;

use super::layers::{Layers, flatten};
use super::units::{Listen, Size, Span};
use super::written::{Role, Tenant, Written};
use super::{ConfigError, bounds, cluster, tenants};

/// Keys outside the tenants' part that a reload changes.
const RELOADED: [&str; 3] = ["public_url", "limits.message_bytes", "limits.report_bytes"];
/// The largest recording, unless the configuration says otherwise.
const RECORDING_BYTES: u64 = 4 << 30;
/// Recordings up to this size share files, unless the configuration says otherwise.
const SMALL_BYTES: usize = 64 << 10;

/// The configuration in force.
#[derive(Debug)]
pub struct Checked {
    pub data_dir: PathBuf,
    pub role: Role,
    pub listen: SocketAddr,
    pub pg_listen: Listen,
    pub flight_listen: Listen,
    pub insecure_bind: bool,
    pub archive: ArchiveConfig,
    pub query: QueryLimits,
    pub media: MediaConfig,
    pub settings: Settings,
    store_url: String,
    layers: Layers,
}

impl Checked {
    pub(super) fn new(layers: Layers) -> Result<Checked, ConfigError> {
        let written = layers.written()?;
        let data_dir = written.data_dir.clone().unwrap_or_else(|| PathBuf::from("./trunklog-data"));
        let listen = written.listen.unwrap_or(Listen(Some(loopback(8080))));
        let Some(listen) = listen.0 else {
            return Err(value_error(layers.origin("listen"), "`listen` cannot be \"off\""));
        };
        let mut archive = archive(&written, &data_dir);
        archive.bucket = cluster::bucket(&written, &layers)?;
        archive.kafka = cluster::kafka(&written, &layers)?;
        let role = written.role.unwrap_or(Role::All);
        archive.leads = matches!(role, Role::All | Role::Compact);
        let query = query(&written, &layers)?;
        let presign = cluster::presign(&written, &layers)?;
        let media = MediaConfig { presign, ..media(&written, &archive, &data_dir) };
        let settings = settings(&written, &layers)?;
        bounds::check(&archive, &query, &settings.limits, &media, &layers)?;
        Ok(Checked {
            archive,
            query,
            media,
            settings,
            store_url: written.store.url.clone().unwrap_or_default(),
            data_dir,
            role,
            listen,
            pg_listen: written.pg_listen.unwrap_or(Listen(Some(loopback(5433)))),
            flight_listen: written.flight_listen.unwrap_or(Listen(Some(loopback(50051)))),
            insecure_bind: written.insecure_bind.unwrap_or(false),
            layers,
        })
    }

    /// Whether somebody asked for this key, in whatever layer.
    pub fn is_set(&self, key: &str) -> bool {
        self.layers.origins.contains_key(key)
    }

    /// Every value in force: key, value, where it came from.
    pub fn shown(&self) -> Vec<(String, String, String)> {
        let quoted = |text: String| format!("{text:?}");
        let archive = &self.archive;
        let settings = &self.settings;
        let kafka = archive.kafka.clone().unwrap_or_else(|| KafkaConfig::new(""));
        let scalars = [
            ("data_dir", quoted(self.data_dir.display().to_string())),
            ("role", quoted(self.role.as_str().to_owned())),
            ("listen", quoted(self.listen.to_string())),
            ("pg_listen", quoted(self.pg_listen.to_string())),
            ("flight_listen", quoted(self.flight_listen.to_string())),
            ("insecure_bind", self.insecure_bind.to_string()),
            ("public_url", quoted(settings.public_url.clone().unwrap_or_default())),
            ("log.segment_bytes", quoted(Size(archive.segment_bytes).to_string())),
            ("log.tail_limit_bytes", quoted(Size(archive.tail_limit_bytes).to_string())),
            ("log.queue_limit", archive.queue_limit.to_string()),
            ("log.min_free_bytes", quoted(Size(archive.min_free_bytes).to_string())),
            ("fold.bytes", quoted(Size(archive.fold_bytes).to_string())),
            ("fold.interval", quoted(Span(archive.fold_interval).to_string())),
            ("fold.keep_superseded", quoted(Span(archive.keep_superseded).to_string())),
            ("query.rows", self.query.rows.to_string()),
            ("query.time", quoted(Span(Duration::from_secs(self.query.seconds)).to_string())),
            ("query.memory_bytes", quoted(Size(self.query.memory_bytes as u64).to_string())),
            ("query.concurrent", self.query.concurrent.to_string()),
            ("query.queued", self.query.queued.to_string()),
            ("limits.message_bytes", quoted(Size(settings.limits.message_bytes as u64).to_string())),
            ("limits.report_bytes", quoted(Size(settings.limits.report_bytes as u64).to_string())),
            ("limits.recording_bytes", quoted(Size(self.media.limit_bytes).to_string())),
            ("recordings.small_bytes", quoted(Size(self.media.small_bytes as u64).to_string())),
            ("recordings.presign", quoted(Span(self.media.presign.unwrap_or_default()).to_string())),
            ("store.url", quoted(self.store_url.clone())),
            ("kafka.brokers", quoted(kafka.brokers)),
            ("kafka.topic", quoted(kafka.topic)),
            ("kafka.partitions", kafka.partitions.to_string()),
            ("kafka.replication", kafka.replication.to_string()),
            ("kafka.min_insync_replicas", kafka.min_insync_replicas.to_string()),
            ("kafka.retention", quoted(Span(kafka.retention).to_string())),
            ("kafka.message_timeout", quoted(Span(kafka.message_timeout).to_string())),
        ];
        let mut entries: Vec<_> = scalars
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value, self.layers.origin(key).to_owned()))
            .collect();
        let named = ["defaults.", "tenants.", "store.options.", "kafka.options."];
        let written = flatten(&self.layers.values, "").into_iter();
        entries.extend(written.filter(|(key, _)| named.iter().any(|prefix| key.starts_with(prefix))).map(
            |(key, value)| {
                let shown = if is_secret(&key) { "\"(hidden)\"".to_owned() } else { value.to_string() };
                let origin = self.layers.origin(&key).to_owned();
                (key, shown, origin)
            },
        ));
        entries
    }

    /// Keys whose value differs and that only a restart can change.
    pub fn needs_restart(&self, newer: &Checked) -> Vec<String> {
        let of_process = |entry: &(String, String, String)| {
            let of_tenant = entry.0.starts_with("defaults.") || entry.0.starts_with("tenants.");
            !of_tenant && !RELOADED.contains(&entry.0.as_str())
        };
        let values = |checked: &Checked| -> BTreeSet<(String, String)> {
            checked.shown().into_iter().filter(of_process).map(|(key, value, _)| (key, value)).collect()
        };
        let differing: BTreeSet<String> =
            values(self).symmetric_difference(&values(newer)).map(|(key, _)| key.clone()).collect();
        differing.into_iter().collect()
    }
}

/// Whether this setting of a library is not to be shown.
fn is_secret(key: &str) -> bool {
    let name = key.strip_prefix("store.options.").or_else(|| key.strip_prefix("kafka.options.")).unwrap_or_default();
    let name = name.to_ascii_lowercase();
    ["secret", "password", "token", "key", "pem", "jaas"].iter().any(|part| name.contains(part))
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

pub(super) fn value_error(origin: &str, reason: impl Into<String>) -> ConfigError {
    ConfigError::Value { origin: origin.to_owned(), reason: reason.into() }
}

fn archive(written: &Written, data_dir: &Path) -> ArchiveConfig {
    let mut archive = ArchiveConfig::new(data_dir.to_owned());
    let replace = |value: &mut u64, size: Option<Size>| *value = size.map_or(*value, |size| size.0);
    let replace_span = |value: &mut Duration, span: Option<Span>| *value = span.map_or(*value, |span| span.0);
    replace(&mut archive.segment_bytes, written.log.segment_bytes);
    replace(&mut archive.tail_limit_bytes, written.log.tail_limit_bytes);
    replace(&mut archive.min_free_bytes, written.log.min_free_bytes);
    replace(&mut archive.fold_bytes, written.fold.bytes);
    replace_span(&mut archive.fold_interval, written.fold.interval);
    replace_span(&mut archive.keep_superseded, written.fold.keep_superseded);
    archive.queue_limit = written.log.queue_limit.unwrap_or(archive.queue_limit);
    archive
}

fn query(written: &Written, layers: &Layers) -> Result<QueryLimits, ConfigError> {
    let default = QueryLimits::default();
    let seconds = written.query.time.map_or(Ok(default.seconds), |span| bounds::seconds(span, layers))?;
    Ok(QueryLimits {
        rows: written.query.rows.unwrap_or(default.rows),
        seconds,
        memory_bytes: written.query.memory_bytes.map_or(default.memory_bytes, to_usize),
        concurrent: written.query.concurrent.unwrap_or(default.concurrent),
        queued: written.query.queued.unwrap_or(default.queued),
    })
}

fn media(written: &Written, archive: &ArchiveConfig, data_dir: &Path) -> MediaConfig {
    MediaConfig {
        data_dir: data_dir.to_owned(),
        limit_bytes: written.limits.recording_bytes.map_or(RECORDING_BYTES, |size| size.0),
        small_bytes: written.recordings.small_bytes.map_or(SMALL_BYTES, to_usize),
        min_free_bytes: archive.min_free_bytes,
        bucket: archive.bucket.clone(),
        presign: None,
    }
}

fn to_usize(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

fn settings(written: &Written, layers: &Layers) -> Result<Settings, ConfigError> {
    let origin = layers.file.as_ref().map_or_else(|| "configuration".into(), |file| file.display().to_string());
    let base = layers.file.as_deref().and_then(Path::parent).unwrap_or(Path::new(""));
    let of = |own: &Tenant, merged: TenantSettings, name: &str| {
        tenants::merged(own, merged, base, name).map_err(|reason| value_error(&origin, format!("{name}.{reason}")))
    };
    let defaults = of(&written.defaults, TenantSettings::default(), "defaults")?;
    let mut tenants = BTreeMap::new();
    for (name, own) in &written.tenants {
        if !is_tenant_name(name) {
            return Err(value_error(&origin, format!("tenants.{name}: this cannot be the name of a tenant")));
        }
        tenants.insert(name.clone(), of(own, defaults.clone(), &format!("tenants.{name}"))?);
    }
    let default = Limits::default();
    let limits = Limits {
        message_bytes: written.limits.message_bytes.map_or(default.message_bytes, to_usize),
        report_bytes: written.limits.report_bytes.map_or(default.report_bytes, to_usize),
    };
    let public_url = written.public_url.clone().and_then(|url| url.0);
    Ok(Settings { defaults, tenants, limits, public_url })
}
