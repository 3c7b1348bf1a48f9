//! What was decided about a call and another one of the same source: that they are related, or that one of them is a
//! leg of the other.
//!
//! Decisions come from the log (`trunklog.link`, `trunklog.unlink`); of those about the same two calls the last one in
//! the log holds. A leg keeps its own state, to which its later messages come, and shows no row; its call holds a copy
//! of that state as it was at the decision, and shows what it would show had every message named the call at once.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::CallState;
use crate::event::Offset;
use crate::sorted_map::SortedMap;

/// `calls.state` of a stored row that is no call, but a leg of another one. SQL leaves such rows out.
pub const LEG: &str = "leg";

/// What ties a call to another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Tie {
    /// Nothing, or nothing any more.
    #[serde(rename = "a")]
    Apart,
    /// They are related: two rows that name each other.
    #[serde(rename = "r")]
    Related,
    /// This one is a leg of the other.
    #[serde(rename = "o")]
    LegOf,
    /// The other one is a leg of this one; what was known of it when that was decided.
    #[serde(rename = "l")]
    Leg(Box<CallState>),
}

/// The last decision about a call and another one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// Where in the log it stands; set by the archive.
    #[serde(rename = "p")]
    pub at: Offset,
    /// What was decided.
    #[serde(rename = "t")]
    pub tie: Tie,
    /// What it rests on.
    #[serde(rename = "r")]
    pub rule: String,
    /// From 0 to 1; 1 where the source itself said so.
    #[serde(rename = "c")]
    pub confidence: f64,
}

impl Decision {
    /// The last in the log wins. One message met twice is the same; the rest of the order only makes it total.
    pub(super) fn join(&mut self, other: Decision) {
        let order = self.at.cmp(&other.at).then_with(|| self.weight().cmp(&other.weight()));
        match (order, other) {
            (std::cmp::Ordering::Less, other) => *self = other,
            (std::cmp::Ordering::Equal, other) => {
                if let (Tie::Leg(own), Tie::Leg(more)) = (&mut self.tie, other.tie) {
                    own.merge(*more);
                }
            }
            (std::cmp::Ordering::Greater, _) => {}
        }
    }

    fn weight(&self) -> (u8, u64, &str) {
        let tie = match self.tie {
            Tie::Apart => 0,
            Tie::Related => 1,
            Tie::LegOf => 2,
            Tie::Leg(_) => 3,
        };
        // Of numbers that are not negative the bits have the order of the values.
        (tie, self.confidence.to_bits(), &self.rule)
    }
}

impl CallState {
    /// Notes a decision about this call and the one of the key `other`; the archive says when.
    pub fn decide(
        &mut self,
        other: impl Into<String>,
        tie: Tie,
        rule: impl Into<String>,
        confidence: f64,
    ) -> &mut Self {
        let decision = Decision { at: Offset(0), tie, rule: rule.into(), confidence };
        self.decided.join(other.into(), decision, Decision::join);
        self
    }

    /// The key of the call that this one is a leg of, and the decision that says so.
    pub fn leg_of(&self) -> Option<(&str, &Decision)> {
        let holding = self.decided.iter().filter(|(_, decision)| matches!(decision.tie, Tie::LegOf));
        holding.max_by_key(|(_, decision)| decision.at).map(|(key, decision)| (key.as_str(), decision))
    }

    /// What was known of this leg when it was last decided that it is one.
    pub fn decided_leg(&self, key: &str) -> Option<&CallState> {
        match &self.decided.get(key)?.tie {
            Tie::Leg(state) => Some(state),
            _ => None,
        }
    }

    /// This call with all that became legs of it.
    pub fn whole(&self) -> Cow<'_, CallState> {
        let mut whole = Cow::Borrowed(self);
        for decision in self.decided.values() {
            if let Tie::Leg(leg) = &decision.tie {
                whole.to_mut().merge((**leg).clone());
            }
        }
        whole
    }

    /// This call as another one takes it up as its leg: everything but what was decided about it.
    pub fn as_leg(&self) -> CallState {
        CallState { decided: SortedMap::new(), ..self.whole().into_owned() }
    }

    /// Keys of related calls: those that the source named, and those that were decided.
    pub fn related_keys(&self) -> BTreeSet<&str> {
        let decided = self.decided.iter().filter(|(_, decision)| matches!(decision.tie, Tie::Related));
        let decided = decided.map(|(key, _)| key.as_str());
        self.related.iter().map(String::as_str).chain(decided).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Disposition, Mark, Rank, Text};
    use crate::event::{Micros, Source, call_id};

    const START: Micros = 1_767_323_045_000_000;
    const SECOND: Micros = 1_000_000;

    /// What the messages of a B-leg say, whatever call they name.
    fn b_leg(from_second: i64) -> CallState {
        let mut state = CallState::default();
        state.call.mark(Mark::BLeg).text(Text::From, Rank::Guess, "1001");
        let leg = state.leg("b");
        leg.start(Rank::Message, START + from_second * SECOND).mark(Mark::Started);
        state.delivered(START + from_second * SECOND, Offset(from_second.cast_unsigned()));
        state
    }

    fn ended(second: i64) -> CallState {
        let mut state = b_leg(second);
        let leg = state.leg("b");
        leg.end(Rank::Message, START + second * SECOND).mark(Mark::Ended);
        leg.outcome(Rank::Message, Disposition::Answered, "NORMAL_CLEARING");
        state
    }

    fn a_leg() -> CallState {
        let mut state = CallState::default();
        state.call.mark(Mark::ALeg).mark(Mark::Started).start(Rank::Message, START);
        state.call.text(Text::From, Rank::Message, "+35316877779").text(Text::To, Rank::Message, "0871234567");
        state.delivered(START, Offset(0));
        state
    }

    fn decision(other: &str, tie: Tie, at: u64) -> CallState {
        let mut state = CallState::default();
        state.decide(other, tie, "other_leg", 1.0);
        state.decided_at(Offset(at));
        state
    }

    fn joined(parts: &[CallState]) -> CallState {
        parts.iter().fold(CallState::default(), |mut all, part| {
            all.merge(part.clone());
            all
        })
    }

    #[test]
    fn a_call_shows_what_it_would_had_its_leg_named_it_at_once() {
        let at_once = joined(&[a_leg(), b_leg(3), ended(40)]);
        let leg = b_leg(3);
        let apart = joined(&[a_leg(), ended(40), decision("b", Tie::Leg(Box::new(leg.as_leg())), 50)]);
        assert_eq!(apart.row("acme", Source::Kazoo), at_once.row("acme", Source::Kazoo));
        assert_eq!(apart.whole().seen, at_once.seen);
        assert_eq!(apart.row("acme", Source::Kazoo).legs.len(), 1);
        let hidden = joined(&[leg, decision("a", Tie::LegOf, 51)]);
        assert_eq!((hidden.row("acme", Source::Kazoo).state, hidden.leg_of().map(|(key, _)| key)), (LEG, Some("a")));
    }

    #[test]
    fn the_last_decision_wins_in_any_order() {
        let earlier = decision("b", Tie::Leg(Box::new(b_leg(3))), 10);
        let later = decision("b", Tie::Leg(Box::new(ended(9))), 20);
        let last = decision("b", Tie::Apart, 30);
        let expected = joined(&[a_leg(), earlier.clone(), later.clone(), last.clone()]);
        assert!(expected.whole().legs.is_empty());
        for order in [[&last, &later, &earlier], [&later, &last, &earlier], [&earlier, &last, &later]] {
            let mut state = a_leg();
            for part in order {
                state.merge(part.clone());
                state.merge(part.clone());
            }
            assert_eq!(state, expected);
        }
        let two = joined(&[earlier, later]);
        assert_eq!(two.whole().legs["b"].end.map(|end| end.1), Some(START + 9 * SECOND));
    }

    #[test]
    fn a_leg_that_moved_is_a_leg_of_the_last() {
        let moved = joined(&[decision("a", Tie::LegOf, 5), decision("a", Tie::Apart, 8), decision("c", Tie::LegOf, 9)]);
        assert_eq!(moved.leg_of().map(|(key, _)| key), Some("c"));
        let freed = joined(&[moved, decision("c", Tie::Apart, 12)]);
        assert_eq!(freed.leg_of(), None);
    }

    #[test]
    fn related_calls_are_those_named_and_those_decided() {
        let mut state = joined(&[decision("4711", Tie::Related, 7), decision("4712", Tie::Apart, 8)]);
        state.related.insert("900".to_owned());
        let mut expected = ["4711", "900"].map(|key| call_id("acme", Source::Voispeed, key).into_string());
        expected.sort();
        assert_eq!(state.row("acme", Source::Voispeed).related_calls, expected);
    }

    #[test]
    fn decisions_survive_being_stored_and_sent() {
        let state =
            joined(&[a_leg(), decision("b", Tie::Leg(Box::new(ended(40))), 50), decision("x", Tie::Related, 3)]);
        let stored = rmp_serde::to_vec_named(&state).expect("a state can be written");
        assert_eq!(rmp_serde::from_slice::<CallState>(&stored).expect("and read"), state);
        let sent = serde_json::to_vec(&state).expect("as JSON too");
        assert_eq!(serde_json::from_slice::<CallState>(&sent).expect("and read"), state);
    }
}
