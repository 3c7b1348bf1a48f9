//! Webhooks: one message per leg and stage. The A-leg is the call; B-legs are its legs.

use std::sync::Arc;

use compact_str::CompactString;
use trunklog_storage::call::{CallState, Disposition, Mark, Number, Rank, Stamp, Text, Track};
use trunklog_storage::event::Event;
use trunklog_storage::fact::Decoded;

use super::fields::{Fields, Spelling, user_part};
use super::{causes, clock, pivot};
use crate::sources::values::{kind_of, milliseconds};

/// Fields of the A-leg worth showing, by folded name, and the attribute each becomes.
const A_LEG_ATTRIBUTES: &[(&str, &str)] = &[
    ("authorizingid", "authorizing_id"),
    ("authorizingtype", "authorizing_type"),
    ("calleeidname", "callee_id_name"),
    ("calleeidnumber", "callee_id_number"),
    ("callforwarded", "call_forwarded"),
    ("cdrid", "cdr_id"),
    ("emergencyresourceused", "emergency_resource_used"),
    ("inception", "inception"),
    ("isinternalleg", "is_internal_leg"),
    ("localresourceid", "local_resource_id"),
    ("localresourceused", "local_resource_used"),
    ("originalnumber", "original_number"),
    ("otherlegcallid", "other_leg_call_id"),
    ("otherlegdestinationnumber", "other_leg_destination_number"),
    ("ownerid", "owner_id"),
    ("resellerid", "reseller_id"),
];

/// What all legs of a call have in common.
const CALL_ATTRIBUTES: &[(&str, &str)] =
    &[("accountid", "account_id"), ("bridgeid", "bridge_id"), ("interactionid", "interaction_id")];

/// The stage of a leg that a webhook reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Create,
    Answer,
    Bridge,
    Destroy,
}

impl Stage {
    fn parse(name: &str) -> Option<Stage> {
        match name.to_ascii_lowercase().as_str() {
            "channel_create" => Some(Stage::Create),
            "channel_answer" => Some(Stage::Answer),
            "channel_bridge" => Some(Stage::Bridge),
            "channel_destroy" => Some(Stage::Destroy),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Stage::Create => "channel_create",
            Stage::Answer => "channel_answer",
            Stage::Bridge => "channel_bridge",
            Stage::Destroy => "channel_destroy",
        }
    }
}

/// What a webhook means.
pub(super) fn decode(event: &Event) -> Decoded {
    let hook = || kind_of([event.source.as_str(), "hook"]);
    let fields = match Fields::of(event, Spelling::Hook) {
        Ok(fields) => fields,
        Err(error) => return Decoded::quarantined(event, hook(), error),
    };
    let Some(name) = fields.get("hookevent").or_else(|| fields.get("eventname")) else {
        return Decoded::quarantined(event, hook(), "the field `hook_event` is missing");
    };
    let stage = Stage::parse(name).or_else(|| fields.get("eventname").and_then(Stage::parse));
    let Some(stage) = stage else { return other(event, &fields, hook(), name) };
    let kind = kind_of([event.source.as_str(), stage.as_str()]);
    let Some(call_id) = fields.get("callid") else {
        return Decoded::quarantined(event, kind, "the field `call_id` is missing");
    };
    let mut decoded = Decoded::new(kind, &idempotency(event, &fields, stage.as_str(), call_id));
    let leg = Leg::new(event, &fields, call_id);
    decoded.occurred_at = leg.sent_at;
    decoded.about(leg.key(), leg.state(stage));
    decoded
}

/// The account that a webhook names.
pub(super) fn account<'a>(event: &'a Event, fields: &'a Fields) -> Option<&'a str> {
    fields.get("accountid").or_else(|| event.headers.get("x-account-id").map(CompactString::as_str))
}

/// Hook event, call id, time and the hook's id; a message without a time is told apart by its content.
fn idempotency<'a>(event: &'a Event, fields: &'a Fields, name: &'a str, call_id: &'a str) -> Vec<&'a [u8]> {
    let timestamp = fields.get("timestamp").unwrap_or_default();
    let hook = event.headers.get("x-hook-id").map_or("", CompactString::as_str);
    let mut parts: Vec<&[u8]> =
        vec!["hook".as_bytes(), name.as_bytes(), call_id.as_bytes(), timestamp.as_bytes(), hook.as_bytes()];
    if timestamp.is_empty() {
        parts.extend([event.query.as_deref().unwrap_or_default().as_bytes(), &event.payload[..]]);
    }
    parts
}

/// Hooks on parking, documents and notifications: kept, and of a new voicemail the call is told.
fn other(event: &Event, fields: &Fields, kind: CompactString, name: &str) -> Decoded {
    let call_id = fields.get("callid");
    let mut parts = idempotency(event, fields, name, call_id.unwrap_or_default());
    // Several notifications on one call may bear the same second.
    parts.extend([event.query.as_deref().unwrap_or_default().as_bytes(), &event.payload[..]]);
    let mut decoded = Decoded::new(kind, &parts);
    decoded.occurred_at = fields.get("timestamp").and_then(|time| clock::gregorian(time, event.received_at));
    decoded.call_key = call_id.map(Arc::from);
    let names = ["hookevent", "eventname", "notificationtype", "type"];
    let voicemail = names
        .iter()
        .filter_map(|field| fields.get(field))
        .any(|name| ["voicemail_new", "voicemail_saved"].iter().any(|known| name.eq_ignore_ascii_case(known)));
    if let Some(call_id) = call_id.filter(|_| voicemail) {
        let mut state = CallState::default();
        state.call.mark(Mark::Voicemail);
        decoded.about(call_id, state);
    }
    decoded
}

/// One leg as one message shows it.
struct Leg<'a> {
    fields: &'a Fields,
    call_id: &'a str,
    /// Outbound as the switch sees it: the leg to whoever is called.
    b_leg: bool,
    other_leg: Option<&'a str>,
    sent_at: Option<i64>,
    /// `sent_at`, else the receipt.
    stamp: Stamp,
}

impl<'a> Leg<'a> {
    fn new(event: &Event, fields: &'a Fields, call_id: &'a str) -> Leg<'a> {
        let b_leg = fields.get("calldirection").is_some_and(|direction| direction.eq_ignore_ascii_case("outbound"));
        let sent_at = fields.get("timestamp").and_then(|time| clock::gregorian(time, event.received_at));
        let stamp = sent_at.map_or(Stamp(Rank::Receipt, event.received_at), |at| Stamp(Rank::Message, at));
        Leg { fields, call_id, b_leg, other_leg: fields.get("otherlegcallid"), sent_at, stamp }
    }

    /// The A-leg's call id, as far as this message knows it.
    fn key(&self) -> &'a str {
        self.other_leg.filter(|_| self.b_leg).unwrap_or(self.call_id)
    }

    fn state(&self, stage: Stage) -> CallState {
        let mut state = CallState::default();
        self.numbers(&mut state.call);
        if self.b_leg {
            state.call.mark(Mark::BLeg);
            if self.resource_type() == Some("offnet-termination") {
                state.call.mark(Mark::BLegByResource);
            }
            self.track(state.leg(self.call_id), stage);
        } else {
            state.call.mark(Mark::ALeg);
            if self.resource_type() == Some("offnet-origination") || self.authorized_by_resource() {
                state.call.mark(Mark::ALegByResource);
            }
            self.track(&mut state.call, stage);
            if stage == Stage::Answer {
                // An end that does not say what was billed leaves this as the best guess.
                state.call.outcome(Rank::Guess, Disposition::Answered, "");
            }
        }
        self.attributes(&mut state);
        state
    }

    /// Who called whom, as the A-leg says it; a B-leg's view of it is but a guess.
    fn numbers(&self, call: &mut Track) {
        let get = |name| self.fields.get(name).map(user_part).unwrap_or_default();
        let (best, fallback) = if self.b_leg { (Rank::Guess, Rank::Guess) } else { (Rank::Message, Rank::Receipt) };
        for (field, name, stand_in) in [(Text::From, "calleridnumber", "from"), (Text::To, "request", "to")] {
            let value = get(name);
            if value.is_empty() {
                call.text(field, fallback, get(stand_in));
            } else {
                call.text(field, best, value);
            }
        }
        call.text(Text::CallerName, best, self.fields.get("calleridname").unwrap_or_default());
    }

    fn track(&self, track: &mut Track, stage: Stage) {
        let Stamp(rank, at) = self.stamp;
        self.endpoint(track);
        match stage {
            Stage::Create => {
                track.start(rank, at).mark(Mark::Started);
            }
            Stage::Answer => {
                track.answer(rank, at);
            }
            Stage::Bridge => {}
            Stage::Destroy => {
                track.end(rank, at).mark(Mark::Ended);
                self.ending(track);
            }
        }
    }

    /// The owner, else the device that was authorised; a carrier resource is no endpoint.
    fn endpoint(&self, track: &mut Track) {
        let of_channel = |name| self.fields.get(name).or_else(|| self.fields.under("customchannelvars", name));
        track.text(Text::Endpoint, Rank::Message, of_channel("ownerid").unwrap_or_default());
        if !self.authorized_by_resource() {
            track.text(Text::Endpoint, Rank::Derived, of_channel("authorizingid").unwrap_or_default());
        }
    }

    fn ending(&self, track: &mut Track) {
        let get = |name| self.fields.get(name).unwrap_or_default();
        let billed = milliseconds(get("billingseconds"));
        for (number, name) in
            [(Number::Duration, "durationseconds"), (Number::Ring, "ringingseconds"), (Number::Talk, "billingseconds")]
        {
            if let Some(length) = milliseconds(get(name)) {
                track.number(number, Rank::Message, length);
            }
        }
        let (cause, code) = (get("hangupcause"), get("hangupcode"));
        let raw = [cause, code].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(" ");
        match causes::outcome(cause, billed) {
            Some(outcome) => track.outcome(Rank::Message, outcome, raw),
            None => track.text(Text::DispositionRaw, Rank::Message, raw),
        };
        if let Some(number) = causes::q850(cause) {
            track.number(Number::CauseQ850, Rank::Message, number);
        }
        if let Some(status) = sip_status(code) {
            track.number(Number::SipStatus, Rank::Message, status);
        }
        if causes::released_by_caller(cause) {
            track.text(Text::ReleasedBy, Rank::Message, "caller");
        }
    }

    fn attributes(&self, state: &mut CallState) {
        let of_a_leg: &[(&str, &str)] = if self.b_leg { &[] } else { A_LEG_ATTRIBUTES };
        for (name, attribute) in CALL_ATTRIBUTES.iter().chain(of_a_leg) {
            let value = self.fields.get(name).or_else(|| self.fields.under("customchannelvars", name));
            state.attribute(*attribute, value.unwrap_or_default());
        }
        pivot::application_vars(state, self.fields);
    }

    fn resource_type(&self) -> Option<&'a str> {
        self.fields.under("customchannelvars", "resourcetype").or_else(|| self.fields.get("resourcetype"))
    }

    fn authorized_by_resource(&self) -> bool {
        let of_channel = |name| self.fields.get(name).or_else(|| self.fields.under("customchannelvars", name));
        of_channel("authorizingtype") == Some("resource")
    }
}

/// `sip:486` or `486`.
fn sip_status(code: &str) -> Option<i64> {
    let digits = code.trim().strip_prefix("sip:").unwrap_or(code.trim());
    digits.parse().ok().filter(|status| (100..=699).contains(status))
}
