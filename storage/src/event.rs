//! The event envelope: one message as a telephone system sent it, and the names it goes by. No I/O.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use compact_str::CompactString;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smallstr::SmallString;
use uuid::Uuid;

use crate::sorted_map::SortedMap;

/// Microseconds since 1970-01-01T00:00:00Z.
pub type Micros = i64;

/// Where a message stands in its partition of the log; the first message of the embedded log, which has one, is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub u64);

impl std::fmt::Display for Offset {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(formatter)
    }
}

/// The telephone system (or trunklog itself) that a message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// IP Telecoms and any other Kazoo.
    Kazoo,
    /// VirtualPBX, a Kazoo too.
    Virtualpbx,
    /// Placetel notify events.
    Placetel,
    /// VOIspeed events, IVR callbacks and reports.
    Voispeed,
    /// Planfix's telephony API.
    Planfix,
    /// What trunklog itself learnt or did.
    Trunklog,
}

impl Source {
    /// The five telephone systems.
    pub const PBX: [Source; 5] =
        [Source::Kazoo, Source::Virtualpbx, Source::Placetel, Source::Voispeed, Source::Planfix];

    /// The name in routes, tables and scopes.
    pub fn as_str(self) -> &'static str {
        match self {
            Source::Kazoo => "kazoo",
            Source::Virtualpbx => "virtualpbx",
            Source::Placetel => "placetel",
            Source::Voispeed => "voispeed",
            Source::Planfix => "planfix",
            Source::Trunklog => "trunklog",
        }
    }

    /// The source of this name, if there is one.
    pub fn parse(name: &str) -> Option<Source> {
        Source::PBX.into_iter().chain([Source::Trunklog]).find(|source| source.as_str() == name)
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Our id of a call or recording: 32 hex digits, which stand in their place. Millions are looked up, and one of its own
/// in memory would have to be fetched for each.
pub type Id = SmallString<[u8; 32]>;

/// Id of a message: mostly a UUID, which stands in its place.
pub type EventId = SmallString<[u8; 36]>;

/// The headers of a message that are kept, by their names in lower case.
pub type Headers = SortedMap<CompactString, CompactString>;

/// One message, verbatim but for the secret that authenticated it (replaced by `REDACTED` before it gets here).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// UUIDv7 given at receipt, or the CloudEvent's own id in bulk loads.
    pub id: EventId,
    /// The tenant that the key belongs to.
    pub tenant: CompactString,
    /// By the route the message came in on.
    pub source: Source,
    /// `events.type`, such as `placetel.HungUp`.
    #[serde(rename = "type")]
    pub kind: CompactString,
    /// Receive time.
    pub received_at: Micros,
    /// The source's call id; `events.call_key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Arc<str>>,
    /// Came through `/in/events` as a structured CloudEvent: source and id are its idempotency key.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub structured: bool,
    /// HTTP method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<CompactString>,
    /// Path of the request, percent-encoded as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<CompactString>,
    /// Query of the request without `?`, percent-encoded as sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<CompactString>,
    /// Selected request headers, names in lower case; no secrets, no signatures. Many messages have the same.
    #[serde(default, skip_serializing_if = "are_none")]
    pub headers: Arc<Headers>,
    /// Content type of the payload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<CompactString>,
    /// Why ingest itself could not take the message apart (a report body that cannot be split); decoding adds its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The body.
    #[serde(skip)]
    pub payload: Bytes,
}

impl Event {
    /// Looks at the parts of it that taking it in needs. What is given says nothing.
    pub(crate) fn look(&self) -> usize {
        self.id.len() ^ self.tenant.len() ^ self.source as usize ^ usize::from(self.received_at == 0)
    }
}

fn are_none(headers: &Arc<Headers>) -> bool {
    headers.is_empty()
}

/// Now, in microseconds UTC.
pub fn now() -> Micros {
    Utc::now().timestamp_micros()
}

/// A fresh event id (UUIDv7).
pub fn new_event_id() -> EventId {
    EventId::from(&*Uuid::now_v7().hyphenated().encode_lower(&mut Uuid::encode_buffer()))
}

/// RFC 3339 in UTC with six digits, the only form in which trunklog prints a time.
pub fn format_time(at: Micros) -> String {
    DateTime::<Utc>::from_timestamp_micros(at)
        .unwrap_or(DateTime::<Utc>::UNIX_EPOCH)
        .to_rfc3339_opts(SecondsFormat::Micros, true)
}

/// Parses RFC 3339 (any offset); `None` if it is not that.
pub fn parse_time(text: &str) -> Option<Micros> {
    DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_micros())
}

/// Our id of a call: the first 128 bits of SHA-256 over tenant, source and the source's key, in hex.
pub fn call_id(tenant: &str, source: Source, key: &str) -> Id {
    let mut hash = Sha256::new();
    for part in [tenant, "\0", source.as_str(), "\0", key] {
        hash.update(part.as_bytes());
    }
    hex_digits(&hash.finalize()[..16], &mut [0; 32]).into()
}

/// Lower-case hex.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    push_hex(&mut text, bytes);
    text
}

/// Adds the bytes in lower-case hex.
pub(crate) fn push_hex(text: &mut String, bytes: &[u8]) {
    let mut digits = [0; 64];
    for bytes in bytes.chunks(digits.len() / 2) {
        text.push_str(hex_digits(bytes, &mut digits));
    }
}

/// Of at most half as many bytes as there is room for digits.
fn hex_digits<'a>(bytes: &[u8], digits: &'a mut [u8]) -> &'a str {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    std::str::from_utf8(&digits[..2 * bytes.len()]).unwrap_or_default()
}
