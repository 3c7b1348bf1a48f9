//! What a Placetel message means. It carries no time and no sequence, so starts, answers and ends are receipts.

use trunklog_storage::call::{CallState, Disposition, Mark, Number, Rank, Text};
use trunklog_storage::event::Event;
use trunklog_storage::fact::Decoded;

use crate::form::Form;
use crate::settings::TenantSettings;
use crate::sources::values::{kind_of, milliseconds, user_part};

/// So many texts most calls have in the end.
const USUAL_TEXTS: usize = 6;

/// Decodes one message.
pub fn decode(event: &Event, _settings: &TenantSettings) -> Decoded {
    let fields = match Form::of_event(event) {
        Ok(fields) => fields,
        Err(error) => return Decoded::quarantined(event, "placetel.unknown", error.to_string()),
    };
    let name = fields.get("event").unwrap_or_default();
    let Some(message) = Message::parse(name) else {
        let error = if name.is_empty() { "`event` is missing" } else { "`event` is none that is known" };
        return Decoded::quarantined(event, "placetel.unknown", error);
    };
    let kind = kind_of(["placetel", message.as_str()]);
    let Some(call_id) = fields.text("call_id") else {
        return Decoded::quarantined(event, kind, "`call_id` is missing");
    };
    let outcome = fields.get("type").unwrap_or_default();
    let query = event.query.as_deref().unwrap_or_default();
    let mut decoded = Decoded::new(
        kind,
        &[b"placetel", call_id.as_bytes(), name.as_bytes(), outcome.as_bytes(), query.as_bytes(), &event.payload],
    );
    decoded.about(call_id, state(event, &fields, message));
    decoded
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Message {
    IncomingCall,
    OutgoingCall,
    CallAccepted,
    HungUp,
}

impl Message {
    const ALL: [Message; 4] = [Message::IncomingCall, Message::OutgoingCall, Message::CallAccepted, Message::HungUp];

    fn parse(name: &str) -> Option<Message> {
        Message::ALL.into_iter().find(|message| message.as_str() == name)
    }

    fn as_str(self) -> &'static str {
        match self {
            Message::IncomingCall => "IncomingCall",
            Message::OutgoingCall => "OutgoingCall",
            Message::CallAccepted => "CallAccepted",
            Message::HungUp => "HungUp",
        }
    }
}

fn state(event: &Event, fields: &Form<'_>, message: Message) -> CallState {
    let mut state = CallState::default();
    parties(&mut state, fields, message);
    let peer = fields.get("peer").unwrap_or_default();
    let at = event.received_at;
    match message {
        Message::IncomingCall => {
            state.call.start(Rank::Receipt, at).mark(Mark::Started);
            state.attribute("peer", peer);
        }
        Message::OutgoingCall => {
            state.call.start(Rank::Receipt, at).mark(Mark::Started);
            if !peer.is_empty() {
                state.leg(peer).text(Text::Endpoint, Rank::Message, peer);
            }
        }
        Message::CallAccepted => {
            state.call.answer(Rank::Receipt, at);
            let leg = state.leg(peer);
            leg.text(Text::Endpoint, Rank::Message, peer).answer(Rank::Receipt, at);
        }
        Message::HungUp => hung_up(&mut state, fields, event),
    }
    state.attribute("user", fields.get("user").unwrap_or_default());
    state
}

fn parties(state: &mut CallState, fields: &Form<'_>, message: Message) {
    let from = fields.get("from").unwrap_or_default();
    let to = fields.get("to").unwrap_or_default();
    let (direction, rank) = direction(fields, message, from, to);
    let own_number = match direction {
        "in" => user_part(to),
        "out" => user_part(from),
        _ => "",
    };
    state.call.text.reserve(USUAL_TEXTS);
    state
        .call
        .text(Text::From, Rank::Message, user_part(from))
        .text(Text::To, Rank::Message, user_part(to))
        .text(Text::Direction, rank, direction)
        .text(Text::OwnNumber, rank, own_number);
}

/// By the field, else by the event's name, else `in` as a guess; `internal` when both parties are SIP users.
fn direction(fields: &Form<'_>, message: Message, from: &str, to: &str) -> (&'static str, Rank) {
    if is_sip_user(from) && is_sip_user(to) {
        return ("internal", Rank::Message);
    }
    match (fields.get("direction"), message) {
        (Some("in"), _) => ("in", Rank::Message),
        (Some("out"), _) => ("out", Rank::Message),
        (_, Message::IncomingCall) => ("in", Rank::Derived),
        (_, Message::OutgoingCall) => ("out", Rank::Derived),
        _ => ("in", Rank::Guess),
    }
}

fn is_sip_user(party: &str) -> bool {
    let user = user_part(party);
    let has_letters = user.chars().any(char::is_alphabetic) && user.chars().any(|character| character.is_ascii_digit());
    party.contains('@') || has_letters
}

fn hung_up(state: &mut CallState, fields: &Form<'_>, event: &Event) {
    let raw = fields.get("type").unwrap_or_default();
    let outcome = outcome(raw);
    state.call.end(Rank::Receipt, event.received_at).mark(Mark::Ended).outcome(Rank::Message, outcome, raw);
    if outcome == Disposition::Canceled {
        state.call.text(Text::ReleasedBy, Rank::Message, "caller");
    }
    // Accepted with a duration of 0 was a fault of the sender for years, and says nothing about the talk.
    let talk = fields.get("duration").and_then(milliseconds);
    let accepted = outcome == Disposition::Answered;
    if let Some(talk) = talk.filter(|talk| accepted == (*talk > 0)) {
        state.call.number(Number::Talk, Rank::Message, talk);
    }
}

fn outcome(kind: &str) -> Disposition {
    match kind.to_ascii_lowercase().as_str() {
        "accepted" => Disposition::Answered,
        "missed" => Disposition::NoAnswer,
        "voicemail" => Disposition::Voicemail,
        "blocked" => Disposition::Blocked,
        "busy" => Disposition::Busy,
        "canceled" | "cancelled" => Disposition::Canceled,
        "unavailable" => Disposition::Unavailable,
        "congestion" => Disposition::Congestion,
        _ => Disposition::Unknown,
    }
}

#[cfg(test)]
mod tests;
