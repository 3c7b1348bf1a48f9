//! What a Planfix message means. A leg is an `ext`; times are receipts, because the messages carry none.

use std::collections::HashSet;
use trunklog_storage::call::{CallState, Disposition, Mark, Number, Rank, Text, Track};
use trunklog_storage::event::Event;
use trunklog_storage::fact::Decoded;

use crate::form::Form;
use crate::settings::TenantSettings;
use crate::sources::values::{kind_of, milliseconds};

/// Decodes one message.
pub fn decode(event: &Event, _settings: &TenantSettings) -> Decoded {
    let fields = match Form::of_event(event) {
        Ok(fields) => fields,
        Err(error) => return Decoded::quarantined(event, "planfix.unknown", error.to_string()),
    };
    let decoded = match fields.get("cmd").unwrap_or_default() {
        "event" => call_event(event, &fields),
        "record" => record(&fields),
        "" => Err(Invalid::new("unknown", "`cmd` is missing")),
        _ => Err(Invalid::new("unknown", "`cmd` is none that is stored")),
    };
    decoded.unwrap_or_else(|invalid| {
        Decoded::quarantined(event, format!("planfix.{}", invalid.kind), format!("invalid parameters: {}", invalid.why))
    })
}

struct Invalid {
    kind: &'static str,
    why: &'static str,
}

impl Invalid {
    fn new(kind: &'static str, why: &'static str) -> Invalid {
        Invalid { kind, why }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Incoming,
    Outgoing,
    Accepted,
    Completed,
}

impl Step {
    fn parse(name: &str) -> Option<Step> {
        match name.to_ascii_uppercase().as_str() {
            "INCOMING" => Some(Step::Incoming),
            "OUTGOING" => Some(Step::Outgoing),
            "ACCEPTED" => Some(Step::Accepted),
            "COMPLETED" => Some(Step::Completed),
            _ => None,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Step::Incoming => "INCOMING",
            Step::Outgoing => "OUTGOING",
            Step::Accepted => "ACCEPTED",
            Step::Completed => "COMPLETED",
        }
    }
}

fn call_event(event: &Event, fields: &Form<'_>) -> Result<Decoded, Invalid> {
    let name = fields.get("event").unwrap_or_default();
    let step = Step::parse(name).ok_or(Invalid::new("unknown", "`event` is missing or unknown"))?;
    let invalid = |why| Invalid::new(step.as_str(), why);
    let direction = match fields.get("type").map(str::to_ascii_lowercase).as_deref() {
        Some("in") => "in",
        Some("out") => "out",
        _ => return Err(invalid("`type` is neither `in` nor `out`")),
    };
    let call_id = fields.text("callid").ok_or(invalid("`callid` is missing"))?;
    let extension = fields.get("ext").unwrap_or_default();
    if fields.text("phone").is_none() && extension.is_empty() {
        return Err(invalid("`phone` and `ext` are missing"));
    }
    let status = fields.get("status").unwrap_or_default();
    let idempotency = ["planfix.event", call_id, extension, direction, step.as_str(), status].map(str::as_bytes);
    let mut state = CallState::default();
    parties(&mut state, fields, direction, extension);
    let leg = state.leg(extension);
    leg.text(Text::Endpoint, Rank::Message, extension).text(Text::Direction, Rank::Message, direction);
    match step {
        Step::Incoming | Step::Outgoing => {
            leg.start(Rank::Receipt, event.received_at).mark(Mark::Started);
        }
        Step::Accepted => {
            leg.answer(Rank::Receipt, event.received_at);
        }
        Step::Completed => {
            completed(leg, fields, event, status);
            extras(&mut state, fields);
        }
    }
    Ok(about(call_id, Decoded::new(kind_of(["planfix", step.as_str()]), &idempotency), state))
}

fn record(fields: &Form<'_>) -> Result<Decoded, Invalid> {
    let invalid = |why| Invalid::new("record", why);
    let call_id = fields.text("callid").ok_or(invalid("`callid` is missing"))?;
    let link = fields.text("record_link").ok_or(invalid("`record_link` is missing"))?;
    let idempotency = ["planfix.record", call_id, link].map(str::as_bytes);
    let mut state = CallState::default();
    extras(&mut state, fields);
    Ok(about(call_id, Decoded::new("planfix.record", &idempotency), state))
}

fn about(call_id: &str, mut decoded: Decoded, state: CallState) -> Decoded {
    decoded.about(call_id, state);
    decoded
}

fn parties(state: &mut CallState, fields: &Form<'_>, direction: &str, extension: &str) {
    let phone = fields.get("phone").unwrap_or_default();
    let diversion = fields.get("diversion").unwrap_or_default();
    let call = &mut state.call;
    call.text(Text::Direction, Rank::Message, direction).text(Text::OwnNumber, Rank::Message, diversion).text(
        Text::GroupNumber,
        Rank::Message,
        diversion,
    );
    if direction == "in" {
        // Without a diversion the extension is the best that is known of what was called.
        call.text(Text::From, Rank::Message, phone).text(Text::To, Rank::Message, diversion).text(
            Text::To,
            Rank::Guess,
            extension,
        );
    } else {
        call.text(Text::From, Rank::Message, extension).text(Text::To, Rank::Message, phone);
    }
}

fn completed(leg: &mut Track, fields: &Form<'_>, event: &Event, status: &str) {
    let outcome = outcome(status);
    leg.end(Rank::Receipt, event.received_at).mark(Mark::Ended).outcome(Rank::Message, outcome, status);
    if outcome == Disposition::Canceled {
        leg.mark(Mark::CalledOff);
    }
    let talk = fields.get("duration").and_then(milliseconds);
    let success = outcome == Disposition::Answered;
    if let Some(talk) = talk.filter(|talk| success || *talk == 0) {
        leg.number(Number::Talk, Rank::Message, talk);
    }
}

/// Announced recordings, and the fields that the PBX's owner chose (`data_…`).
fn extras(state: &mut CallState, fields: &Form<'_>) {
    let link = fields.get("record_link").unwrap_or_default();
    if fields.get("is_recorded") == Some("1") || !link.is_empty() {
        state.call.mark(Mark::RecordingExpected);
    }
    state.attribute("record_link", link).attribute("is_temp", fields.get("is_temp").unwrap_or_default());
    let named = fields.pairs().iter().filter_map(|(name, value)| Some((name.strip_prefix("data_")?, value)));
    let mut seen = HashSet::new();
    for (name, value) in named {
        // Of fields sent twice the first counts.
        if !name.is_empty() && seen.insert(name) {
            state.attribute(name, &**value);
        }
    }
}

/// Spelling and case vary between PBXs; what is not known keeps its raw text.
fn outcome(status: &str) -> Disposition {
    match status.to_ascii_lowercase().as_str() {
        "success" => Disposition::Answered,
        "missed" | "noanswer" => Disposition::NoAnswer,
        "canceled" | "cancelled" => Disposition::Canceled,
        "busy" => Disposition::Busy,
        "notavailable" | "notavaliable" => Disposition::Unavailable,
        "notallowed" => Disposition::NotAllowed,
        _ => Disposition::Unknown,
    }
}

#[cfg(test)]
mod tests;
