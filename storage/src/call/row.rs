//! The visible columns of a call: a pure function of its [`CallState`].
//!
//! Sources differ in what closes a call and where its times stand; the differences are the `match source` below and
//! nowhere else. A value that no message and no rule gives is `None`, never zero.

mod direction;
mod legs;
mod outcome;
mod times;

use std::collections::BTreeSet;

use compact_str::CompactString;

use self::direction::{calling_entity, is_person};
use self::times::{at, clock, first_stamp, span};
use super::{CallState, Disposition, LEG, Mark, Number, Rank, Stamp, Text};
use crate::event::{Micros, Source, call_id};
use crate::sorted_map::SortedMap;

/// One row of `calls`, without tenant, key and bookkeeping. Times in microseconds UTC, durations in milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are the columns of `calls`; schema.rs describes each")]
pub struct CallRow {
    pub direction: CompactString,
    pub from_number: Option<CompactString>,
    pub to_number: Option<CompactString>,
    pub caller_name: Option<CompactString>,
    pub own_number: Option<CompactString>,
    pub endpoint: Option<CompactString>,
    pub endpoint_name: Option<CompactString>,
    pub queue: Option<CompactString>,
    pub started_at: Option<Micros>,
    pub ringing_at: Option<Micros>,
    pub answered_at: Option<Micros>,
    pub ended_at: Option<Micros>,
    pub duration_ms: Option<i64>,
    pub ring_ms: Option<i64>,
    pub talk_ms: Option<i64>,
    pub hold_ms: Option<i64>,
    pub ivr_ms: Option<i64>,
    pub queue_ms: Option<i64>,
    pub disposition: &'static str,
    pub disposition_raw: Option<CompactString>,
    pub cause_q850: Option<i64>,
    pub sip_status: Option<i64>,
    pub released_by: CompactString,
    pub state: &'static str,
    pub clock: Option<&'static str>,
    pub legs: Vec<LegRow>,
    pub transfers: i64,
    pub recording_state: &'static str,
    pub recordings: Vec<String>,
    pub dtmf: SortedMap<CompactString, CompactString>,
    pub attributes: SortedMap<CompactString, CompactString>,
    pub external_id: Option<CompactString>,
    pub related_calls: Vec<String>,
}

/// One element of `calls.legs`.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of `calls.legs`; schema.rs describes each")]
pub struct LegRow {
    pub leg_key: CompactString,
    pub endpoint: Option<CompactString>,
    pub endpoint_name: Option<CompactString>,
    pub direction: CompactString,
    pub started_at: Option<Micros>,
    pub ringing_at: Option<Micros>,
    pub answered_at: Option<Micros>,
    pub ended_at: Option<Micros>,
    pub talk_ms: Option<i64>,
    pub disposition: &'static str,
    pub disposition_raw: Option<CompactString>,
    pub cause_q850: Option<i64>,
}

/// What the row's parts share while it is made.
struct View<'a> {
    state: &'a CallState,
    source: Source,
    closed: bool,
    direction: &'a str,
    inbound: bool,
}

impl CallState {
    /// The row of this state for a call of `tenant` and `source`.
    pub fn row(&self, tenant: &str, source: Source) -> CallRow {
        let mut row = View::new(&self.whole(), source).row(tenant);
        if self.leg_of().is_some() {
            row.state = LEG;
        }
        row
    }

    /// Whether the row shows an end, as far as messages tell: it may time out, too.
    pub fn is_closed(&self, source: Source) -> bool {
        View::new(&self.whole(), source).closed
    }

    /// The start that the row shows, and whether it shows an end ([`CallState::is_closed`]), for less than the whole row
    /// costs.
    pub fn started_at(&self, source: Source) -> (Option<Micros>, bool) {
        let whole = self.whole();
        let view = View::new(&whole, source);
        (at(view.start(view.end())), view.closed)
    }
}

impl<'a> View<'a> {
    fn new(state: &'a CallState, source: Source) -> Self {
        let direction = direction::direction(state, source);
        let inbound = direction == "in";
        let mut view = View { state, source, closed: false, direction, inbound };
        view.closed = view.is_closed();
        view
    }

    fn kazoo(&self) -> bool {
        matches!(self.source, Source::Kazoo | Source::Virtualpbx)
    }

    fn row(&self, tenant: &str) -> CallRow {
        let call = &self.state.call;
        let outcome = self.outcome();
        let answered = outcome == Disposition::Answered;
        let ended = self.end();
        let answer = self.answer(answered, ended);
        let start = self.start(ended);
        let ringing = first_stamp(&call.ringing, self.state.legs.values().map(|leg| &leg.ringing));
        let (started_at, answered_at, ringing_at) = (at(start), at(answer), at(ringing));
        let answering = self.answering_leg();
        let endpoint_of = |field| {
            let leg = answering.or_else(|| self.only_leg()).and_then(|leg| leg.get(field));
            call.get(field).or(leg).map(CompactString::from)
        };
        let mut row = CallRow {
            from_number: call.get(Text::From).map(user_part),
            to_number: call.get(Text::To).map(user_part),
            caller_name: call.get(Text::CallerName).map(CompactString::from),
            endpoint: endpoint_of(Text::Endpoint).or_else(|| self.calling_endpoint()),
            endpoint_name: endpoint_of(Text::EndpointName),
            queue: self.queue(),
            started_at,
            ringing_at,
            answered_at,
            ended_at: ended,
            hold_ms: self.hold_ms(),
            ivr_ms: call.get_number(Number::Ivr),
            queue_ms: call.get_number(Number::Queue),
            disposition: if self.closed { outcome.as_str(self.inbound) } else { "unknown" },
            disposition_raw: self.raw(answering),
            cause_q850: self.number(Number::CauseQ850),
            sip_status: self.number(Number::SipStatus),
            released_by: self.released_by(answering),
            state: self.state_name(start),
            clock: start.map(|stamp| self.clock(stamp)),
            recording_state: self.recording_state(),
            recordings: self.recordings().into_iter().cloned().collect(),
            dtmf: plain(&self.state.dtmf),
            attributes: plain(&self.state.attributes),
            external_id: call.get(Text::ExternalId).map(CompactString::from),
            direction: self.direction.into(),
            ..CallRow::default()
        };
        row.own_number = self.own_number(&row);
        row.duration_ms = self.number(Number::Duration).or_else(|| span(started_at, ended)).filter(|ms| *ms >= 0);
        row.talk_ms = self.talk_ms(answered, answered_at, ended).filter(|ms| *ms >= 0);
        row.ring_ms = self.ring_ms(&row).filter(|ms| *ms >= 0);
        row.legs = self.legs(&row);
        row.transfers = self.transfers();
        row.related_calls =
            self.state.related_keys().into_iter().map(|key| call_id(tenant, self.source, key).into_string()).collect();
        row.related_calls.sort();
        row
    }

    /// VOIspeed: of a call to the outside the user who called, because the leg is but a line.
    fn calling_endpoint(&self) -> Option<CompactString> {
        let called_out = self.source == Source::Voispeed && self.direction == "out";
        let caller = calling_entity(self.state).filter(|entity| called_out && is_person(entity));
        caller.and_then(|_| self.state.call.get(Text::From)).map(user_part)
    }

    fn queue(&self) -> Option<CompactString> {
        let call = &self.state.call;
        let named =
            call.get(Text::Queue).or_else(|| self.state.legs.values().filter_map(|leg| leg.get(Text::Queue)).max());
        let group = || if self.rang() > 1 { call.get(Text::GroupNumber) } else { None };
        named.or_else(group).map(CompactString::from)
    }

    fn own_number(&self, row: &CallRow) -> Option<CompactString> {
        let sent = self.state.call.get(Text::OwnNumber).map(user_part);
        sent.or_else(|| match self.direction {
            "in" if self.kazoo() => row.to_number.clone(),
            "out" if self.kazoo() => row.from_number.clone(),
            _ => None,
        })
    }

    /// Of a Kazoo call known only from its recording, the start is worked out from that of the recording.
    fn clock(&self, start: Stamp) -> &'static str {
        if self.kazoo() && start.0 == Rank::Guess { clock(Rank::Derived) } else { clock(start.0) }
    }

    /// Those that the sender named and those that were linked by decision.
    fn recordings(&self) -> BTreeSet<&String> {
        let linked = self.state.links.iter().filter(|(_, (_, holds))| *holds).map(|(id, _)| id);
        self.state.recordings.iter().chain(linked).collect()
    }

    fn recording_state(&self) -> &'static str {
        let call = &self.state.call;
        if call.has(Mark::RecordingAvailable) || !self.recordings().is_empty() {
            "available"
        } else if call.has(Mark::RecordingFailed) {
            "failed"
        } else if call.has(Mark::RecordingExpected) {
            "expected"
        } else {
            "none"
        }
    }
}

/// Of `user@realm` only the user.
fn user_part(number: &str) -> CompactString {
    let number = number.strip_prefix("sip:").unwrap_or(number);
    number.split_once('@').map_or(number, |(user, _)| user).into()
}

fn plain(map: &SortedMap<CompactString, super::Ranked<CompactString>>) -> SortedMap<CompactString, CompactString> {
    map.iter().map(|(key, value)| (key.clone(), value.1.clone())).collect()
}
