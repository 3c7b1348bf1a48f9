//! The payloads of messages about recordings: what is in the log instead of the audio, and what trunklog itself
//! learnt or decided. All are JSON.
//!
//! | type | source | payload |
//! |---|---|---|
//! | `kazoo.recording`, `virtualpbx.recording` | the PBX | [`Upload`] |
//! | `trunklog.probe` | trunklog | [`Probed`] |
//! | `trunklog.link`, `trunklog.unlink` | trunklog | [`Linked`]; of two calls [`CallLinked`] |
//! | `trunklog.fetch` | trunklog | [`Fetch`] |

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Probe, RecordingState, Text, recording_id};
use crate::call::{CallState, Mark};
use crate::event::{Event, Source, new_event_id, now};
use crate::fact::{Decoded, RecordingFact};
use crate::linker::CallLinked;

/// Content type of an [`Upload`] event; the audio's own is in `media_type`.
pub const UPLOAD_TYPE: &str = "application/vnd.trunklog.recording+json";

/// Bytes that were stored.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Upload {
    /// SHA-256 of the audio in lower-case hex.
    pub sha256: String,
    /// Size of the audio.
    pub bytes: u64,
    /// Its key in object storage, with `#offset+length` for one inside a pack.
    pub object: String,
    /// Media type as the sender named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// Name of the part or attachment, where it is not in the URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The document that came with the audio (storage plan).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<serde_json::Value>,
}

/// A look at the bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Probed {
    /// Source of the recording.
    pub source: Source,
    /// Which recording.
    pub recording_id: String,
    /// What was found.
    #[serde(flatten)]
    pub probe: Probe,
}

/// A decision that a recording belongs to a call, or (`trunklog.unlink`) no longer does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Linked {
    /// Source of both.
    pub source: Source,
    /// Which recording.
    pub recording_id: String,
    /// The source's key of the call.
    pub call_key: String,
    /// What the decision rests on.
    pub rule: String,
    /// From 0 to 1.
    pub confidence: f64,
}

/// How far the fetching of a linked file has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FetchOutcome {
    /// A link that works only once is about to be used.
    Started,
    /// The file is stored.
    Stored,
    /// It will not be tried again.
    Failed,
}

/// The fetching of a file that a message links to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fetch {
    /// Source of the message with the link.
    pub source: Source,
    /// The source's key of the call.
    pub call_key: String,
    /// The link.
    pub url: String,
    /// How far it has come.
    pub outcome: FetchOutcome,
    /// Requests made up to now.
    pub attempts: u32,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What was stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Upload>,
}

/// A message of trunklog's own.
pub fn event(tenant: &str, kind: &str, call_key: Option<&str>, payload: &impl Serialize) -> Event {
    let payload = serde_json::to_vec(payload).expect("it is made of texts and numbers, with texts as names");
    Event {
        id: new_event_id(),
        tenant: tenant.into(),
        source: Source::Trunklog,
        kind: kind.into(),
        received_at: now(),
        subject: call_key.map(Into::into),
        structured: false,
        method: None,
        path: None,
        query: None,
        headers: Arc::default(),
        content_type: Some("application/json".into()),
        error: None,
        payload: payload.into(),
    }
}

/// The meaning of trunklog's own messages. One that is not known, or is damaged, concerns no call and no recording.
pub fn decode(event: &Event) -> Decoded {
    // What trunklog learns again is no repeat; what it writes down again, because a log was away, is.
    let mut decoded = Decoded::new(&*event.kind, &[b"trunklog", &event.received_at.to_le_bytes(), &event.payload]);
    let understood = match event.kind.as_str() {
        "trunklog.probe" => serde_json::from_slice(&event.payload).map(|probed| decode_probe(&mut decoded, probed)),
        "trunklog.link" => decode_any_link(&mut decoded, &event.payload, true),
        "trunklog.unlink" => decode_any_link(&mut decoded, &event.payload, false),
        "trunklog.fetch" => {
            serde_json::from_slice(&event.payload).map(|fetch| decode_fetch(&mut decoded, &event.tenant, fetch))
        }
        _ => Ok(()),
    };
    if let Err(error) = understood {
        return Decoded::quarantined(event, &*event.kind, format!("not a message of trunklog's: {error}"));
    }
    decoded
}

fn decode_probe(decoded: &mut Decoded, probed: Probed) {
    let state = RecordingState { probe: Some((Default::default(), probed.probe)), ..RecordingState::default() };
    decoded.recording = Some(Box::new(RecordingFact { source: probed.source, id: probed.recording_id, state }));
}

/// Of a recording and a call, or of two calls.
fn decode_any_link(decoded: &mut Decoded, payload: &[u8], holds: bool) -> Result<(), serde_json::Error> {
    match serde_json::from_slice::<CallLinked>(payload) {
        Ok(linked) => linked.decode(decoded, holds),
        Err(_) => decode_link(decoded, serde_json::from_slice(payload)?, holds),
    }
    Ok(())
}

fn decode_link(decoded: &mut Decoded, linked: Linked, holds: bool) {
    let link = super::Link { call_key: holds.then(|| linked.call_key.clone()), confidence: linked.confidence };
    let state = RecordingState { link: Some((Default::default(), link)), ..RecordingState::default() };
    let mut call = CallState::default();
    call.link(linked.recording_id.clone(), holds);
    decoded.concerns = Some(linked.source);
    decoded.about(linked.call_key, call);
    decoded.recording = Some(Box::new(RecordingFact { source: linked.source, id: linked.recording_id, state }));
}

fn decode_fetch(decoded: &mut Decoded, tenant: &str, fetch: Fetch) {
    let mut call = CallState::default();
    decoded.call_key = Some(fetch.call_key.as_str().into());
    decoded.concerns = Some(fetch.source);
    match (fetch.outcome, &fetch.upload) {
        (FetchOutcome::Stored, Some(upload)) => {
            let id = recording_id(tenant, fetch.source, &fetch.call_key, None, &upload.sha256);
            let mut state = stored(upload);
            state.text(Text::CallKey, &*fetch.call_key).uploaded(&*fetch.url);
            call.recordings.insert(id.clone());
            call.call.mark(Mark::RecordingAvailable);
            decoded.recording = Some(Box::new(RecordingFact { source: fetch.source, id, state }));
        }
        (FetchOutcome::Failed, _) => {
            call.call.mark(Mark::RecordingFailed);
        }
        _ => return,
    }
    decoded.about(fetch.call_key, call);
}

/// What an upload alone says about its recording. The archive fills in when and where in the log it came.
pub fn stored(upload: &Upload) -> RecordingState {
    let mut state = RecordingState {
        sha256: upload.sha256.clone(),
        bytes: upload.bytes,
        stored: Some((Default::default(), upload.object.clone())),
        ..RecordingState::default()
    };
    state.text(Text::MediaType, upload.media_type.clone().unwrap_or_default());
    state.text(Text::Name, upload.name.clone().unwrap_or_default());
    state
}
