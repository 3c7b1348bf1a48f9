//! Numbers that the process could not run with: refused here, by the name of their key.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use trunklog_ingest::settings::Limits;
use trunklog_query::QueryLimits;
use trunklog_storage::archive::ArchiveConfig;
use trunklog_storage::log::embedded::SMALLEST_SEGMENT;
use trunklog_storage::media::MediaConfig;

use super::ConfigError;
use super::layers::Layers;
use super::units::{Size, Span};

/// A segment is made whole before its first use.
const LARGEST_SEGMENT: u64 = 4 << 30;
/// A recording that shares a file with others is held in memory until that is written.
const LARGEST_SMALL: u64 = 1 << 20;
/// Of what waits or runs at once.
const MOST_AT_ONCE: usize = 1 << 20;

/// Refuses the first number that is out of bounds.
pub fn check(
    archive: &ArchiveConfig,
    query: &QueryLimits,
    limits: &Limits,
    media: &MediaConfig,
    layers: &Layers,
) -> Result<(), ConfigError> {
    let sizes = [
        ("log.segment_bytes", archive.segment_bytes, SMALLEST_SEGMENT..=LARGEST_SEGMENT),
        ("log.tail_limit_bytes", archive.tail_limit_bytes, 1..=u64::MAX),
        ("fold.bytes", archive.fold_bytes, 1..=u64::MAX),
        ("query.memory_bytes", query.memory_bytes as u64, 1..=u64::MAX),
        ("limits.message_bytes", limits.message_bytes as u64, 1..=u64::MAX),
        ("limits.report_bytes", limits.report_bytes as u64, 1..=u64::MAX),
        ("limits.recording_bytes", media.limit_bytes, 1..=u64::MAX),
        ("recordings.small_bytes", media.small_bytes as u64, 0..=LARGEST_SMALL),
    ];
    let most = MOST_AT_ONCE as u64;
    let counts = [
        ("log.queue_limit", archive.queue_limit as u64, 1..=most),
        ("query.rows", query.rows, 1..=u64::MAX),
        ("query.concurrent", query.concurrent as u64, 1..=most),
        ("query.queued", query.queued as u64, 0..=most),
    ];
    for (key, value, range) in sizes {
        within(key, value, &range, layers, Size)?;
    }
    for (key, value, range) in counts {
        within(key, value, &range, layers, |number| number)?;
    }
    if archive.fold_interval.is_zero() {
        return Err(refused("fold.interval", layers, "must not be 0"));
    }
    Ok(())
}

/// `query.time`, which is kept in seconds.
pub fn seconds(span: Span, layers: &Layers) -> Result<u64, ConfigError> {
    let seconds = span.0.as_secs();
    if seconds == 0 || span.0 != Duration::from_secs(seconds) {
        return Err(refused("query.time", layers, "must be whole seconds, at least 1s"));
    }
    Ok(seconds)
}

fn within<T: Display>(
    key: &str,
    value: u64,
    range: &RangeInclusive<u64>,
    layers: &Layers,
    shown: impl Fn(u64) -> T,
) -> Result<(), ConfigError> {
    if range.contains(&value) {
        return Ok(());
    }
    let least = shown(*range.start());
    let reason = match *range.end() {
        u64::MAX => format!("must be at least {least}"),
        most => format!("must be from {least} to {}", shown(most)),
    };
    Err(refused(key, layers, &reason))
}

fn refused(key: &str, layers: &Layers, reason: &str) -> ConfigError {
    ConfigError::Value { origin: layers.origin(key).to_owned(), reason: format!("`{key}` {reason}") }
}
