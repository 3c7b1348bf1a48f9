//! The rows of a call's legs.

use super::direction::is_entity;
use super::outcome::is_answered;
use super::times::{at, span};
use super::{CallRow, LegRow, View};
use crate::call::{Disposition, Mark, Number, Text, Track};
use crate::event::{Micros, Source};

impl<'a> View<'a> {
    pub(super) fn legs(&self, row: &CallRow) -> Vec<LegRow> {
        let legs = &self.state.legs;
        if legs.is_empty() {
            let mut leg = LegRow { leg_key: "0".into(), disposition: "unknown", ..LegRow::default() };
            inherit(&mut leg, row);
            return vec![leg];
        }
        let mut rows: Vec<LegRow> = legs.iter().map(|(key, leg)| self.leg(key, leg)).collect();
        if let [only] = rows.as_mut_slice() {
            inherit(only, row);
            // What is said of a call's end and of no leg's was said of its only leg.
            let unsaid = |leg: &Track| leg.outcome.as_ref().is_none_or(|ranked| ranked.1 == Disposition::Unknown);
            if self.closed && legs.values().all(unsaid) {
                only.disposition = row.disposition;
            }
        }
        rows.sort_by(|left, right| {
            let order = |leg: &LegRow| (leg.started_at.is_none(), leg.started_at);
            order(left).cmp(&order(right)).then_with(|| left.leg_key.cmp(&right.leg_key))
        });
        rows
    }

    pub(super) fn leg(&self, key: &str, leg: &Track) -> LegRow {
        let outcome = self.leg_outcome(leg);
        let (answered_at, ended_at) = (at(leg.answer), at(leg.end));
        // Who called off a leg that had handed its call on says nothing about how long it talked.
        let talk = leg.get_number(Number::Talk).filter(|_| !self.handed_on(leg));
        let talked = || {
            let counts = outcome == Disposition::Answered && self.source != Source::Planfix;
            if counts { span(answered_at, ended_at).filter(|ms| *ms >= 0) } else { None }
        };
        LegRow {
            leg_key: key.into(),
            endpoint: leg.get(Text::Endpoint).map(Into::into),
            endpoint_name: leg.get(Text::EndpointName).map(Into::into),
            direction: leg.get(Text::Direction).unwrap_or(self.direction).into(),
            started_at: at(leg.start),
            ringing_at: at(leg.ringing),
            answered_at,
            ended_at,
            talk_ms: talk.or_else(talked),
            disposition: outcome.as_str(self.inbound),
            disposition_raw: leg.get(Text::DispositionRaw).map(Into::into),
            cause_q850: leg.get_number(Number::CauseQ850),
        }
    }

    pub(super) fn transfers(&self) -> i64 {
        let legs = || self.state.legs.iter().filter(|(_, leg)| is_answered(leg) || self.handed_on(leg));
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

    pub(super) fn rang(&self) -> usize {
        self.state.legs.values().filter(|leg| leg.has(Mark::Started)).count()
    }
}

/// A call of one leg and that leg are the same thing: the leg shows what only the call knows.
pub(super) fn inherit(leg: &mut LegRow, row: &CallRow) {
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
