//! Recordings of calls: after the call's end the PBX uploads what was said, as Kazoo 4.3 does.

use chrono::DateTime;
use percent_encoding::utf8_percent_encode;
use trunklog_storage::event::Source;

use super::super::audio::{Audio, Coding};
use super::super::model::{Call, Direction};
use super::super::truth::Truth;
use super::super::wire::{Fields, KeyForm, Message, RESERVED, Script};
use super::hook::GREGORIAN;
use super::{ACCOUNT, CARRIER, Parties, REALM};

/// Conversations are cut down to this length, or to less.
const LONGEST_AUDIO: i64 = 8;
/// Conversations from this length on may be recorded in two parts, under one name.
const TWO_PARTS: i64 = 20;

/// What was talked, as far as a recording depends on it.
pub struct Conversation<'a> {
    /// When it was answered (Unix seconds).
    pub answer: i64,
    /// When the call was over (Unix seconds).
    pub end: i64,
    /// User id of who took or made the call, if beyond doubt.
    pub owner: Option<&'a str>,
}

/// Uploads the recording of an answered call, if it was recorded, and says so in its truth.
pub fn uploads(call: &mut Call, parties: &Parties, talk: &Conversation<'_>, truth: &mut Truth, script: &mut Script) {
    let recorded = call.recorded;
    if !call.chance(recorded) {
        truth.text("recording_state", "none");
        return;
    }
    let length = talk.end - talk.answer;
    let parts = if length >= TWO_PARTS && call.chance(0.1) { 2 } else { 1 };
    let coding = call.weighted(&[(Coding::MuLaw, 0.6), (Coding::Linear, 0.4)]);
    let channels = call.weighted(&[(1, 0.7), (2, 0.3)]);
    let content_type = call.weighted(&[("audio/x-wav", 0.5), ("audio/wav", 0.5)]);
    let longest = call.between(1, LONGEST_AUDIO);
    for part in 0..parts {
        // Each part begins where the one before it is over.
        let start = talk.answer + (length / parts) * part;
        let seconds = (length / parts).clamp(1, longest) as u32;
        let audio = Audio { seed: call.seed, call: call.index, part: part as u64, coding, channels, seconds };
        let mut message = Message::upload(call.source, route(call, parties), content_type, audio);
        message.query = Some(query(call, parties, talk, (start, &audio)).encoded());
        let at = talk.end + call.between(1, 15);
        script.send(at, message.with_key(KeyForm::Path));
        truth.recording(audio);
    }
    truth.text("recording_state", "available");
}

/// Both parts of a call have the same name: the key of the call and the format.
fn route(call: &Call, parties: &Parties) -> String {
    let source = if call.source == Source::Virtualpbx { "virtualpbx" } else { "kazoo" };
    format!("/{source}/recordings/call_recording_{}.wav", utf8_percent_encode(&parties.key, RESERVED))
}

fn query(call: &Call, parties: &Parties, talk: &Conversation<'_>, (start, audio): (i64, &Audio)) -> Fields {
    let month = DateTime::from_timestamp(call.start, 0).unwrap_or_default().format("%Y%m");
    let from_realm = if parties.direction == Direction::In { CARRIER } else { REALM };
    let mut fields = Fields::default();
    fields
        .add("from", format!("{}@{from_realm}", parties.from))
        .add("to", format!("{}@{REALM}", parties.to))
        .add("caller_id_name", parties.name)
        .add("caller_id_number", parties.from.as_str())
        .add("call_id", parties.key.as_str())
        .add("cdr_id", format!("{month}-{}", parties.key))
        .add("interaction_id", format!("{}-{}", call.start + GREGORIAN, &call.hash("interaction")[..8]))
        .add("owner_id", talk.owner.unwrap_or_default())
        .add("account_id", ACCOUNT)
        .add("start", start + GREGORIAN)
        .add("duration_ms", audio.duration_ms())
        .add("recording_id", format!("{month}-{}", &call.hash(&format!("recording/{}", audio.part))[..32]));
    fields
}
