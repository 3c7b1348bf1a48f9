//! `RecordingState`: everything known about one stored recording, as a join-semilattice like a call's.
//!
//! The law: [`RecordingState::merge`] is commutative, associative and idempotent. Which bytes it is stands in its id
//! ([`recording_id`]); where they lie goes by the first delivery; what they are (a probe) and which call they belong
//! to (a link) go by the last decision in the log.

pub mod message;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::call::Ranked;
use crate::event::{Id, Micros, Offset, Source, call_id, hex};

/// Text columns of a recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Text {
    /// File name as sent, percent-decoded.
    Name,
    /// Media type as the sender named it.
    MediaType,
    /// The sender's id of the recording.
    ExternalId,
    /// Calling number.
    From,
    /// Called number.
    To,
    /// User or extension that was recorded.
    Endpoint,
    /// The call id that the sender gave.
    CallKey,
}

/// So many of the URLs that a recording was uploaded to are remembered.
const UPLOADS_KEPT: usize = 16;

/// Where a time or an order in the log matters: receive time, then offset.
pub type Moment = (Micros, Offset);

/// What the bytes are, read from the bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Probe {
    /// `wav`, `mp3`, `ogg`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// `pcm_s16le`, `pcm_mulaw`, `mp3`, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub codec: Option<String>,
    /// Channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<i64>,
    /// Samples a second and channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample_rate_hz: Option<i64>,
    /// Average bits a second of the stored bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bit_rate: Option<i64>,
    /// Length in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// Why the bytes are not whole and sound audio; such a recording is kept and shown as damaged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Which call a recording belongs to, as decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// The source's key of the call; `None` when an earlier link was taken back.
    pub call_key: Option<String>,
    /// From 0 to 1.
    pub confidence: f64,
}

/// Everything known about one recording.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordingState {
    /// Lower-case hex.
    #[serde(rename = "h", default)]
    pub sha256: String,
    /// Size.
    #[serde(rename = "b", default)]
    pub bytes: u64,
    /// Of the first delivery: when, and the key in object storage.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub stored: Option<(Moment, String)>,
    /// Where it was uploaded first: path and query below the upload route, as sent; of a fetched one its link.
    #[serde(rename = "u", default, skip_serializing_if = "Option::is_none")]
    pub uploaded_as: Option<(Moment, String)>,
    /// Where it was uploaded, each with when that was last; the latest few. Retries may differ in their query.
    #[serde(rename = "v", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub uploads: BTreeMap<String, Moment>,
    /// When the recording began, as the sender says.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Micros>,
    /// Its length in milliseconds, as the sender says.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<i64>,
    /// Text columns; on equal rank the greater wins, so that order does not matter.
    #[serde(rename = "t", default, skip_serializing_if = "BTreeMap::is_empty")]
    pub text: BTreeMap<Text, Ranked<String>>,
    /// The last reading of the bytes.
    #[serde(rename = "p", default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<(Moment, Probe)>,
    /// The last decision on its call.
    #[serde(rename = "l", default, skip_serializing_if = "Option::is_none")]
    pub link: Option<(Moment, Link)>,
}

/// Our id of a recording: the first 128 bits of SHA-256 over tenant, source, call key (else the path it was uploaded
/// to), the sender's id of it, and the SHA-256 of its bytes, in hex.
pub fn recording_id(
    tenant: &str,
    source: Source,
    key_or_path: &str,
    external_id: Option<&str>,
    sha256: &str,
) -> String {
    let mut hash = Sha256::new();
    for part in ["recording", tenant, source.as_str(), key_or_path, external_id.unwrap_or_default(), sha256] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part.as_bytes());
    }
    hex(&hash.finalize()[..16])
}

impl RecordingState {
    /// Claims a text; an empty one says nothing.
    pub fn text(&mut self, field: Text, value: impl Into<String>) -> &mut Self {
        let value = value.into();
        if !value.is_empty() {
            let claimed = Ranked(crate::call::Rank::Message, value);
            let known = self.text.entry(field).or_insert_with(|| claimed.clone());
            if claimed > *known {
                *known = claimed;
            }
        }
        self
    }

    /// Notes where it was uploaded.
    pub fn uploaded(&mut self, url: impl Into<String>) -> &mut Self {
        let url = url.into();
        self.uploaded_as = Some((Moment::default(), url.clone()));
        self.uploads.insert(url, Moment::default());
        self
    }

    /// The text, if known.
    pub fn get(&self, field: Text) -> Option<&str> {
        self.text.get(&field).map(|ranked| ranked.1.as_str())
    }

    /// Least upper bound: `self ⊔ other`.
    pub fn merge(&mut self, other: RecordingState) {
        self.sha256 = std::mem::take(&mut self.sha256).max(other.sha256);
        self.bytes = self.bytes.max(other.bytes);
        self.stored = match (self.stored.take(), other.stored) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        };
        self.uploaded_as = match (self.uploaded_as.take(), other.uploaded_as) {
            (Some(own), Some(other)) => Some(own.min(other)),
            (own, other) => own.or(other),
        };
        for (url, at) in other.uploads {
            let known = self.uploads.entry(url).or_insert(at);
            *known = at.max(*known);
        }
        // The latest of a union are among the latest of its parts, so the order of merging does not matter.
        while self.uploads.len() > UPLOADS_KEPT {
            let oldest = self.uploads.iter().min_by_key(|(url, at)| (**at, (*url).clone())).map(|(url, _)| url.clone());
            oldest.and_then(|url| self.uploads.remove(&url));
        }
        self.started_at = earliest(self.started_at, other.started_at);
        self.duration_ms = self.duration_ms.max(other.duration_ms);
        for (field, ranked) in other.text {
            let known = self.text.entry(field).or_insert_with(|| ranked.clone());
            if ranked > *known {
                *known = ranked;
            }
        }
        self.probe = latest(self.probe.take(), other.probe);
        self.link = latest(self.link.take(), other.link);
    }

    /// The key of its call and how sure that is: 1 when the sender named it.
    pub fn call(&self) -> Option<(&str, f64)> {
        if let Some(key) = self.get(Text::CallKey) {
            return Some((key, 1.0));
        }
        let (_, link) = self.link.as_ref()?;
        Some((link.call_key.as_deref()?, link.confidence))
    }

    /// `id`, `soft` or `none`.
    pub fn link_kind(&self) -> &'static str {
        match (self.get(Text::CallKey), self.call()) {
            (Some(_), _) => "id",
            (None, Some(_)) => "soft",
            (None, None) => "none",
        }
    }

    /// When its bytes were first received.
    pub fn received_at(&self) -> Option<Micros> {
        self.stored.as_ref().map(|((at, _), _)| *at)
    }

    /// The key of its bytes in object storage.
    pub fn object(&self) -> Option<&str> {
        self.stored.as_ref().map(|(_, object)| object.as_str())
    }

    /// Sets when and where in the log this was said.
    pub(crate) fn said_at(&mut self, moment: Moment) {
        self.stored.iter_mut().for_each(|(at, _)| *at = moment);
        self.uploaded_as.iter_mut().for_each(|(at, _)| *at = moment);
        self.uploads.values_mut().for_each(|at| *at = moment);
        self.probe.iter_mut().for_each(|(at, _)| *at = moment);
        self.link.iter_mut().for_each(|(at, _)| *at = moment);
    }

    /// Our id of its call.
    pub fn call_id(&self, tenant: &str, source: Source) -> Option<Id> {
        self.call().map(|(key, _)| call_id(tenant, source, key))
    }

    /// `received`, or `damaged` when a look at the bytes said so.
    pub fn status(&self) -> &'static str {
        let damaged = self.probe.as_ref().is_some_and(|(_, probe)| probe.error.is_some());
        if damaged { "damaged" } else { "received" }
    }

    /// What the bytes are, if they were looked at.
    pub fn probed(&self) -> Option<&Probe> {
        self.probe.as_ref().map(|(_, probe)| probe)
    }

    /// Length in milliseconds: read from the bytes, else as sent.
    pub fn length_ms(&self) -> Option<i64> {
        self.probed().and_then(|probe| probe.duration_ms).or(self.duration_ms)
    }
}

fn earliest(own: Option<Micros>, other: Option<Micros>) -> Option<Micros> {
    match (own, other) {
        (Some(own), Some(other)) => Some(own.min(other)),
        (own, other) => own.or(other),
    }
}

/// The last in the log wins, whatever the clock said; offsets of two messages differ, so the order is total.
fn latest<T>(own: Option<(Moment, T)>, other: Option<(Moment, T)>) -> Option<(Moment, T)> {
    match (own, other) {
        (Some(own), Some(other)) => Some(if other.0.1 > own.0.1 { other } else { own }),
        (own, other) => own.or(other),
    }
}

#[cfg(test)]
mod tests;
