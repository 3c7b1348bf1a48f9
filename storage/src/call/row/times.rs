//! When: start, answer, end, and the durations between them.

use std::collections::BTreeMap;

use super::outcome::is_answered;
use super::{CallRow, View};
use crate::call::{CallState, Mark, Number, Rank, Stamp};
use crate::event::{Micros, Source};

impl<'a> View<'a> {
    pub(super) fn start(&self, ended: Option<Micros>) -> Option<Stamp> {
        let CallState { call, legs, .. } = self.state;
        // The start of a recording is but a guess at that of its call.
        let said = call.start.filter(|start| start.0 > Rank::Guess);
        let claimed =
            if self.kazoo() && said.is_some() { said } else { first_stamp(&said, legs.values().map(|leg| &leg.start)) };
        let derived = || {
            let length = self.number(Number::Duration).or_else(|| self.sent_talk().filter(|ms| *ms > 0))?;
            Some(Stamp(Rank::Derived, ended? - length * 1000))
        };
        claimed.or_else(derived).or(call.start)
    }

    pub(super) fn answer(&self, answered: bool, ended: Option<Micros>) -> Option<Stamp> {
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
    pub(super) fn end(&self) -> Option<Micros> {
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
    pub(super) fn number(&self, field: Number) -> Option<i64> {
        let call = &self.state.call;
        let only_leg = || {
            let a_leg_known = self.kazoo() && (call.has(Mark::ALeg) || call.has(Mark::Pivot));
            if a_leg_known { None } else { self.only_leg()?.get_number(field) }
        };
        call.get_number(field).or_else(only_leg)
    }

    /// Conversation as the source sent it: the call's, else the longest of its answered legs', which a leg that was
    /// not answered says nothing about.
    pub(super) fn sent_talk(&self) -> Option<i64> {
        let legs = || {
            let any_answered = self.state.legs.values().any(is_answered);
            let counting = self.state.legs.values().filter(|leg| !any_answered || is_answered(leg));
            counting.filter_map(|leg| leg.get_number(Number::Talk)).max()
        };
        self.state.call.get_number(Number::Talk).or_else(legs)
    }

    pub(super) fn talk_ms(&self, answered: bool, answered_at: Option<Micros>, ended: Option<Micros>) -> Option<i64> {
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

    pub(super) fn ring_ms(&self, row: &CallRow) -> Option<i64> {
        // A start and an answer that were both worked out from the talk say nothing about the ringing.
        let derived = row.clock == Some("derived") && row.ringing_at.is_none() && row.started_at == row.answered_at;
        // Of a call that was answered nobody knows when, the length is no ringing.
        let rang_until = if row.disposition == "answered" { row.answered_at } else { row.answered_at.or(row.ended_at) };
        let between = || span(row.ringing_at.or(row.started_at), rang_until);
        self.number(Number::Ring).or_else(|| if derived { None } else { between() })
    }

    pub(super) fn hold_ms(&self) -> Option<i64> {
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
}

pub(super) fn first_stamp<'a>(call: &Option<Stamp>, legs: impl Iterator<Item = &'a Option<Stamp>>) -> Option<Stamp> {
    let mut best = *call;
    legs.for_each(|stamp| crate::call::merge_first(&mut best, *stamp));
    best
}

pub(super) fn at(stamp: Option<Stamp>) -> Option<Micros> {
    stamp.map(|stamp| stamp.1)
}

/// Milliseconds from one time to the other.
pub(super) fn span(from: Option<Micros>, until: Option<Micros>) -> Option<i64> {
    Some((until? - from?).div_euclid(1000)).filter(|ms| *ms >= 0)
}

pub(super) fn clock(rank: Rank) -> &'static str {
    match rank {
        Rank::Message | Rank::Report => "pbx",
        Rank::Derived => "derived",
        Rank::Receipt | Rank::Guess => "receipt",
    }
}
