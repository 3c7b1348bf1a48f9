//! How a call and its legs ended: what closes a call, whose outcome counts, who released it.

use compact_str::CompactString;

use super::View;
use super::direction::calling_entity;
use super::times::at;
use crate::call::{CallState, Disposition, Mark, Rank, Ranked, Stamp, Text, Track};
use crate::event::Source;

/// What the leg keys of VOIspeed's company mailboxes begin with: their type.
const MAILBOX: &str = "8:";

impl<'a> View<'a> {
    /// Whether a message that closes the call was seen; legs answered elsewhere never close it.
    pub(super) fn is_closed(&self) -> bool {
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

    pub(super) fn outcome(&self) -> Disposition {
        let CallState { call, legs, .. } = self.state;
        let from_call = call.outcome.as_ref();
        let from_legs = || {
            let over =
                |leg: &&Track| leg.has(Mark::Ended) || leg.outcome.is_some() || (self.closed && is_answered(leg));
            legs.values().filter(over).map(|leg| self.leg_outcome(leg)).max().unwrap_or(Disposition::Unknown)
        };
        let outcome = match from_call {
            Some(Ranked(_, known)) if *known != Disposition::Unknown => *known,
            _ => from_legs(),
        };
        let voicemail = call.has(Mark::Voicemail) || legs.values().any(|leg| leg.has(Mark::Voicemail));
        match outcome {
            Disposition::Answered if self.only_mailboxes() => Disposition::Voicemail,
            // All legs called off and none answered: the caller gave up.
            Disposition::AnsweredElsewhere => Disposition::Canceled,
            // A Kazoo's own mailbox answers the A-leg, but no B-leg.
            Disposition::Answered if !voicemail || !self.kazoo() || legs.values().any(is_answered) => outcome,
            _ if voicemail => Disposition::Voicemail,
            _ => outcome,
        }
    }

    pub(super) fn leg_outcome(&self, leg: &Track) -> Disposition {
        let known = leg.outcome.as_ref().map_or(Disposition::Unknown, |ranked| ranked.1);
        let elsewhere = self.is_elsewhere(leg);
        // An extension that was busy or refused did so before another one answered.
        let only_rang = matches!(
            known,
            Disposition::Unknown | Disposition::NoAnswer | Disposition::Canceled | Disposition::AnsweredElsewhere
        );
        match known {
            _ if self.handed_on(leg) => Disposition::Answered,
            _ if is_answered(leg) && self.only_mailboxes() && (self.closed || leg.has(Mark::Ended)) => {
                Disposition::Voicemail
            }
            _ if elsewhere && only_rang => Disposition::AnsweredElsewhere,
            Disposition::Unknown if leg.answer.is_some() && (self.closed || leg.has(Mark::Ended)) => {
                Disposition::Answered
            }
            // An extension of whose mailbox it is known that the call went there.
            _ if leg.has(Mark::Voicemail) && !is_answered(leg) && (self.closed || leg.has(Mark::Ended)) => {
                Disposition::Voicemail
            }
            _ => known,
        }
    }

    /// VOIspeed: whether nobody took the call but a mailbox of the company. A report on the call knows better.
    fn only_mailboxes(&self) -> bool {
        let mut answered = self.state.legs.iter().filter(|(_, leg)| is_answered(leg)).peekable();
        self.source == Source::Voispeed
            && !self.state.call.has(Mark::Reported)
            && answered.peek().is_some()
            && answered.all(|(key, _)| key.starts_with(MAILBOX))
    }

    /// Whether this leg talked before it was called off because another one took the call over. (Planfix's senders
    /// call off all legs but the one that accepts, whatever those did before.)
    pub(super) fn handed_on(&self, leg: &Track) -> bool {
        let called_off = leg.has(Mark::CalledOff) && is(leg, Disposition::Canceled);
        // A leg that was called off is not answered by its own word, so the one that is answered is another one.
        called_off && leg.answer.is_some() && self.state.legs.values().any(is_answered)
    }

    /// Whether this leg ended because another one was answered.
    pub(super) fn is_elsewhere(&self, leg: &Track) -> bool {
        if is(leg, Disposition::AnsweredElsewhere) {
            return true;
        }
        let called_off = leg.has(Mark::CalledOff) && is(leg, Disposition::Canceled)
            || self.source == Source::Voispeed && leg.has(Mark::Ended) && !is_answered(leg);
        called_off && self.state.legs.values().any(is_answered)
    }

    /// The leg that was talked to: one with an outcome `answered` before one merely answered, then the latest answer.
    pub(super) fn answering_leg(&self) -> Option<&'a Track> {
        let answered = self.state.legs.iter().filter(|(_, leg)| is_answered(leg));
        answered
            .max_by_key(|(key, leg)| (is(leg, Disposition::Answered), at(leg.answer), std::cmp::Reverse(*key)))
            .map(|(_, leg)| leg)
    }

    pub(super) fn only_leg(&self) -> Option<&'a Track> {
        if self.state.legs.len() == 1 { self.state.legs.values().next() } else { None }
    }

    pub(super) fn raw(&self, answering: Option<&Track>) -> Option<CompactString> {
        let of_legs = || {
            let best = self.state.legs.values().filter(|leg| leg.get(Text::DispositionRaw).is_some());
            answering.or_else(|| best.max_by_key(|leg| (self.leg_outcome(leg), leg.get(Text::DispositionRaw))))
        };
        let call = self.state.call.get(Text::DispositionRaw);
        call.or_else(|| of_legs().and_then(|leg| leg.get(Text::DispositionRaw))).map(CompactString::from)
    }

    pub(super) fn released_by(&self, answering: Option<&Track>) -> CompactString {
        let leg = || {
            if self.kazoo() && self.state.call.has(Mark::ALeg) {
                return None;
            }
            let named = self.state.legs.values().filter_map(|leg| leg.get(Text::ReleasedBy)).max();
            answering.and_then(|leg| leg.get(Text::ReleasedBy)).or(named)
        };
        let named = self.state.call.get(Text::ReleasedBy).or_else(leg);
        named.or_else(|| self.releasing_side()).unwrap_or("unknown").into()
    }

    /// The side of the entity that hung up last.
    pub(super) fn releasing_side(&self) -> Option<&'static str> {
        let CallState { releases, legs, .. } = self.state;
        let (entity, _) = releases.iter().max_by_key(|(entity, stamp)| (stamp.0, stamp.1, *entity))?;
        let caller = calling_entity(self.state);
        match (caller == Some(entity.as_str()), legs.contains_key(entity.as_str())) {
            (true, false) => Some("caller"),
            (false, true) => Some("callee"),
            (false, false) => caller.map(|_| "callee"),
            (true, true) => None,
        }
    }

    pub(super) fn state_name(&self, start: Option<Stamp>) -> &'static str {
        let known = start.is_some_and(|stamp| stamp.0 >= Rank::Receipt)
            || self.state.call.has(Mark::Started)
            || self.state.legs.values().any(|leg| leg.has(Mark::Started));
        let recording_only = || {
            let call = &self.state.call;
            let announced = call.has(Mark::RecordingExpected) || call.has(Mark::RecordingAvailable);
            let said = start.is_some_and(|stamp| stamp.0 > Rank::Guess);
            announced && !said && self.state.legs.is_empty() && call.answer.is_none()
        };
        match (self.closed, known) {
            (true, true) => "closed",
            (true, false) => "partial",
            (false, false) if recording_only() => "partial",
            (false, _) => "open",
        }
    }
}

pub(super) fn is(leg: &Track, outcome: Disposition) -> bool {
    leg.outcome.as_ref().is_some_and(|ranked| ranked.1 == outcome)
}

/// Answered, as far as this leg itself knows.
pub(super) fn is_answered(leg: &Track) -> bool {
    match leg.outcome.as_ref().map(|ranked| ranked.1) {
        Some(Disposition::Answered) => true,
        Some(Disposition::Unknown) | None => leg.answer.is_some(),
        Some(_) => false,
    }
}
