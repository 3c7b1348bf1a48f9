//! What an upload means: a recording whose bytes are stored, and the call that it belongs to.

use trunklog_storage::call::{self, CallState, Mark, Rank};
use trunklog_storage::event::Event;
use trunklog_storage::fact::{Decoded, MAX_KEY_BYTES, RecordingFact};
use trunklog_storage::recording::message::{Upload, stored};
use trunklog_storage::recording::{RecordingState, Text, recording_id};

use super::super::fields::user_part;
use super::target::{Sent, Target, below, uploaded_as};

/// What an upload means.
pub(in super::super) fn decode(event: &Event) -> Decoded {
    let kind = format!("{}.recording", event.source);
    if event.structured {
        // Who loads messages could name the bytes of others.
        return Decoded::quarantined(event, kind, "a recording comes with its bytes, not as a message alone");
    }
    let upload: Upload = match serde_json::from_slice(&event.payload) {
        Ok(upload) => upload,
        Err(error) => return Decoded::quarantined(event, kind, format!("not an upload: {error}")),
    };
    let path = below(event.path.as_deref().unwrap_or_default(), event.source);
    let target = Target::of(&Sent {
        path,
        query: event.query.as_deref(),
        metadata: upload.metadata.as_ref(),
        part_name: upload.name.as_deref(),
        received_at: event.received_at,
    });
    let external_id = target.recording_id.as_deref();
    let id = recording_id(&event.tenant, event.source, target.key_or(path), external_id, &upload.sha256);
    let mut decoded = Decoded::new(kind, &[b"recording", id.as_bytes()]);
    decoded.occurred_at = target.start;
    let state = recording(&target, &upload, uploaded_as(path, event.query.as_deref()));
    if let Some(key) = target.call_key() {
        decoded.about(key, call(&target, &id));
    } else if target.call_id.is_some() {
        decoded.error = Some(format!("a key field is longer than {MAX_KEY_BYTES} bytes"));
    }
    decoded.recording = Some(Box::new(RecordingFact { source: event.source, id, state }));
    decoded
}

fn recording(target: &Target, upload: &Upload, uploaded_as: String) -> RecordingState {
    let mut state = stored(upload);
    state.started_at = target.start;
    state.duration_ms = target.duration_ms;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    state
        .text(Text::Name, target.name.as_str())
        .uploaded(uploaded_as)
        .text(Text::ExternalId, text(&target.recording_id))
        .text(Text::From, caller(target))
        .text(Text::To, called(target))
        .text(Text::Endpoint, text(&target.owner_id))
        .text(Text::CallKey, target.call_key().unwrap_or_default());
    state
}

/// Other messages know the call better: whatever they say wins.
fn call(target: &Target, recording_id: &str) -> CallState {
    let mut state = CallState::default();
    state.recordings.insert(recording_id.to_owned());
    let call = &mut state.call;
    call.mark(Mark::RecordingAvailable);
    if let Some(start) = target.start {
        call.start(Rank::Guess, start);
    }
    call.text(call::Text::From, Rank::Guess, caller(target));
    call.text(call::Text::To, Rank::Guess, called(target));
    call.text(call::Text::CallerName, Rank::Guess, target.caller_id_name.as_deref().unwrap_or_default());
    for (name, value) in [
        ("account_id", &target.account_id),
        ("cdr_id", &target.cdr_id),
        ("conference_id", &target.conference_id),
        ("conference_recording", &target.conference_recording),
        ("interaction_id", &target.interaction_id),
        ("owner_id", &target.owner_id),
    ] {
        state.attribute(name, value.as_deref().unwrap_or_default());
    }
    state
}

/// The number that was shown, else the SIP user.
fn caller(target: &Target) -> &str {
    target.caller_id_number.as_deref().or(target.from.as_deref()).map(user_part).unwrap_or_default()
}

fn called(target: &Target) -> &str {
    target.to.as_deref().map(user_part).unwrap_or_default()
}
