//! Rows of the PBX's reports. A report is the best source there is: what it says overrides what events said.

use chrono_tz::Tz;
use trunklog_storage::call::{CallState, Disposition, Mark, Number, Rank, Text, Track};
use trunklog_storage::event::{Event, Micros};
use trunklog_storage::fact::Decoded;

use super::xml::{self, Row};
use super::{clock, codes};
use crate::settings::TenantSettings;
use crate::sources::values;

/// The three services whose answers are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    CallReport,
    UserCallReport,
    CurrentCalls,
}

impl Service {
    /// By the name of the service or of the event type.
    pub fn parse(name: &str) -> Option<Service> {
        match name.strip_prefix("get_").unwrap_or(name) {
            "call_report" => Some(Service::CallReport),
            "user_call_report" => Some(Service::UserCallReport),
            "current_calls" => Some(Service::CurrentCalls),
            _ => None,
        }
    }

    /// By the fields that only one service has.
    pub fn of_row(row: &Row) -> Service {
        let has = |names: &[&str]| names.iter().any(|name| row.contains_key(*name));
        if has(&["callid", "my_number", "local_id", "remote_number"]) {
            Service::UserCallReport
        } else if has(&["codec", "p2p", "recording"]) && !has(&["outcome"]) {
            Service::CurrentCalls
        } else {
            Service::CallReport
        }
    }

    /// `events.type`.
    pub fn kind(self) -> &'static str {
        match self {
            Service::CallReport => "voispeed.call_report",
            Service::UserCallReport => "voispeed.user_call_report",
            Service::CurrentCalls => "voispeed.current_calls",
        }
    }
}

/// What a row means.
pub(super) fn decode(event: &Event, service: Service, settings: &TenantSettings) -> Decoded {
    let kind = service.kind();
    let fields = match xml::row(&event.payload) {
        Ok(row) => row,
        Err(error) => return Decoded::quarantined(event, kind, error),
    };
    let row = Fields { row: &fields, zone: settings.time_zone, received_at: event.received_at };
    let Some(id) = row.get("id") else { return Decoded::quarantined(event, kind, "the row has no `id`") };
    // A user's report counts its own rows, and names the communication besides.
    let key = if service == Service::UserCallReport { row.get("callid").or(row.get("local_id")) } else { Some(id) };
    let Some(key) = key else { return Decoded::quarantined(event, kind, "the row has no `callid`") };
    let mut decoded = Decoded::new(kind, &[b"report", kind.as_bytes(), id.as_bytes()]);
    decoded.occurred_at = row.time("start_time");
    let state = match service {
        Service::CallReport | Service::CurrentCalls => entities(&row),
        Service::UserCallReport => of_user(&row),
    };
    decoded.about(key, state);
    decoded
}

/// A row's fields as values.
struct Fields<'a> {
    row: &'a Row,
    zone: Option<Tz>,
    received_at: Micros,
}

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a str> {
        self.row.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &str) -> &'a str {
        self.get(name).unwrap_or_default()
    }

    fn time(&self, name: &str) -> Option<Micros> {
        clock::local(self.get(name)?, self.zone, self.received_at)
    }

    fn milliseconds(&self, name: &str) -> Option<i64> {
        values::milliseconds(self.get(name)?)
    }

    /// A flag that may also be the number of a gateway.
    fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "0" | "-1" | "no" | "false"))
    }

    /// Surname and name, as far as they are there.
    fn person(&self, surname: &str, name: &str) -> String {
        [self.text(surname), self.text(name)].join(" ").trim().to_owned()
    }

    /// Start, answer, end and outcome of the call or of a user's leg of it. An outcome of 0 is still open.
    fn course(&self, track: &mut Track) {
        let start = self.time("start_time");
        if let Some(start) = start {
            track.start(Rank::Report, start);
        }
        if let Some(answer) = self.time("answer_time") {
            track.answer(Rank::Report, answer);
        }
        track.mark(Mark::Started);
        let code = self.text("outcome");
        let Some(outcome) = codes::outcome(code).filter(|outcome| *outcome != Disposition::Unknown) else {
            track.text(Text::DispositionRaw, Rank::Report, code);
            return;
        };
        let to_mailbox = outcome == Disposition::Answered && self.get("connected_type") == Some(codes::VOICEMAIL);
        track.outcome(Rank::Report, if to_mailbox { Disposition::Voicemail } else { outcome }, code);
        track.mark(Mark::Ended);
        if let (Some(start), Some(length)) = (start, self.milliseconds("duration")) {
            track.end(Rank::Report, start.saturating_add(length * 1000));
        }
    }

    /// Times and outcome of the call as a whole.
    fn call(&self, call: &mut Track) {
        self.course(call);
        if call.has(Mark::Ended) {
            call.mark(Mark::Reported);
        }
        for (number, name) in [
            (Number::Duration, "duration"),
            (Number::Ring, "ring_time"),
            (Number::Hold, "hold_time"),
            (Number::Ivr, "ivr_time"),
            (Number::Talk, "talk_time"),
            (Number::Queue, "queue_time"),
        ] {
            if let Some(milliseconds) = self.milliseconds(name) {
                call.number(number, Rank::Report, milliseconds);
            }
        }
        call.text(Text::ExternalId, Rank::Report, self.text("external_id"));
    }

    fn attributes(&self, state: &mut CallState, names: &[&str]) {
        for name in names {
            state.attribute(*name, self.text(name));
        }
    }
}

/// `get_call_report` and `get_current_calls`: a call between entities.
fn entities(row: &Fields<'_>) -> CallState {
    let mut state = CallState::default();
    let call = &mut state.call;
    row.call(call);
    let direction = direction(row);
    call.text(Text::Direction, Rank::Report, direction.unwrap_or_default());
    call.text(Text::From, Rank::Report, row.text("calling_number"));
    call.text(Text::To, Rank::Report, row.text("called_number"));
    call.text(Text::CallerName, Rank::Report, row.text("calling_desc"));
    if direction == Some("in") {
        call.text(Text::OwnNumber, Rank::Report, row.text("called_number"));
    }
    endpoint(row, call, direction);
    if row.get("called_type") == Some(codes::RING_GROUP) {
        call.text(Text::Queue, Rank::Report, row.get("called_desc").unwrap_or(row.text("called_id")));
    }
    if row.get("connected_type") == Some(codes::VOICEMAIL) {
        call.mark(Mark::Voicemail);
    }
    if row.flag("recording") {
        call.mark(Mark::RecordingExpected);
    }
    if let Some(origin) = row.get("call_ref_id").filter(|id| *id != "0") {
        state.related.insert(origin.to_owned());
    }
    row.attributes(
        &mut state,
        &[
            "call_ref_id",
            "called_id",
            "called_type",
            "calling_id",
            "calling_type",
            "codec",
            "connected_id",
            "connected_type",
            "gateway_in",
            "gateway_out",
            "internal",
            "p2p",
        ],
    );
    state
}

/// From a gateway in, to a gateway out; else the flags, which name the gateway's part in the call.
fn direction(row: &Fields<'_>) -> Option<&'static str> {
    let (calling, called) = (row.get("calling_type"), row.get("called_type"));
    if let Some(direction @ ("in" | "out")) = codes::direction(calling, called) {
        return Some(direction);
    }
    match (row.flag("gateway_in"), row.flag("gateway_out")) {
        _ if row.flag("internal") => Some("internal"),
        (true, false) => Some("in"),
        (false, true) => Some("out"),
        _ => codes::direction(calling, called),
    }
}

/// Whoever of the PBX's own people talked, else was meant to.
fn endpoint(row: &Fields<'_>, call: &mut Track, direction: Option<&str>) {
    let person = |role: &str| codes::is_person(row.get(&format!("{role}_type")));
    let role = match direction {
        Some("out") if person("calling") => "calling",
        _ if person("connected") => "connected",
        _ if person("called") => "called",
        _ => return,
    };
    let (number, id) = (row.text(&format!("{role}_number")), row.text(&format!("{role}_id")));
    call.text(Text::Endpoint, Rank::Report, number);
    // Only the id is known until the PBX's list of entities is.
    call.text(Text::Endpoint, Rank::Guess, id);
    call.text(Text::EndpointName, Rank::Report, row.text(&format!("{role}_desc")));
}

/// `get_user_call_report`: a call as one extension had it, so a leg: another one may still talk.
fn of_user(row: &Fields<'_>) -> CallState {
    let mut state = CallState::default();
    let (own, remote) = (row.text("my_number"), row.text("remote_number"));
    let direction = match row.text("direction").to_ascii_lowercase().as_str() {
        "1" | "out" | "outgoing" => Some("out"),
        "0" | "in" | "incoming" => Some("in"),
        "internal" => Some("internal"),
        _ => None,
    };
    let call = &mut state.call;
    call.text(Text::Direction, Rank::Report, direction.unwrap_or_default());
    call.text(Text::Queue, Rank::Report, row.text("group_name"));
    call.text(Text::ExternalId, Rank::Report, row.text("external_id"));
    let remote_name = row.person("remote_surname", "remote_name");
    match direction {
        Some("out") => {
            call.text(Text::From, Rank::Report, own).text(Text::To, Rank::Report, remote);
            call.text(Text::CallerName, Rank::Report, row.person("surname", "name"));
        }
        Some("in") => {
            call.text(Text::From, Rank::Report, remote).text(Text::To, Rank::Guess, own);
            let name = if remote_name.is_empty() { row.text("remote_company").to_owned() } else { remote_name };
            call.text(Text::CallerName, Rank::Report, name);
        }
        _ => {}
    }
    let leg = state.leg(own);
    row.course(leg);
    if leg.has(Mark::Ended)
        && let Some(length) = row.milliseconds("duration")
    {
        leg.number(Number::Duration, Rank::Report, length);
    }
    leg.text(Text::Endpoint, Rank::Report, own);
    leg.text(Text::EndpointName, Rank::Report, row.person("surname", "name"));
    leg.text(Text::Direction, Rank::Report, direction.unwrap_or_default());
    row.attributes(&mut state, &["callid", "company", "local_id", "remote_company", "remote_name", "remote_surname"]);
    state
}
