//! What the linker needs to know of one VOIspeed call, and how well two of them fit: pure functions of their states.
//!
//! One conversation is seen up to three times: by each extension (user events), by the system (SSN events, under the
//! communication's id) and in a report. Where the ids are the same it is one call; where they are not, the parties and
//! the times tell.

use std::collections::BTreeSet;

use super::numbers::are_same;
use crate::call::{CallState, Rank, Stamp, Text, Track};
use crate::event::Micros;

/// Less than this is no link.
const LEAST: f64 = 0.6;
/// Two sightings of one moment lie no further apart.
const NEAR: Micros = 5_000_000;
/// Ids are used again: the same id means the same call within this time only.
const SAME_ID: Micros = 12 * 3600 * 1_000_000;
/// The attributes in which a user event may carry the communication's id.
const IDS: [&str; 3] = ["call_id", "callid", "entity_call_id"];

/// Whose view of a conversation a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// That of one or more extensions.
    User,
    /// The system's, or a report's.
    System,
    /// Both have the same id: nothing is to be linked.
    Both,
}

/// One call as it was seen.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sighting {
    pub side: Side,
    pub key: String,
    /// When it began, as far as anything says so.
    pub begun: Option<Micros>,
    /// Keys that it names as the same conversation's.
    pub ids: BTreeSet<String>,
    /// Keys that it names as another call's: transfers.
    pub refers: BTreeSet<String>,
    direction: Option<String>,
    from: Option<String>,
    to: Option<String>,
    own: Option<String>,
    /// Extensions that took part, as far as they are known as such.
    extensions: BTreeSet<String>,
    starts: Vec<Micros>,
    answers: Vec<Micros>,
}

/// What speaks for two calls being one conversation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fit {
    /// `id` (one names the other) or `numbers` (number, extension and time).
    pub rule: &'static str,
    /// From 0 to 1.
    pub confidence: f64,
}

/// An entity of the system is `type:id`, an extension has no type.
fn is_entity(leg: &str) -> bool {
    leg.contains(':')
}

impl Sighting {
    /// What this call's state says.
    pub fn of(key: &str, state: &CallState) -> Sighting {
        let users = state.legs.keys().any(|leg| !is_entity(leg));
        let system = state.legs.keys().any(|leg| is_entity(leg)) || state.attributes.contains_key("calling_entity");
        let side = match (users, system) {
            (true, true) => Side::Both,
            (true, false) => Side::User,
            (false, _) => Side::System,
        };
        let tracks = || std::iter::once(&state.call).chain(state.legs.values());
        let text = |field| state.call.get(field).map(str::to_owned);
        let attribute = |name: &&str| state.attributes.get(*name).map(|ranked| ranked.1.to_string());
        let ids = IDS.iter().filter_map(attribute).filter(|id| side == Side::User && *id != key).collect();
        let starts = times(tracks().flat_map(|track| [track.start, track.ringing]));
        Sighting {
            side,
            key: key.to_owned(),
            begun: starts.iter().min().copied().or(state.seen.map(|seen| seen.first_received_at)),
            ids,
            refers: state.related.clone(),
            direction: text(Text::Direction),
            from: text(Text::From),
            to: text(Text::To),
            own: text(Text::OwnNumber),
            extensions: extensions(state, side),
            starts,
            answers: times(tracks().map(|track| track.answer)),
        }
    }

    /// How well a call as extensions saw it fits one as the system saw it; `None` if it does not.
    pub fn fit(&self, system: &Sighting) -> Option<Fit> {
        if self.side != Side::User || system.side != Side::System {
            return None;
        }
        let apart = (self.begun? - system.begun?).abs();
        if self.ids.contains(&system.key) && apart <= SAME_ID {
            return Some(Fit { rule: "id", confidence: 1.0 });
        }
        if !self.same_number(system)? {
            return None;
        }
        let extension = match self.same_extension(system) {
            Some(true) => 0.25,
            Some(false) => return None,
            None => 0.0,
        };
        let (start, answer) = (near(&self.starts, &system.starts), near(&self.answers, &system.answers));
        let time = match (start, answer) {
            (true, true) => 0.35,
            (true, false) => 0.3,
            (false, true) => 0.2,
            (false, false) => return None,
        };
        let confidence: f64 = 0.35 + extension + time;
        (confidence >= LEAST).then_some(Fit { rule: "numbers", confidence })
    }

    /// Whether the other party is the same; `None` if one of the two does not know it.
    fn same_number(&self, system: &Sighting) -> Option<bool> {
        let (ours, theirs): (_, Vec<&String>) = match self.direction.as_deref()? {
            "in" => (&self.from, system.from.iter().collect()),
            "out" => (&self.to, system.to.iter().collect()),
            _ => (&self.to, system.to.iter().chain(&system.from).collect()),
        };
        let ours = ours.as_deref()?;
        (!theirs.is_empty()).then(|| theirs.into_iter().any(|theirs| are_same(ours, theirs)))
    }

    /// Whether an extension of ours took part; `None` if the system names entities by their ids only.
    fn same_extension(&self, system: &Sighting) -> Option<bool> {
        let parties = [&system.from, &system.to, &system.own].into_iter().flatten();
        let mut named = system.extensions.iter().chain(parties);
        if self.extensions.is_empty() {
            return None;
        }
        if named.any(|extension| self.extensions.contains(extension)) {
            return Some(true);
        }
        if system.extensions.is_empty() { None } else { Some(false) }
    }
}

/// Extensions by which its people are known: of users the legs' keys, of entities their numbers, not their ids.
fn extensions(state: &CallState, side: Side) -> BTreeSet<String> {
    if side != Side::System {
        return state.legs.keys().filter(|leg| !is_entity(leg) && !leg.is_empty()).map(ToString::to_string).collect();
    }
    let known = |track: &Track| {
        let endpoint = track.text.get(&Text::Endpoint)?;
        (endpoint.0 > Rank::Guess).then(|| endpoint.1.to_string())
    };
    std::iter::once(&state.call).chain(state.legs.values()).filter_map(known).collect()
}

/// Times that somebody claimed; a guess at one proves nothing.
fn times(stamps: impl Iterator<Item = Option<Stamp>>) -> Vec<Micros> {
    stamps.flatten().filter(|stamp| stamp.0 > Rank::Guess).map(|stamp| stamp.1).collect()
}

fn near(ours: &[Micros], theirs: &[Micros]) -> bool {
    ours.iter().any(|one| theirs.iter().any(|other| (one - other).abs() <= NEAR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Mark;

    const SECOND: Micros = 1_000_000;
    const START: Micros = 1_767_323_045 * SECOND;

    fn user(ext: &str, number: &str, at: Micros) -> CallState {
        let mut state = CallState::default();
        state.call.text(Text::Direction, Rank::Message, "in").text(Text::From, Rank::Message, number);
        state.call.text(Text::To, Rank::Guess, ext);
        state.leg(ext).start(Rank::Message, at).mark(Mark::Started).answer(Rank::Message, at + 9 * SECOND);
        state
    }

    fn system(ext: &str, number: &str, at: Micros) -> CallState {
        let mut state = CallState::default();
        state.call.start(Rank::Message, at).mark(Mark::Started);
        state.call.text(Text::From, Rank::Message, number).text(Text::To, Rank::Message, "073333655434");
        state.attribute("calling_entity", "2:3");
        let leg = state.leg("0:12");
        leg.start(Rank::Message, at + 2 * SECOND).mark(Mark::Started).answer(Rank::Message, at + 10 * SECOND);
        leg.text(Text::Endpoint, Rank::Receipt, ext).text(Text::Endpoint, Rank::Guess, "12");
        state
    }

    fn fitted(user: &CallState, system: &CallState) -> Option<(&'static str, i64)> {
        let fit = Sighting::of("4711", user).fit(&Sighting::of("5500", system))?;
        Some((fit.rule, (fit.confidence * 100.0).round() as i64))
    }

    #[test]
    fn number_extension_and_time_count_together() {
        let seen = user("35", "0212345678", START);
        assert_eq!(fitted(&seen, &system("35", "+390212345678", START)), Some(("numbers", 95)));
        assert_eq!(fitted(&seen, &system("", "0212345678", START)), Some(("numbers", 70)));
        assert_eq!(fitted(&seen, &system("36", "0212345678", START)), None, "somebody else's");
        assert_eq!(fitted(&seen, &system("35", "0212345679", START)), None, "from another number");
        assert_eq!(fitted(&seen, &system("35", "0212345678", START + 3600 * SECOND)), None, "at another time");
        assert_eq!(fitted(&seen, &system("35", "", START)), None, "from nobody knows where");
        // The caller waited in an IVR before the extension rang: only ringing and answer agree.
        let waited = system("35", "0212345678", START - 2 * SECOND);
        assert!(fitted(&seen, &waited).is_some());
    }

    #[test]
    fn an_id_tells_whatever_the_numbers_say() {
        let mut seen = user("35", "0212345678", START);
        seen.attribute("call_id", "5500");
        assert_eq!(fitted(&seen, &system("36", "1", START + 60 * SECOND)), Some(("id", 100)));
        assert_eq!(fitted(&seen, &system("36", "1", START + 24 * 3600 * SECOND)), None, "ids are used again");
    }

    #[test]
    fn views_of_one_side_are_not_linked() {
        let (one, other) = (user("35", "0212345678", START), system("35", "0212345678", START));
        assert_eq!(fitted(&one, &one), None);
        assert_eq!(fitted(&other, &other), None);
        let mut both = one.clone();
        both.merge(other.clone());
        assert_eq!(Sighting::of("1", &both).side, Side::Both);
        assert_eq!(fitted(&both, &other), None);
    }
}
