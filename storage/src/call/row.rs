//! The visible columns of a call: a pure function of its [`CallState`].
//!
//! Sources differ in what closes a call and where its times stand; the differences are the `match source` below and
//! nowhere else. A value that no message and no rule gives is `None`, never zero.

use std::collections::BTreeMap;

use super::{CallState, Disposition, Mark, Number, Rank, Stamp, Text, Track};
use crate::event::{Micros, Source, call_id};

/// One row of `calls`, without tenant, key and bookkeeping. Times in microseconds UTC, durations in milliseconds.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are the columns of `calls`; schema.rs describes each")]
pub struct CallRow {
    pub direction: String,
    pub from_number: Option<String>,
    pub to_number: Option<String>,
    pub caller_name: Option<String>,
    pub own_number: Option<String>,
    pub endpoint: Option<String>,
    pub endpoint_name: Option<String>,
    pub queue: Option<String>,
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
    pub disposition_raw: Option<String>,
    pub cause_q850: Option<i64>,
    pub sip_status: Option<i64>,
    pub released_by: String,
    pub state: &'static str,
    pub clock: Option<&'static str>,
    pub legs: Vec<LegRow>,
    pub transfers: i64,
    pub recording_state: &'static str,
    pub recordings: Vec<String>,
    pub dtmf: BTreeMap<String, String>,
    pub attributes: BTreeMap<String, String>,
    pub external_id: Option<String>,
    pub related_calls: Vec<String>,
}

/// One element of `calls.legs`.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields are those of `calls.legs`; schema.rs describes each")]
pub struct LegRow {
    pub leg_key: String,
    pub endpoint: Option<String>,
    pub endpoint_name: Option<String>,
    pub direction: String,
    pub started_at: Option<Micros>,
    pub ringing_at: Option<Micros>,
    pub answered_at: Option<Micros>,
    pub ended_at: Option<Micros>,
    pub talk_ms: Option<i64>,
    pub disposition: &'static str,
    pub disposition_raw: Option<String>,
    pub cause_q850: Option<i64>,
}

/// What the row's parts share while it is made.
struct View<'a> {
    state: &'a CallState,
    source: Source,
    closed: bool,
    direction: String,
    inbound: bool,
}

impl CallState {
    /// The row of this state for a call of `tenant` and `source`.
    pub fn row(&self, tenant: &str, source: Source) -> CallRow {
        View::new(self, source).row(tenant)
    }
}

impl<'a> View<'a> {
    fn new(state: &'a CallState, source: Source) -> Self {
        let direction = direction(state, source);
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
            call.get(field).or(leg).map(str::to_owned)
        };
        let mut row = CallRow {
            from_number: call.get(Text::From).map(user_part),
            to_number: call.get(Text::To).map(user_part),
            caller_name: call.get(Text::CallerName).map(str::to_owned),
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
            clock: start.map(|stamp| clock(stamp.0)),
            recording_state: self.recording_state(),
            recordings: self.state.recordings.iter().cloned().collect(),
            dtmf: plain(&self.state.dtmf),
            attributes: plain(&self.state.attributes),
            external_id: call.get(Text::ExternalId).map(str::to_owned),
            direction: self.direction.clone(),
            ..CallRow::default()
        };
        row.own_number = self.own_number(&row);
        row.duration_ms = self.number(Number::Duration).or_else(|| span(started_at, ended)).filter(|ms| *ms >= 0);
        row.talk_ms = self.talk_ms(answered, answered_at, ended).filter(|ms| *ms >= 0);
        row.ring_ms = self.ring_ms(&row).filter(|ms| *ms >= 0);
        row.legs = self.legs(&row);
        row.transfers = self.transfers();
        row.related_calls = self.state.related.iter().map(|key| call_id(tenant, self.source, key)).collect();
        row.related_calls.sort();
        row
    }

    /// Whether a message that closes the call was seen; legs answered elsewhere never close it.
    fn is_closed(&self) -> bool {
        let CallState { call, legs, .. } = self.state;
        if call.has(Mark::Ended) || call.has(Mark::Reported) {
            return true;
        }
        match self.source {
            // The last B-leg's end closes the call while no A-leg is known.
            Source::Kazoo | Source::Virtualpbx => {
                let a_leg_known = call.has(Mark::ALeg) || call.has(Mark::Pivot);
                let all_ended = legs.values().all(|leg| leg.has(Mark::Ended));
                !a_leg_known && all_ended && legs.values().any(|leg| !is(leg, Disposition::AnsweredElsewhere))
            }
            // A Success closes; else COMPLETED for every ext that rang.
            Source::Planfix => {
                let success = legs.values().any(|leg| leg.has(Mark::Ended) && is(leg, Disposition::Answered));
                success || (!legs.is_empty() && legs.values().all(|leg| leg.has(Mark::Ended)))
            }
            Source::Voispeed => {
                let answered = legs.values().any(is_answered);
                legs.values().any(|leg| leg.has(Mark::Ended) && (!answered || is_answered(leg)))
            }
            Source::Placetel | Source::Trunklog => false,
        }
    }

    fn outcome(&self) -> Disposition {
        let CallState { call, legs, .. } = self.state;
        let from_call = call.outcome.as_ref();
        let from_legs = || {
            let over =
                |leg: &&Track| leg.has(Mark::Ended) || leg.outcome.is_some() || (self.closed && is_answered(leg));
            legs.values().filter(over).map(|leg| self.leg_outcome(leg)).max().unwrap_or(Disposition::Unknown)
        };
        let outcome = match from_call {
            Some(super::Ranked(_, known)) if *known != Disposition::Unknown => *known,
            _ => from_legs(),
        };
        let voicemail = call.has(Mark::Voicemail) || legs.values().any(|leg| leg.has(Mark::Voicemail));
        match outcome {
            // All legs called off and none answered: the caller gave up.
            Disposition::AnsweredElsewhere => Disposition::Canceled,
            // A Kazoo's own mailbox answers the A-leg, but no B-leg.
            Disposition::Answered if !voicemail || !self.kazoo() || legs.values().any(is_answered) => outcome,
            _ if voicemail => Disposition::Voicemail,
            _ => outcome,
        }
    }

    fn leg_outcome(&self, leg: &Track) -> Disposition {
        let known = leg.outcome.as_ref().map_or(Disposition::Unknown, |ranked| ranked.1);
        let elsewhere = self.is_elsewhere(leg);
        // An extension that was busy or refused did so before another one answered.
        let only_rang = matches!(
            known,
            Disposition::Unknown | Disposition::NoAnswer | Disposition::Canceled | Disposition::AnsweredElsewhere
        );
        match known {
            _ if elsewhere && only_rang => Disposition::AnsweredElsewhere,
            Disposition::Unknown if leg.answer.is_some() && (self.closed || leg.has(Mark::Ended)) => {
                Disposition::Answered
            }
            _ => known,
        }
    }

    /// Whether this leg ended because another one was answered.
    fn is_elsewhere(&self, leg: &Track) -> bool {
        if is(leg, Disposition::AnsweredElsewhere) {
            return true;
        }
        let called_off = leg.has(Mark::CalledOff) && is(leg, Disposition::Canceled)
            || self.source == Source::Voispeed && leg.has(Mark::Ended) && !is_answered(leg);
        called_off && self.state.legs.values().any(is_answered)
    }

    fn start(&self, ended: Option<Micros>) -> Option<Stamp> {
        let CallState { call, legs, .. } = self.state;
        let claimed = if self.kazoo() && call.start.is_some() {
            call.start
        } else {
            first_stamp(&call.start, legs.values().map(|leg| &leg.start))
        };
        claimed.or_else(|| {
            let length = self.number(Number::Duration).or_else(|| self.sent_talk().filter(|ms| *ms > 0))?;
            Some(Stamp(Rank::Derived, ended? - length * 1000))
        })
    }

    fn answer(&self, answered: bool, ended: Option<Micros>) -> Option<Stamp> {
        let CallState { call, legs, .. } = self.state;
        let claimed = if self.kazoo() && call.has(Mark::ALeg) {
            call.answer
        } else {
            first_stamp(&call.answer, legs.values().map(|leg| &leg.answer))
        };
        claimed.or_else(|| {
            let talk = self.sent_talk().filter(|ms| *ms > 0)?;
            answered.then_some(Stamp(Rank::Derived, ended? - talk * 1000))
        })
    }

    /// The maximum over the legs that count, at the best rank; `None` while the call is open.
    fn end(&self) -> Option<Micros> {
        if !self.closed {
            return None;
        }
        let CallState { call, legs, .. } = self.state;
        if self.kazoo() && call.end.is_some() {
            return at(call.end);
        }
        let leg_ends = legs.values().filter(|leg| !self.is_elsewhere(leg)).filter_map(|leg| leg.end);
        let ends: Vec<Stamp> = call.end.into_iter().chain(leg_ends).collect();
        let best = ends.iter().map(|stamp| stamp.0).max()?;
        // Legs that ended at different ranks are different facts; only the call's own end outranks them.
        match call.end.filter(|end| end.0 == best) {
            Some(end) if end.0 > Rank::Message => Some(end.1),
            Some(_) => ends.iter().filter(|stamp| stamp.0 == best).map(|stamp| stamp.1).max(),
            None => ends.iter().map(|stamp| stamp.1).max(),
        }
    }

    /// A number as the source sent it: the call's, else that of its one leg while nothing else is known of the call.
    fn number(&self, field: Number) -> Option<i64> {
        let call = &self.state.call;
        let only_leg = || {
            let a_leg_known = self.kazoo() && (call.has(Mark::ALeg) || call.has(Mark::Pivot));
            if a_leg_known { None } else { self.only_leg()?.get_number(field) }
        };
        call.get_number(field).or_else(only_leg)
    }

    /// Conversation as the source sent it: the call's, else the longest of its answered legs', which a leg that was
    /// not answered says nothing about.
    fn sent_talk(&self) -> Option<i64> {
        let legs = || {
            let any_answered = self.state.legs.values().any(is_answered);
            let counting = self.state.legs.values().filter(|leg| !any_answered || is_answered(leg));
            counting.filter_map(|leg| leg.get_number(Number::Talk)).max()
        };
        self.state.call.get_number(Number::Talk).or_else(legs)
    }

    fn talk_ms(&self, answered: bool, answered_at: Option<Micros>, ended: Option<Micros>) -> Option<i64> {
        let sent = self.sent_talk();
        if !self.closed {
            return None;
        }
        match sent {
            // Nobody talked: 0 if the source says so, else nothing is known.
            _ if !answered => sent.filter(|ms| *ms == 0),
            None if self.source != Source::Planfix => span(answered_at, ended),
            _ => sent,
        }
    }

    fn ring_ms(&self, row: &CallRow) -> Option<i64> {
        // A start and an answer that were both worked out from the talk say nothing about the ringing.
        let derived = row.clock == Some("derived") && row.ringing_at.is_none() && row.started_at == row.answered_at;
        let between = || span(row.ringing_at.or(row.started_at), row.answered_at.or(row.ended_at));
        self.number(Number::Ring).or_else(|| if derived { None } else { between() })
    }

    fn hold_ms(&self) -> Option<i64> {
        if let Some(sent) = self.state.call.get_number(Number::Hold) {
            return Some(sent);
        }
        let mut parties: BTreeMap<&str, Vec<(Micros, bool)>> = BTreeMap::new();
        for hold in self.state.holds.values() {
            parties.entry(&hold.party).or_default().push((hold.at.1, hold.held));
        }
        let mut total = None;
        for times in parties.values_mut() {
            times.sort_unstable();
            let mut since = None;
            for &(time, held) in times.iter() {
                match (held, since) {
                    (true, None) => since = Some(time),
                    (false, Some(from)) => {
                        *total.get_or_insert(0) += (time - from) / 1000;
                        since = None;
                    }
                    _ => {}
                }
            }
        }
        total
    }

    /// The leg that was talked to: one with an outcome `answered` before one merely answered, then the latest answer.
    fn answering_leg(&self) -> Option<&'a Track> {
        let answered = self.state.legs.iter().filter(|(_, leg)| is_answered(leg));
        answered
            .max_by_key(|(key, leg)| (is(leg, Disposition::Answered), at(leg.answer), std::cmp::Reverse(*key)))
            .map(|(_, leg)| leg)
    }

    fn only_leg(&self) -> Option<&'a Track> {
        if self.state.legs.len() == 1 { self.state.legs.values().next() } else { None }
    }

    /// VOIspeed: of a call to the outside the user who called, because the leg is but a line.
    fn calling_endpoint(&self) -> Option<String> {
        let called_out = self.source == Source::Voispeed && self.direction == "out";
        let caller = calling_entity(self.state).filter(|entity| called_out && is_person(entity));
        caller.and_then(|_| self.state.call.get(Text::From)).map(user_part)
    }

    fn queue(&self) -> Option<String> {
        let call = &self.state.call;
        let named =
            call.get(Text::Queue).or_else(|| self.state.legs.values().filter_map(|leg| leg.get(Text::Queue)).max());
        let group = || if self.rang() > 1 { call.get(Text::GroupNumber) } else { None };
        named.or_else(group).map(str::to_owned)
    }

    fn rang(&self) -> usize {
        self.state.legs.values().filter(|leg| leg.has(Mark::Started)).count()
    }

    fn own_number(&self, row: &CallRow) -> Option<String> {
        let sent = self.state.call.get(Text::OwnNumber).map(user_part);
        sent.or_else(|| match self.direction.as_str() {
            "in" if self.kazoo() => row.to_number.clone(),
            "out" if self.kazoo() => row.from_number.clone(),
            _ => None,
        })
    }

    fn raw(&self, answering: Option<&Track>) -> Option<String> {
        let of_legs = || {
            let best = self.state.legs.values().filter(|leg| leg.get(Text::DispositionRaw).is_some());
            answering.or_else(|| best.max_by_key(|leg| (self.leg_outcome(leg), leg.get(Text::DispositionRaw))))
        };
        let call = self.state.call.get(Text::DispositionRaw);
        call.or_else(|| of_legs().and_then(|leg| leg.get(Text::DispositionRaw))).map(str::to_owned)
    }

    fn released_by(&self, answering: Option<&Track>) -> String {
        let leg = || {
            if self.kazoo() && self.state.call.has(Mark::ALeg) {
                return None;
            }
            let named = self.state.legs.values().filter_map(|leg| leg.get(Text::ReleasedBy)).max();
            answering.and_then(|leg| leg.get(Text::ReleasedBy)).or(named)
        };
        let named = self.state.call.get(Text::ReleasedBy).or_else(leg);
        named.or_else(|| self.releasing_side()).unwrap_or("unknown").to_owned()
    }

    /// The side of the entity that hung up last.
    fn releasing_side(&self) -> Option<&'static str> {
        let CallState { releases, legs, .. } = self.state;
        let (entity, _) = releases.iter().max_by_key(|(entity, stamp)| (stamp.0, stamp.1, *entity))?;
        let caller = calling_entity(self.state);
        match (caller == Some(entity.as_str()), legs.contains_key(entity)) {
            (true, false) => Some("caller"),
            (false, true) => Some("callee"),
            (false, false) => caller.map(|_| "callee"),
            (true, true) => None,
        }
    }

    fn state_name(&self, start: Option<Stamp>) -> &'static str {
        let known = start.is_some_and(|stamp| stamp.0 >= Rank::Receipt)
            || self.state.call.has(Mark::Started)
            || self.state.legs.values().any(|leg| leg.has(Mark::Started));
        let recording_only = || {
            let call = &self.state.call;
            let announced = call.has(Mark::RecordingExpected) || call.has(Mark::RecordingAvailable);
            announced && start.is_none() && self.state.legs.is_empty() && call.answer.is_none()
        };
        match (self.closed, known) {
            (true, true) => "closed",
            (true, false) => "partial",
            (false, false) if recording_only() => "partial",
            (false, _) => "open",
        }
    }

    fn recording_state(&self) -> &'static str {
        let call = &self.state.call;
        if call.has(Mark::RecordingAvailable) {
            "available"
        } else if call.has(Mark::RecordingFailed) {
            "failed"
        } else if call.has(Mark::RecordingExpected) {
            "expected"
        } else {
            "none"
        }
    }

    fn transfers(&self) -> i64 {
        let legs = || self.state.legs.iter().filter(|(_, leg)| is_answered(leg));
        let answered = if self.source == Source::Voispeed {
            // The same people may be seen twice: as extensions, and as entities of the system. And who calls a
            // colleague takes nothing over.
            let caller = |leg: &Track| self.direction == "internal" && leg.get(Text::Direction) == Some("out");
            let entities = legs().filter(|(key, _)| is_entity(key)).count();
            entities.max(legs().filter(|(key, leg)| !is_entity(key) && !caller(leg)).count())
        } else {
            legs().count()
        };
        let count = self.state.transfers.len().max(answered.saturating_sub(1));
        i64::try_from(count).unwrap_or(i64::MAX)
    }

    fn legs(&self, row: &CallRow) -> Vec<LegRow> {
        let legs = &self.state.legs;
        if legs.is_empty() {
            let mut leg = LegRow { leg_key: "0".to_owned(), disposition: "unknown", ..LegRow::default() };
            inherit(&mut leg, row);
            return vec![leg];
        }
        let mut rows: Vec<LegRow> = legs.iter().map(|(key, leg)| self.leg(key, leg)).collect();
        if let [only] = rows.as_mut_slice() {
            inherit(only, row);
        }
        rows.sort_by(|left, right| {
            let order = |leg: &LegRow| (leg.started_at.is_none(), leg.started_at);
            order(left).cmp(&order(right)).then_with(|| left.leg_key.cmp(&right.leg_key))
        });
        rows
    }

    fn leg(&self, key: &str, leg: &Track) -> LegRow {
        let outcome = self.leg_outcome(leg);
        let (answered_at, ended_at) = (at(leg.answer), at(leg.end));
        let talk = leg.get_number(Number::Talk);
        let talked = || {
            let counts = outcome == Disposition::Answered && self.source != Source::Planfix;
            if counts { span(answered_at, ended_at).filter(|ms| *ms >= 0) } else { None }
        };
        LegRow {
            leg_key: key.to_owned(),
            endpoint: leg.get(Text::Endpoint).map(str::to_owned),
            endpoint_name: leg.get(Text::EndpointName).map(str::to_owned),
            direction: leg.get(Text::Direction).unwrap_or(&self.direction).to_owned(),
            started_at: at(leg.start),
            ringing_at: at(leg.ringing),
            answered_at,
            ended_at,
            talk_ms: talk.or_else(talked),
            disposition: outcome.as_str(self.inbound),
            disposition_raw: leg.get(Text::DispositionRaw).map(str::to_owned),
            cause_q850: leg.get_number(Number::CauseQ850),
        }
    }
}

/// A call of one leg and that leg are the same thing: the leg shows what only the call knows.
fn inherit(leg: &mut LegRow, row: &CallRow) {
    let fill_time = |slot: &mut Option<Micros>, value: Option<Micros>| *slot = slot.or(value);
    fill_time(&mut leg.started_at, row.started_at);
    fill_time(&mut leg.ringing_at, row.ringing_at);
    // A Kazoo's mailbox answers the call, and not the leg that only rang.
    if matches!(leg.disposition, "unknown" | "answered") {
        fill_time(&mut leg.answered_at, row.answered_at);
    }
    fill_time(&mut leg.ended_at, row.ended_at);
    leg.talk_ms = leg.talk_ms.or(row.talk_ms);
    leg.cause_q850 = leg.cause_q850.or(row.cause_q850);
    leg.direction = if leg.direction.is_empty() { row.direction.clone() } else { leg.direction.clone() };
    leg.endpoint = leg.endpoint.take().or_else(|| row.endpoint.clone());
    leg.endpoint_name = leg.endpoint_name.take().or_else(|| row.endpoint_name.clone());
    leg.disposition_raw = leg.disposition_raw.take().or_else(|| row.disposition_raw.clone());
    if leg.disposition == "unknown" {
        leg.disposition = row.disposition;
    }
}

fn direction(state: &CallState, source: Source) -> String {
    let call = &state.call;
    let has = |mark| call.has(mark);
    let by_leg = || {
        let legs = state.legs.values().filter_map(|leg| leg.text.get(&Text::Direction));
        legs.max().map_or("unknown", |ranked| ranked.1.as_str())
    };
    let known = match source {
        Source::Kazoo | Source::Virtualpbx => {
            if has(Mark::ALegByResource) {
                "in"
            } else if has(Mark::BLegByResource) {
                "out"
            } else if has(Mark::ALeg) && has(Mark::BLeg) {
                "internal"
            } else if has(Mark::Pivot) {
                "in"
            } else {
                call.get(Text::Direction).unwrap_or("unknown")
            }
        }
        Source::Voispeed if is_between_extensions(state) => "internal",
        Source::Voispeed => call.get(Text::Direction).or_else(|| between_entities(state)).unwrap_or_else(by_leg),
        _ => call.get(Text::Direction).unwrap_or_else(by_leg),
    };
    known.to_owned()
}

/// VOIspeed: one extension calls and another one is called.
fn is_between_extensions(state: &CallState) -> bool {
    let claims = |direction: &str| {
        let mut texts = state.legs.values().filter_map(|leg| leg.text.get(&Text::Direction));
        texts.any(|ranked| ranked.0 > Rank::Guess && ranked.1 == direction)
    };
    claims("in") && claims("out")
}

/// VOIspeed: a user calls, and no line to the outside is called.
fn between_entities(state: &CallState) -> Option<&'static str> {
    let is_line = |key: &String| key.starts_with("2:");
    let mut called = state.legs.keys().filter(|key| is_entity(key)).peekable();
    called.peek()?;
    let internal = calling_entity(state).is_some_and(is_person) && !called.any(is_line);
    internal.then_some("internal")
}

/// VOIspeed: type and id of the entity that calls.
fn calling_entity(state: &CallState) -> Option<&str> {
    state.attributes.get("calling_entity").map(|ranked| ranked.1.as_str())
}

/// VOIspeed: whether a leg's key is an entity's type and id, and not an extension.
fn is_entity(key: &str) -> bool {
    key.contains(':')
}

/// VOIspeed: whether an entity is a user or a user's device.
fn is_person(entity: &str) -> bool {
    entity.starts_with("0:") || entity.starts_with("7:")
}

fn is(leg: &Track, outcome: Disposition) -> bool {
    leg.outcome.as_ref().is_some_and(|ranked| ranked.1 == outcome)
}

/// Answered, as far as this leg itself knows.
fn is_answered(leg: &Track) -> bool {
    match leg.outcome.as_ref().map(|ranked| ranked.1) {
        Some(Disposition::Answered) => true,
        Some(Disposition::Unknown) | None => leg.answer.is_some(),
        Some(_) => false,
    }
}

fn first_stamp<'a>(call: &Option<Stamp>, legs: impl Iterator<Item = &'a Option<Stamp>>) -> Option<Stamp> {
    let mut best = *call;
    legs.for_each(|stamp| super::merge_first(&mut best, *stamp));
    best
}

fn at(stamp: Option<Stamp>) -> Option<Micros> {
    stamp.map(|stamp| stamp.1)
}

/// Milliseconds from one time to the other.
fn span(from: Option<Micros>, until: Option<Micros>) -> Option<i64> {
    Some((until? - from?).div_euclid(1000)).filter(|ms| *ms >= 0)
}

fn clock(rank: Rank) -> &'static str {
    match rank {
        Rank::Message | Rank::Report => "pbx",
        Rank::Derived => "derived",
        Rank::Receipt | Rank::Guess => "receipt",
    }
}

/// Of `user@realm` only the user.
fn user_part(number: &str) -> String {
    let number = number.strip_prefix("sip:").unwrap_or(number);
    number.split_once('@').map_or(number, |(user, _)| user).to_owned()
}

fn plain(map: &BTreeMap<String, super::Ranked<String>>) -> BTreeMap<String, String> {
    map.iter().map(|(key, value)| (key.clone(), value.1.clone())).collect()
}
