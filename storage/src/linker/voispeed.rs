//! VOIspeed's several views of one conversation, and calls that name another one by its id (transfers): rows that are
//! to name each other.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::lookup::{self, BETTER_BY};
use super::message::{Bond, CallLinked, End};
use super::recent::Recent;
use super::sighting::{Fit, Side, Sighting};
use super::stirred::Stirred;
use crate::archive::Archive;
use crate::call::{CallState, Tie};
use crate::error::Error;
use crate::event::{Event, Id, Micros, Source, call_id};
use crate::rows::KeyedCall;

/// Calls that are remembered to find their counterparts.
const REMEMBERED: usize = 20_000;
/// An extension may ring this long after its call reached the system, or before the system said so.
const BEFORE: Micros = 3600 * 1_000_000;
const AFTER: Micros = 60 * 1_000_000;
/// Counterparts of one call that are looked at in full.
const CANDIDATES: usize = 8;
/// Calls that are remembered to name one id: some systems send the same one with every call.
const NAMING: usize = 64;
/// Calls that are decided about at once, with their counterparts no more than a condition lists.
const AT_ONCE: usize = 6;
/// The rules by which two views are one conversation; `refer` is for two conversations.
const SAME: [&str; 2] = ["id", "numbers"];

#[derive(Debug)]
struct Seen {
    tenant: Arc<str>,
    state: CallState,
    sighting: Sighting,
    stirred: Stirred,
}

/// The calls of late.
#[derive(Debug)]
pub(super) struct Book {
    calls: Recent<Seen>,
    /// Tenant, begin, id.
    by_time: BTreeSet<(Arc<str>, Micros, Id)>,
    /// By the id of a call that was named: those that name it, at most [`NAMING`].
    named_by: Recent<BTreeSet<Id>>,
}

impl Default for Book {
    fn default() -> Book {
        Book { calls: Recent::new(REMEMBERED), by_time: BTreeSet::new(), named_by: Recent::new(REMEMBERED) }
    }
}

impl Book {
    /// Takes up what a message, or a stored row, says.
    pub fn note(&mut self, call: &KeyedCall, at: Instant) {
        let make = || Seen {
            tenant: Arc::clone(&call.tenant),
            state: CallState::default(),
            sighting: Sighting::of(&call.key, &CallState::default()),
            stirred: Stirred::default(),
        };
        let seen = self.calls.touch(&call.id, make);
        let before = seen.sighting.begun;
        seen.state.merge((*call.state).clone());
        seen.sighting = Sighting::of(&call.key, &seen.state);
        // Our own decisions are no news of the call.
        if call.state.seen.is_some() {
            seen.stirred.stir(at);
        }
        let entry = |begun| (Arc::clone(&call.tenant), begun, call.id.clone());
        if before != seen.sighting.begun {
            if let Some(begun) = before {
                self.by_time.remove(&entry(begun));
            }
            if let Some(begun) = seen.sighting.begun {
                self.by_time.insert(entry(begun));
            }
        }
        for name in seen.sighting.ids.union(&seen.sighting.refers) {
            let id = call_id(&call.tenant, call.source, name);
            let naming = self.named_by.touch(&id, BTreeSet::new);
            naming.insert(call.id.clone());
            if naming.len() > NAMING {
                // Ids are digests: whichever goes is one at random.
                naming.pop_first();
            }
        }
        while self.named_by.evict().is_some() {}
        while let Some((id, gone)) = self.calls.evict() {
            if let Some(begun) = gone.sighting.begun {
                self.by_time.remove(&(gone.tenant, begun, id));
            }
        }
    }

    /// How many calls are remembered.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Calls to be decided about now, each with those that it may belong to.
    fn due(&mut self, at: Instant) -> BTreeMap<Id, BTreeSet<Id>> {
        let due: Vec<Id> = {
            let due = self.calls.iter_mut().filter_map(|(id, seen)| seen.stirred.take_due(at).then(|| id.clone()));
            due.collect()
        };
        let mut cases: BTreeMap<Id, BTreeSet<Id>> = BTreeMap::new();
        for id in due {
            for (from, to) in self.pairs(&id, at) {
                let counterparts = cases.entry(from).or_default();
                if counterparts.len() < CANDIDATES {
                    counterparts.insert(to);
                }
            }
        }
        cases
    }

    /// Pairs with this call in which something is to be decided, as far as memory tells. The call that is linked is
    /// the user's, or the one that names the other.
    fn pairs(&self, id: &Id, at: Instant) -> Vec<(Id, Id)> {
        let Some(seen) = self.calls.get(id) else { return Vec::new() };
        let named = seen.sighting.ids.union(&seen.sighting.refers);
        let named = named.map(|name| call_id(&seen.tenant, Source::Voispeed, name));
        let naming = self.named_by.get(id).into_iter().flatten().cloned();
        let others: BTreeSet<Id> = named.chain(naming).chain(self.around(seen)).collect();
        let mut pairs = Vec::new();
        for other in others.into_iter().filter(|other| other != id) {
            // One that is still being told about will bring this one up itself.
            let Some(counterpart) = self.calls.get(&other).filter(|other| other.stirred.is_settled(at)) else {
                continue;
            };
            for (from, to, ids) in [(seen, counterpart, (id, &other)), (counterpart, seen, (&other, id))] {
                if wants(&from.state, &from.sighting, &to.sighting).is_some() {
                    pairs.push((ids.0.clone(), ids.1.clone()));
                }
            }
        }
        pairs
    }

    /// Calls of the tenant that began when a counterpart of this one may have.
    fn around(&self, seen: &Seen) -> Vec<Id> {
        let Some(begun) = seen.sighting.begun else { return Vec::new() };
        let (before, after) = match seen.sighting.side {
            Side::User => (BEFORE, AFTER),
            Side::System => (AFTER, BEFORE),
            Side::Both => return Vec::new(),
        };
        let bound = |at: Micros, id: &str| (Arc::clone(&seen.tenant), at, Id::from(id));
        let range = bound(begun.saturating_sub(before), "")..=bound(begun.saturating_add(after), "~");
        self.by_time.range(range).map(|(_, _, id)| id.clone()).collect()
    }

    /// Decides about the calls that are due.
    pub async fn round(&mut self, archive: &Archive, at: Instant) {
        let due: Vec<(Id, BTreeSet<Id>)> = self.due(at).into_iter().collect();
        for cases in due.chunks(AT_ONCE) {
            if let Err(error) = decide_all(archive, cases).await {
                tracing::warn!(%error, "cannot link calls; it will be tried again");
                for (id, _) in cases {
                    if let Some(seen) = self.calls.get_mut(id) {
                        seen.stirred.stir(Instant::now());
                    }
                }
            }
        }
    }
}

/// The present counterpart of a user's call, and how sure that is.
fn counterpart(state: &CallState) -> Option<(&str, f64)> {
    let same = state
        .decided
        .iter()
        .filter(|(_, decision)| matches!(decision.tie, Tie::Related) && SAME.contains(&decision.rule.as_str()));
    same.max_by_key(|(_, decision)| decision.at).map(|(key, decision)| (key.as_str(), decision.confidence))
}

/// What is to be decided about a call and another one, given what was.
fn wants(state: &CallState, from: &Sighting, to: &Sighting) -> Option<Fit> {
    let related = |key: &str| state.decided.get(key).is_some_and(|decision| matches!(decision.tie, Tie::Related));
    if from.refers.contains(&to.key) {
        return (!related(&to.key)).then_some(Fit { rule: "refer", confidence: 1.0 });
    }
    let fit = from.fit(to)?;
    match counterpart(state) {
        Some((key, confidence)) if key == to.key || fit.confidence < confidence + BETTER_BY => None,
        _ => Some(fit),
    }
}

async fn decide_all(archive: &Archive, cases: &[(Id, BTreeSet<Id>)]) -> Result<(), Error> {
    let ids: HashSet<Id> = cases.iter().flat_map(|(id, others)| std::iter::once(id).chain(others)).cloned().collect();
    let known = lookup::calls(archive, &ids).await?;
    let mut events = Vec::new();
    for (id, others) in cases {
        if let Some(call) = known.get(id) {
            events.extend(decide(call, others, &known));
        }
    }
    if events.is_empty() { Ok(()) } else { archive.append_patiently(&events, None).await }
}

/// The messages that link a call to those of the others that it refers to, and to the one that fits it best.
fn decide(call: &KeyedCall, others: &BTreeSet<Id>, known: &HashMap<Id, KeyedCall>) -> Vec<Event> {
    let from = Sighting::of(&call.key, &call.state);
    let mut best: Option<(&KeyedCall, Fit)> = None;
    let mut events = Vec::new();
    for other in others.iter().filter_map(|id| known.get(id)).filter(|other| other.tenant == call.tenant) {
        match wants(&call.state, &from, &Sighting::of(&other.key, &other.state)) {
            Some(fit) if fit.rule == "refer" => events.extend(linked(call, &other.key, fit, true)),
            Some(fit) => {
                // On equal fits the smaller key, so that the decision does not hang on the order of the search.
                let better = best.as_ref().is_none_or(|(known, best)| {
                    let order = fit.confidence.total_cmp(&best.confidence);
                    order.then_with(|| known.key.cmp(&other.key)).is_gt()
                });
                if better {
                    best = Some((other, fit));
                }
            }
            None => {}
        }
    }
    if let Some((other, fit)) = best {
        if let Some((left, confidence)) = counterpart(&call.state) {
            events.extend(linked(call, left, Fit { rule: "better", confidence }, false));
        }
        events.extend(linked(call, &other.key, fit, true));
    }
    events
}

/// A decision: a message for each of the two calls.
fn linked(call: &KeyedCall, to: &str, fit: Fit, holds: bool) -> [Event; 2] {
    let counted = if holds { "trunklog_call_links_total" } else { "trunklog_call_unlinks_total" };
    metrics::counter!(counted, "rule" => fit.rule).increment(1);
    tracing::debug!(call = %call.id, rule = fit.rule, confidence = fit.confidence, holds, "decided about two calls");
    [End::From, End::To].map(|about| {
        let linked = CallLinked {
            source: call.source,
            from: call.key.to_string(),
            to: to.to_owned(),
            about,
            bond: Bond::Related,
            rule: fit.rule.to_owned(),
            confidence: fit.confidence,
            leg: None,
        };
        linked.event(&call.tenant, holds)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::{Mark, Rank, Text};
    use crate::event::Offset;
    use crate::fact::CallRef;
    use crate::recording::message;

    const SECOND: Micros = 1_000_000;
    const START: Micros = 1_767_323_045 * SECOND;

    fn keyed(key: &str, mut state: CallState) -> KeyedCall {
        state.delivered(START, Offset(1));
        KeyedCall {
            tenant: "acme".into(),
            source: Source::Voispeed,
            id: call_id("acme", Source::Voispeed, key),
            key: key.into(),
            day: 0,
            state: Arc::new(state),
        }
    }

    fn user(key: &str) -> KeyedCall {
        let mut state = CallState::default();
        state.call.text(Text::Direction, Rank::Message, "in").text(Text::From, Rank::Message, "0212345678");
        state.leg("35").start(Rank::Message, START).mark(Mark::Started);
        keyed(key, state)
    }

    /// The system's view; without an extension it fits less well.
    fn system(key: &str, extension: &str) -> KeyedCall {
        let mut state = CallState::default();
        state.call.start(Rank::Message, START).mark(Mark::Started).text(Text::From, Rank::Message, "0212345678");
        state.leg("0:12").start(Rank::Message, START).text(Text::Endpoint, Rank::Message, extension);
        keyed(key, state)
    }

    fn others(calls: &[&KeyedCall]) -> (BTreeSet<Id>, HashMap<Id, KeyedCall>) {
        let ids = calls.iter().map(|call| call.id.clone()).collect();
        (ids, calls.iter().map(|call| (call.id.clone(), (*call).clone())).collect())
    }

    /// Lets the calls learn what was decided about them.
    fn put(events: &[Event], offset: u64, calls: &mut [&mut KeyedCall]) {
        for (index, event) in events.iter().enumerate() {
            let Some((CallRef::Key(key), mut state)) =
                message::decode(event).fact.map(|(call, state)| (call, (*state).clone()))
            else {
                panic!("a link is a fact")
            };
            state.decided_at(Offset(offset + index as u64));
            for call in calls.iter_mut().filter(|call| *call.key == *key) {
                Arc::make_mut(&mut call.state).merge(state.clone());
            }
        }
    }

    #[test]
    fn two_views_are_due_together_once_both_are_quiet() {
        let now = Instant::now();
        let mut book = Book::default();
        book.note(&user("4711"), now);
        book.note(&system("5500", "35"), now + Duration::from_millis(900));
        assert!(book.due(now + Duration::from_millis(1500)).is_empty(), "the system still tells");
        let due = book.due(now + Duration::from_secs(2));
        let expected = BTreeMap::from([(user("4711").id, BTreeSet::from([system("5500", "").id]))]);
        assert_eq!(due, expected);
        assert!(book.due(now + Duration::from_secs(9)).is_empty());
    }

    #[test]
    fn the_best_is_taken_once_and_given_up_for_a_better_one() {
        let (mut call, mut vague, mut exact) = (user("4711"), system("5499", ""), system("5500", "35"));
        let (ids, known) = others(&[&vague]);
        let events = decide(&call, &ids, &known);
        assert_eq!(events.len(), 2);
        put(&events, 10, &mut [&mut call, &mut vague]);
        assert_eq!(counterpart(&call.state).map(|(key, _)| key), Some("5499"));
        assert!(vague.state.related_keys().contains("4711"), "both name each other");
        assert!(decide(&call, &ids, &known).is_empty(), "nothing is decided twice");
        let (ids, known) = others(&[&vague, &exact]);
        let events = decide(&call, &ids, &known);
        assert_eq!(events.len(), 4);
        put(&events, 20, &mut [&mut call, &mut vague, &mut exact]);
        assert_eq!(counterpart(&call.state).map(|(key, _)| key), Some("5500"));
        assert!(vague.state.related_keys().is_empty() && exact.state.related_keys().contains("4711"));
        let (ids, known) = others(&[&vague, &exact]);
        assert!(decide(&call, &ids, &known).is_empty());
    }

    #[test]
    fn a_transfer_names_its_origin_and_the_origin_learns_of_it() {
        let now = Instant::now();
        let (mut call, mut origin) = (system("901", "35"), system("900", "36"));
        Arc::make_mut(&mut call.state).related.insert("900".to_owned());
        for order in [[&call, &origin], [&origin, &call]] {
            let mut book = Book::default();
            order.iter().for_each(|call| book.note(call, now));
            let due = book.due(now + Duration::from_secs(2));
            assert_eq!(due, BTreeMap::from([(call.id.clone(), BTreeSet::from([origin.id.clone()]))]));
        }
        let (ids, known) = others(&[&origin]);
        let events = decide(&call, &ids, &known);
        put(&events, 10, &mut [&mut call, &mut origin]);
        assert!(origin.state.related_keys().contains("901"));
        assert!(decide(&call, &ids, &known).is_empty());
    }

    #[test]
    fn what_is_forgotten_leaves_no_trace() {
        let mut book = Book { calls: Recent::new(1), ..Book::default() };
        book.note(&user("4711"), Instant::now());
        book.note(&user("4712"), Instant::now());
        assert_eq!((book.len(), book.by_time.len()), (1, 1));
    }

    #[test]
    fn an_id_that_every_call_names_takes_no_more_room_than_others() {
        let mut book = Book::default();
        for number in 0..NAMING + 10 {
            let mut call = user(&format!("{}", 4711 + number));
            Arc::make_mut(&mut call.state).attribute("call_id", "0");
            book.note(&call, Instant::now());
        }
        let named = call_id("acme", Source::Voispeed, "0");
        assert_eq!((book.len(), book.named_by.get(&named).map(BTreeSet::len)), (NAMING + 10, Some(NAMING)));
    }
}
