//! The payload of `trunklog.link` and `trunklog.unlink` between two calls of one source.
//!
//! A message changes one call, so a decision is two messages, one about each of its ends. They are appended together.
//! The one about a call that gets a leg carries what is known of the leg: replay needs nothing else.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::call::{CallState, Tie};
use crate::event::{Event, Source};
use crate::fact::Decoded;
use crate::recording::message;

/// Which of the two calls a message is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// The one that was linked: the leg, the user's call, the call that names another.
    From,
    /// The one that it was linked to.
    To,
}

/// What a link makes of its two calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Bond {
    /// Two rows that name each other.
    Related,
    /// `from` is a leg of `to`.
    Leg,
}

/// A decision that two calls belong together, or (`trunklog.unlink`) no longer do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CallLinked {
    /// Source of both.
    pub source: Source,
    /// The source's key of the call that is linked.
    pub from: String,
    /// The source's key of the call that it is linked to.
    pub to: String,
    /// Which of the two this message is about.
    pub about: End,
    /// What the link makes of them.
    pub bond: Bond,
    /// What the decision rests on.
    pub rule: String,
    /// From 0 to 1; 1 where the source itself said so.
    pub confidence: f64,
    /// What is known of the leg, in the message about its call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leg: Option<Box<CallState>>,
}

impl CallLinked {
    /// The message, for the call that it is about.
    pub fn event(&self, tenant: &str, holds: bool) -> Event {
        let kind = if holds { "trunklog.link" } else { "trunklog.unlink" };
        message::event(tenant, kind, Some(self.ends().0), self)
    }

    /// The key of the call that this is about, and of the other one.
    fn ends(&self) -> (&str, &str) {
        match self.about {
            End::From => (&self.from, &self.to),
            End::To => (&self.to, &self.from),
        }
    }

    /// What the message means.
    pub(crate) fn decode(self, decoded: &mut Decoded, holds: bool) {
        let (key, other) = self.ends();
        let (key, other): (Arc<str>, _) = (key.into(), other.to_owned());
        let tie = match (holds, self.bond, self.about) {
            (false, ..) => Tie::Apart,
            (true, Bond::Related, _) => Tie::Related,
            (true, Bond::Leg, End::From) => Tie::LegOf,
            (true, Bond::Leg, End::To) => Tie::Leg(self.leg.unwrap_or_default()),
        };
        let mut call = CallState::default();
        call.decide(other, tie, self.rule, self.confidence);
        decoded.concerns = Some(self.source);
        decoded.about(key, call);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::{Mark, Rank};
    use crate::fact::CallRef;

    fn linked(about: End, leg: Option<CallState>) -> CallLinked {
        CallLinked {
            source: Source::Kazoo,
            from: "b@h".to_owned(),
            to: "a@h".to_owned(),
            about,
            bond: Bond::Leg,
            rule: "other_leg".to_owned(),
            confidence: 1.0,
            leg: leg.map(Box::new),
        }
    }

    fn decoded(linked: &CallLinked, holds: bool) -> (Arc<str>, CallState) {
        let event = linked.event("acme", holds);
        let decoded = message::decode(&event);
        assert_eq!((decoded.error, decoded.concerns), (None, Some(Source::Kazoo)));
        match decoded.fact {
            Some((CallRef::Key(key), state)) => {
                assert_eq!(event.subject.as_deref(), Some(&*key));
                (key, (*state).clone())
            }
            other => panic!("no fact about a call: {other:?}"),
        }
    }

    #[test]
    fn each_end_learns_its_side() {
        let mut leg = CallState::default();
        leg.call.mark(Mark::BLeg);
        leg.leg("b@h").start(Rank::Message, 1_767_323_045_000_000).mark(Mark::Started);
        leg.attribute("interaction_id", "63903000000-0a1b2c3d");
        let (key, state) = decoded(&linked(End::To, Some(leg.clone())), true);
        assert_eq!((&*key, state.decided_leg("b@h")), ("a@h", Some(&leg)));
        let (key, state) = decoded(&linked(End::From, None), true);
        assert_eq!((&*key, state.leg_of().map(|(key, _)| key)), ("b@h", Some("a@h")));
        let (_, state) = decoded(&linked(End::From, None), false);
        assert_eq!((state.leg_of(), state.decided.len()), (None, 1));
    }
}
