//! Which way a call went, and which of its parties are extensions.

use crate::call::{CallState, Mark, Rank, Text};
use crate::event::Source;

pub(super) fn direction(state: &CallState, source: Source) -> &str {
    let call = &state.call;
    let has = |mark| call.has(mark);
    let by_leg = || {
        let legs = state.legs.values().filter_map(|leg| leg.text.get(&Text::Direction));
        legs.max().map_or("unknown", |ranked| ranked.1.as_str())
    };
    match source {
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
    }
}

/// VOIspeed: one extension calls and another one is called.
pub(super) fn is_between_extensions(state: &CallState) -> bool {
    let claims = |direction: &str| {
        let mut texts = state.legs.values().filter_map(|leg| leg.text.get(&Text::Direction));
        texts.any(|ranked| ranked.0 > Rank::Guess && ranked.1 == direction)
    };
    claims("in") && claims("out")
}

/// VOIspeed: a user calls, and no line to the outside is called.
pub(super) fn between_entities(state: &CallState) -> Option<&'static str> {
    let mut called = state.legs.keys().filter(|key| is_entity(key)).peekable();
    called.peek()?;
    let internal = calling_entity(state).is_some_and(is_person) && !called.any(|key| key.starts_with("2:"));
    internal.then_some("internal")
}

/// VOIspeed: type and id of the entity that calls.
pub(super) fn calling_entity(state: &CallState) -> Option<&str> {
    state.attributes.get("calling_entity").map(|ranked| ranked.1.as_str())
}

/// VOIspeed: whether a leg's key is an entity's type and id, and not an extension.
pub(super) fn is_entity(key: &str) -> bool {
    key.contains(':')
}

/// VOIspeed: whether an entity is a user or a user's device.
pub(super) fn is_person(entity: &str) -> bool {
    entity.starts_with("0:") || entity.starts_with("7:")
}
