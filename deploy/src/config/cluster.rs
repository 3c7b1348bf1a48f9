//! What lies outside of this machine: the bucket and the topic.

use std::collections::BTreeMap;
use std::time::Duration;

use trunklog_storage::bucket::{Bucket, BucketConfig};
use trunklog_storage::log::kafka::KafkaConfig;
use trunklog_storage::position::MOST_PARTITIONS;

use super::ConfigError;
use super::checked::value_error;
use super::layers::Layers;
use super::units::{Scalar, Span};
use super::written::Written;

/// An address of an object is good for no longer than S3 allows.
const LONGEST_PRESIGN: Duration = Duration::from_secs(7 * 24 * 3600);

fn texts(options: &BTreeMap<String, Scalar>) -> BTreeMap<String, String> {
    options.iter().map(|(name, value)| (name.clone(), value.to_string())).collect()
}

/// The bucket, if there is one.
pub fn bucket(written: &Written, layers: &Layers) -> Result<Option<Bucket>, ConfigError> {
    let Some(url) = written.store.url.as_deref().filter(|url| !url.is_empty()) else {
        return match written.store.options.keys().next() {
            Some(name) => {
                let key = format!("store.options.{name}");
                Err(value_error(layers.origin(&key), format!("`{key}` is set, but `store.url` is not")))
            }
            None => Ok(None),
        };
    };
    let config = BucketConfig::new(url, texts(&written.store.options)).and_then(|config| Bucket::new(&config));
    config.map(Some).map_err(|error| value_error(layers.origin("store.url"), format!("`store`: {error}")))
}

/// The topic, if there is one.
pub fn kafka(written: &Written, layers: &Layers) -> Result<Option<KafkaConfig>, ConfigError> {
    let kafka = &written.kafka;
    let Some(brokers) = kafka.brokers.as_deref().filter(|brokers| !brokers.is_empty()) else { return Ok(None) };
    let default = KafkaConfig::new(brokers);
    let replication = kafka.replication.unwrap_or(default.replication);
    let span = |span: Option<Span>, default: Duration| span.map_or(default, |span| span.0);
    let config = KafkaConfig {
        topic: kafka.topic.clone().unwrap_or(default.topic),
        partitions: kafka.partitions.unwrap_or(default.partitions),
        partition: 0,
        replication,
        min_insync_replicas: kafka.min_insync_replicas.unwrap_or((replication - 1).max(1)),
        retention: span(kafka.retention, default.retention),
        message_timeout: span(kafka.message_timeout, default.message_timeout),
        options: texts(&kafka.options),
        brokers: default.brokers,
        queue_limit: default.queue_limit,
    };
    let refused = |key: &str, reason: &str| Err(value_error(layers.origin(key), format!("`{key}` {reason}")));
    let named = |letter: char| letter.is_ascii_alphanumeric() || "._-".contains(letter);
    if config.topic.is_empty() || config.topic.len() > 249 || !config.topic.chars().all(named) {
        return refused("kafka.topic", "must be 1 to 249 letters, digits, `.`, `_` and `-`");
    }
    if config.partitions < 1 || config.partitions > MOST_PARTITIONS {
        return refused("kafka.partitions", &format!("must be from 1 to {MOST_PARTITIONS}"));
    }
    if config.replication < 1 || config.replication > 100 {
        return refused("kafka.replication", "must be from 1 to 100");
    }
    if config.min_insync_replicas < 1 || config.min_insync_replicas > config.replication {
        return refused("kafka.min_insync_replicas", "must be from 1 to `kafka.replication`");
    }
    if config.message_timeout < Duration::from_millis(100) {
        return refused("kafka.message_timeout", "must be at least 100ms");
    }
    Ok(Some(config))
}

/// How long addresses of recordings in the bucket are good for, if they are handed out.
pub fn presign(written: &Written, layers: &Layers) -> Result<Option<Duration>, ConfigError> {
    match written.recordings.presign {
        Some(Span(valid)) if valid > LONGEST_PRESIGN => {
            let reason = "`recordings.presign` must be at most 7d, as S3 has it";
            Err(value_error(layers.origin("recordings.presign"), reason))
        }
        Some(Span(valid)) if !valid.is_zero() && written.store.url.is_none() => {
            let reason = "`recordings.presign` needs recordings in a bucket: `store.url`";
            Err(value_error(layers.origin("recordings.presign"), reason))
        }
        presign => Ok(presign.map(|span| span.0).filter(|valid| !valid.is_zero())),
    }
}
