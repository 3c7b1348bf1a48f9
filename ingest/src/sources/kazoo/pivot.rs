//! Pivot requests: the PBX asks how to route a call. They say that a call started, and nothing about its end.

use trunklog_storage::call::{CallState, Mark, Rank, Stamp, Text};
use trunklog_storage::event::Event;
use trunklog_storage::fact::{Decoded, SHORT_WINDOW};

use super::fields::{Fields, Spelling, user_part};

/// Fields worth showing, by folded name, and the attribute each becomes.
const ATTRIBUTES: &[(&str, &str)] = &[
    ("accountid", "account_id"),
    ("apiversion", "api_version"),
    ("callstatus", "call_status"),
    ("dialcallduration", "dial_call_duration"),
    ("dialcallsid", "dial_call_sid"),
    ("dialcallstatus", "dial_call_status"),
    ("fromrealm", "from_realm"),
    ("language", "language"),
    ("queuesid", "queue_sid"),
    ("recordingduration", "recording_duration"),
    ("recordingid", "recording_id"),
    ("recordingurl", "recording_url"),
    ("requestrealm", "request_realm"),
    ("torealm", "to_realm"),
    ("transcriptionid", "transcription_id"),
    ("transcriptionstatus", "transcription_status"),
    ("transcriptiontext", "transcription_text"),
    ("transcriptionurl", "transcription_url"),
];

/// Fields that become something else than an attribute.
const UNDERSTOOD: &[&str] = &[
    "callid",
    "calleridname",
    "calleridnumber",
    "customapplicationvars",
    "digits",
    "direction",
    "from",
    "request",
    "to",
    "userid",
];

/// What a pivot request means.
pub(super) fn decode(event: &Event) -> Decoded {
    let kind = format!("{}.pivot", event.source);
    let fields = match Fields::of(event, Spelling::Pivot) {
        Ok(fields) => fields,
        Err(error) => return Decoded::quarantined(event, kind, error),
    };
    let Some(call_id) = fields.get("callid") else {
        return Decoded::quarantined(event, kind, "the field `Call-ID` is missing");
    };
    let pairs = fields.sorted_pairs();
    let mut idempotency: Vec<&[u8]> = vec!["pivot".as_bytes(), call_id.as_bytes()];
    idempotency.extend(pairs.iter().flat_map(|(name, value)| [name.as_bytes(), value.as_bytes()]));
    let mut decoded = Decoded::new(kind, &idempotency);
    decoded.window = SHORT_WINDOW;
    let state = visit(&fields, Stamp(Rank::Receipt, event.received_at));
    decoded.about(call_id, state);
    decoded
}

/// The account that a request names.
pub(super) fn account(fields: &Fields) -> Option<&str> {
    fields.get("accountid")
}

/// All of them, should it name several.
pub(super) fn accounts(fields: &Fields) -> impl Iterator<Item = &str> {
    fields.values("accountid")
}

/// The number that was called.
pub(super) fn called(fields: &Fields) -> Option<&str> {
    fields.get("request").or_else(|| fields.get("to")).map(user_part)
}

/// What one visit of a pivot node says about the call; `start` is when it came.
pub(super) fn visit(fields: &Fields, start: Stamp) -> CallState {
    let mut state = CallState::default();
    let call = &mut state.call;
    call.mark(Mark::Pivot).mark(Mark::Started).start(start.0, start.1);
    // A field that only stands in for a better one must not win against it when another message has both.
    for (field, number, rank) in [
        (Text::From, "calleridnumber", Rank::Message),
        (Text::From, "from", Rank::Receipt),
        (Text::To, "request", Rank::Message),
        (Text::To, "to", Rank::Receipt),
    ] {
        call.text(field, rank, fields.get(number).map(user_part).unwrap_or_default());
    }
    call.text(Text::CallerName, Rank::Message, fields.get("calleridname").unwrap_or_default());
    call.text(Text::Endpoint, Rank::Receipt, fields.get("userid").unwrap_or_default());
    if fields.get("recordingurl").is_some() {
        call.mark(Mark::RecordingExpected);
    }
    digits(&mut state, fields);
    attributes(&mut state, fields);
    state
}

/// `Digits` is a string, or one entry per collection.
fn digits(state: &mut CallState, fields: &Fields) {
    for field in fields.named("digits") {
        let collection = field.subkeys.join(".");
        let collection = if collection.is_empty() { "default".to_owned() } else { collection };
        state.digits(collection, field.value.as_str());
    }
}

fn attributes(state: &mut CallState, fields: &Fields) {
    for (name, attribute) in ATTRIBUTES {
        state.attribute(*attribute, fields.get(name).unwrap_or_default());
    }
    let users: Vec<&str> = fields.values("userid").collect();
    state.attribute("user_id", users.join(","));
    application_vars(state, fields);
    // Callflows may set variables of any name, which later requests carry along.
    let known = |name: &str| UNDERSTOOD.contains(&name) || ATTRIBUTES.iter().any(|(known, _)| *known == name);
    for field in fields.iter().filter(|field| !known(&field.name) && !is_secret(&field.name)) {
        state.attribute(field.sent_as.as_str(), field.value.as_str());
    }
}

/// What the account's own application noted on the call, each under its own name.
pub(super) fn application_vars(state: &mut CallState, fields: &Fields) {
    for field in fields.named("customapplicationvars") {
        let name = field.subkeys.join(".");
        if name.replace('-', "_").eq_ignore_ascii_case("external_id") {
            state.call.text(Text::ExternalId, Rank::Message, field.value.as_str());
        }
        if !name.is_empty() && !is_secret(&name) {
            state.attribute(name, field.value.as_str());
        }
    }
}

/// Parameters of the configured URL that somebody meant to keep to himself.
fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["auth", "key", "passw", "secret", "token"].iter().any(|word| name.contains(word))
}
