//! Kazoo's B-legs that did not name their A-leg at first.
//!
//! The key of such a leg's messages is its own id, so it has a row of its own until something names its call: a later
//! message of the leg, a message of its A-leg, or a pivot request that says whom was dialled. From then on it is a leg
//! of that call. What comes later under its own key is taken up by deciding the same again.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::Told;
use super::lookup::{self, BETTER_BY};
use super::message::{Bond, CallLinked, End};
use super::recent::Recent;
use super::stirred::Stirred;
use crate::archive::Archive;
use crate::call::{CallState, Mark};
use crate::error::Error;
use crate::event::{Event, Id, Source, call_id};
use crate::rows::KeyedCall;

/// Legs without a call that are followed at the same time.
const ORPHANS: usize = 10_000;
/// Legs of which it is remembered who named them, should a message without the name come late.
const NAMED: usize = 50_000;
/// Legs that are decided about at once.
const AT_ONCE: usize = 24;
/// A leg of a leg of a leg: no more steps than this to the call.
const STEPS: usize = 8;

/// Whether a message may have to do with such a leg: those of A-legs and pivot requests only if they name one.
pub(super) fn concerns(call: &KeyedCall) -> bool {
    let marks = &call.state.call;
    !(marks.has(Mark::ALeg) || marks.has(Mark::Pivot)) || !evidence(call).is_empty()
}

/// A B-leg under its own key.
pub(super) fn is_orphan(call: &KeyedCall) -> bool {
    let CallState { call: track, legs, .. } = &*call.state;
    let a_leg_known = track.has(Mark::ALeg) || track.has(Mark::Pivot);
    track.has(Mark::BLeg) && !a_leg_known && legs.contains_key(&*call.key)
}

/// Which call a leg belongs to, and why.
#[derive(Clone, Debug, PartialEq)]
struct Named {
    /// The key of the call.
    key: Arc<str>,
    rule: &'static str,
    confidence: f64,
}

/// The legs that this call names, and what that says.
fn evidence(call: &KeyedCall) -> Vec<(&str, Named)> {
    let state = &call.state;
    let named = |rule, confidence| Named { key: Arc::clone(&call.key), rule, confidence };
    let attribute = |name: &str| state.attributes.get(name).map(|ranked| ranked.1.as_str());
    let legs = state.legs.keys().map(|leg| leg.as_str()).filter(|_| state.call.has(Mark::BLeg));
    let by_themselves = legs.map(|leg| (leg, named("other_leg", 1.0)));
    let by_a_leg = attribute("other_leg_call_id").filter(|_| state.call.has(Mark::ALeg));
    let by_a_leg = by_a_leg.map(|leg| (leg, named("a_leg", 0.9)));
    let dialled = attribute("dial_call_sid").map(|leg| (leg, named("dial_call_sid", 0.9)));
    by_themselves.chain(by_a_leg).chain(dialled).filter(|(leg, _)| *leg != &*call.key).collect()
}

/// Whether a leg belongs to a call by a decision made before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// A message does not tell: the archive is asked, once.
    Unknown,
    /// It does not.
    Alone,
    /// It does, so what is new of it belongs to that call.
    Linked,
}

/// A leg without a call of its own.
#[derive(Debug)]
struct Orphan {
    tenant: Arc<str>,
    source: Source,
    standing: Standing,
    stirred: Stirred,
}

impl Orphan {
    fn of(call: &KeyedCall) -> Orphan {
        let (tenant, source) = (Arc::clone(&call.tenant), call.source);
        Orphan { tenant, source, standing: Standing::Unknown, stirred: Stirred::default() }
    }

    /// Learns of its standing what is said.
    fn learn(&mut self, call: &KeyedCall, told: Told) {
        match (call.state.leg_of(), told) {
            (Some(_), _) => self.standing = Standing::Linked,
            (None, Told::ByArchive) => self.standing = Standing::Alone,
            (None, Told::ByMessage) => {}
        }
    }
}

/// What is known of legs that want a call.
#[derive(Debug)]
pub(super) struct Legs {
    orphans: Recent<Orphan>,
    named: Recent<Named>,
}

impl Default for Legs {
    fn default() -> Legs {
        Legs { orphans: Recent::new(ORPHANS), named: Recent::new(NAMED) }
    }
}

impl Legs {
    /// Takes up what a message, or a stored row, says.
    pub fn note(&mut self, call: &KeyedCall, told: Told, at: Instant) {
        for (leg, named) in evidence(call) {
            let id = call_id(&call.tenant, call.source, leg);
            let known = self.named.touch(&id, || named.clone());
            if named.confidence > known.confidence {
                *known = named;
            }
            if let Some(orphan) = self.orphans.get_mut(&id) {
                orphan.stirred.stir(at);
            }
        }
        if is_orphan(call) || self.orphans.get(&call.id).is_some() {
            let orphan = self.orphans.touch(&call.id, || Orphan::of(call));
            orphan.learn(call, told);
            orphan.stirred.stir(at);
        }
        while self.named.evict().is_some() {}
        while self.orphans.evict().is_some() {}
    }

    /// Legs that nobody named yet, by id.
    pub fn unnamed(&mut self) -> HashSet<Id> {
        let named = &self.named;
        let is_unnamed = |id: &str, orphan: &Orphan| orphan.standing != Standing::Linked && named.get(id).is_none();
        let without = self.orphans.iter_mut().filter(|(id, orphan)| is_unnamed(id, orphan));
        without.map(|(id, _)| id.clone()).collect()
    }

    /// How many legs are followed.
    pub fn len(&self) -> usize {
        self.orphans.len()
    }

    /// Legs that are to be decided or asked about now, each with who named it.
    fn due(&mut self, at: Instant) -> Vec<Case> {
        let mut due = Vec::new();
        for (id, orphan) in self.orphans.iter_mut() {
            if orphan.stirred.take_due(at) {
                let named = self.named.get(id).cloned();
                if named.is_some() || orphan.standing != Standing::Alone {
                    let (tenant, source) = (Arc::clone(&orphan.tenant), orphan.source);
                    due.push(Case { id: id.clone(), tenant, source, named });
                }
            }
        }
        due.sort_by(|left, right| left.id.cmp(&right.id));
        due
    }

    /// Decides about the legs that are due.
    pub async fn round(&mut self, archive: &Archive, at: Instant) {
        let due = self.due(at);
        for cases in due.chunks(AT_ONCE) {
            match decide_all(archive, cases).await {
                Ok(standings) => self.each(cases, |index, orphan| orphan.standing = standings[index]),
                Err(error) => {
                    tracing::warn!(%error, "cannot link legs to their calls; it will be tried again");
                    self.each(cases, |_, orphan| orphan.stirred.stir(Instant::now()));
                }
            }
        }
    }

    /// Changes the entries of these cases, as far as they are still followed.
    fn each(&mut self, cases: &[Case], change: impl Fn(usize, &mut Orphan)) {
        for (index, case) in cases.iter().enumerate() {
            if let Some(orphan) = self.orphans.get_mut(&case.id) {
                change(index, orphan);
            }
        }
    }
}

/// Whether this call names one of these legs.
pub(super) fn names_one_of(call: &KeyedCall, legs: &HashSet<Id>) -> bool {
    evidence(call).iter().any(|(leg, _)| legs.contains(&*call_id(&call.tenant, call.source, leg)))
}

/// A leg to be decided about.
#[derive(Clone, Debug)]
struct Case {
    id: Id,
    tenant: Arc<str>,
    source: Source,
    named: Option<Named>,
}

impl Case {
    fn id_of(&self, key: &str) -> Id {
        call_id(&self.tenant, self.source, key)
    }
}

/// Writes what is to be decided, and says how each leg stands then.
async fn decide_all(archive: &Archive, cases: &[Case]) -> Result<Vec<Standing>, Error> {
    let targets = cases.iter().filter_map(|case| case.named.as_ref().map(|named| case.id_of(&named.key)));
    let ids: HashSet<Id> = cases.iter().map(|case| case.id.clone()).chain(targets).collect();
    let mut known = lookup::calls(archive, &ids).await?;
    let mut standings = Vec::with_capacity(cases.len());
    for case in cases {
        let leg = lookup::call(archive, &case.id, &mut known).await?;
        let target = target(archive, case, &mut known).await?;
        standings.push(if target.is_some() { Standing::Linked } else { Standing::Alone });
        let Some((leg, target)) = leg.zip(target) else { continue };
        let events = decide(&leg, &target);
        if !events.is_empty() {
            archive.append_patiently(&events, None).await?;
            // The next decision rests on what this one made of them: two legs that name each other must not both go.
            let left = target.leaves.as_deref().map(|left| case.id_of(left));
            for id in [Some(&leg.id), Some(&target.call.id), left.as_ref()].into_iter().flatten() {
                known.remove(id);
            }
        }
    }
    Ok(standings)
}

/// Where a leg belongs, and where it was put before.
struct Target {
    call: KeyedCall,
    rule: String,
    confidence: f64,
    /// The key of the call that it leaves.
    leaves: Option<String>,
}

/// The call that this leg belongs to: the one that was named, unless the present one was named at least as well.
async fn target(archive: &Archive, case: &Case, known: &mut HashMap<Id, KeyedCall>) -> Result<Option<Target>, Error> {
    let Some(leg) = lookup::call(archive, &case.id, known).await? else { return Ok(None) };
    let present = leg.state.leg_of().map(|(key, decision)| (key.to_owned(), decision.clone()));
    let named = case.named.as_ref().filter(|_| present.is_some() || is_orphan(&leg));
    let named = match named {
        Some(named) => root(archive, case, &named.key, known).await?.map(|call| (call, named)),
        None => None,
    };
    match (named, present) {
        (Some((call, named)), None) => {
            Ok(Some(Target { call, rule: named.rule.to_owned(), confidence: named.confidence, leaves: None }))
        }
        (Some((call, named)), Some((key, decision)))
            if *call.key != *key && named.confidence >= decision.confidence + BETTER_BY =>
        {
            let (rule, confidence) = (named.rule.to_owned(), named.confidence);
            Ok(Some(Target { call, rule, confidence, leaves: Some(key) }))
        }
        (_, Some((key, decision))) => {
            let call = lookup::call(archive, &case.id_of(&key), known).await?;
            let same = |call| Target { call, rule: decision.rule, confidence: decision.confidence, leaves: None };
            Ok(call.map(same))
        }
        (None, None) => Ok(None),
    }
}

/// The call of this key, or, if that is a leg too, the call it belongs to; `None` if there is none or it is the leg.
async fn root(
    archive: &Archive,
    case: &Case,
    key: &str,
    known: &mut HashMap<Id, KeyedCall>,
) -> Result<Option<KeyedCall>, Error> {
    let mut id = case.id_of(key);
    for _ in 0..STEPS {
        let Some(call) = lookup::call(archive, &id, known).await?.filter(|call| call.id != case.id) else {
            return Ok(None);
        };
        match call.state.leg_of() {
            None => return Ok(Some(call)),
            Some((further, _)) => id = case.id_of(further),
        }
    }
    Ok(None)
}

/// The messages that put a leg where it belongs; none if it is there with all that is known of it.
fn decide(leg: &KeyedCall, target: &Target) -> Vec<Event> {
    let linked = |to: &str, about, state: Option<CallState>| CallLinked {
        source: leg.source,
        from: leg.key.to_string(),
        to: to.to_owned(),
        about,
        bond: Bond::Leg,
        rule: target.rule.clone(),
        confidence: target.confidence,
        leg: state.map(Box::new),
    };
    let mut events = Vec::new();
    if let Some(left) = &target.leaves {
        events.extend([End::To, End::From].map(|about| linked(left, about, None).event(&leg.tenant, false)));
        metrics::counter!("trunklog_call_unlinks_total", "rule" => target.rule.clone()).increment(1);
    }
    let (call, state) = (&target.call, leg.state.as_leg());
    if call.state.decided_leg(&leg.key) != Some(&state) {
        events.push(linked(&call.key, End::To, Some(state)).event(&leg.tenant, true));
    }
    if leg.state.leg_of().is_none_or(|(key, _)| *key != *call.key) {
        events.push(linked(&call.key, End::From, None).event(&leg.tenant, true));
        metrics::counter!("trunklog_call_links_total", "rule" => target.rule.clone()).increment(1);
        tracing::debug!(leg = %leg.id, call = %call.id, rule = %target.rule, "a leg found its call");
    }
    events
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::Rank;
    use crate::fact::CallRef;
    use crate::recording::message;

    const START: i64 = 1_767_323_045_000_000;

    fn keyed(key: &str, state: CallState) -> KeyedCall {
        KeyedCall {
            tenant: "acme".into(),
            source: Source::Kazoo,
            id: call_id("acme", Source::Kazoo, key),
            key: key.into(),
            day: 0,
            state: Arc::new(state),
        }
    }

    /// A B-leg's message under this key.
    fn b_leg(key: &str) -> KeyedCall {
        let mut state = CallState::default();
        state.call.mark(Mark::BLeg);
        state.leg("b").start(Rank::Message, START).mark(Mark::Started);
        keyed(key, state)
    }

    fn a_leg(other: &str) -> KeyedCall {
        let mut state = CallState::default();
        state.call.mark(Mark::ALeg).start(Rank::Message, START);
        state.attribute("other_leg_call_id", other);
        keyed("a", state)
    }

    fn put(leg: &mut KeyedCall, calls: &mut [&mut KeyedCall], events: &[Event], offset: u64) {
        for (index, event) in events.iter().enumerate() {
            let decoded = message::decode(event);
            let Some((CallRef::Key(key), mut state)) = decoded.fact.map(|(call, state)| (call, (*state).clone()))
            else {
                panic!("a link is about a call")
            };
            state.decided_at(crate::event::Offset(offset + index as u64));
            let call = calls.iter_mut().map(|call| &mut **call).chain([&mut *leg]).find(|call| *call.key == *key);
            Arc::make_mut(&mut call.expect("a known call").state).merge(state);
        }
    }

    fn to(call: &KeyedCall, leaves: Option<&str>) -> Target {
        let leaves = leaves.map(str::to_owned);
        Target { call: call.clone(), rule: "other_leg".to_owned(), confidence: 1.0, leaves }
    }

    #[test]
    fn whoever_names_a_leg_is_evidence() {
        let named = |call: &KeyedCall| -> Vec<(String, &'static str)> {
            evidence(call).into_iter().map(|(leg, named)| (leg.to_owned(), named.rule)).collect()
        };
        assert_eq!(named(&b_leg("a")), [("b".to_owned(), "other_leg")]);
        assert_eq!(named(&a_leg("b")), [("b".to_owned(), "a_leg")]);
        assert!(named(&b_leg("b")).is_empty());
        assert!(is_orphan(&b_leg("b")) && !is_orphan(&b_leg("a")) && !is_orphan(&a_leg("b")));
        assert!(concerns(&a_leg("b")) && concerns(&b_leg("b")) && !concerns(&a_leg("")));
    }

    #[test]
    fn a_leg_is_due_once_it_is_named_whatever_came_first() {
        let now = Instant::now();
        let later = now + Duration::from_secs(2);
        for order in [[b_leg("b"), b_leg("a")], [b_leg("a"), b_leg("b")]] {
            let mut legs = Legs::default();
            order.iter().for_each(|call| legs.note(call, Told::ByMessage, now));
            let due = legs.due(later);
            assert_eq!(due.len(), 1);
            assert_eq!((&*due[0].id, due[0].named.as_ref().map(|named| &*named.key)), (&*b_leg("b").id, Some("a")));
            assert!(legs.due(later).is_empty(), "and not again before it is heard of");
        }
        let mut alone = Legs::default();
        alone.note(&b_leg("b"), Told::ByArchive, now);
        assert!(alone.due(later).is_empty());
        assert_eq!(alone.unnamed().len(), 1);
        assert!(names_one_of(&b_leg("a"), &alone.unnamed()));
    }

    #[test]
    fn a_leg_met_by_a_message_is_asked_about_until_its_standing_is_known() {
        let now = Instant::now();
        let later = now + Duration::from_secs(2);
        let mut legs = Legs::default();
        for _ in 0..2 {
            legs.note(&b_leg("b"), Told::ByMessage, now);
            assert!(matches!(&*legs.due(later), [Case { named: None, .. }]));
        }
        legs.note(&b_leg("b"), Told::ByArchive, now);
        legs.note(&b_leg("b"), Told::ByMessage, now);
        assert!(legs.due(later).is_empty(), "the archive knows of no call");
        let (mut leg, mut call) = (b_leg("b"), a_leg("b"));
        let events = decide(&leg, &to(&call, None));
        put(&mut leg, &mut [&mut call], &events, 10);
        legs.note(&leg, Told::ByArchive, now);
        legs.note(&b_leg("b"), Told::ByMessage, now);
        assert_eq!(legs.due(later).len(), 1, "what is new belongs to its call");
        assert!(legs.unnamed().is_empty());
    }

    #[test]
    fn a_decision_is_made_once_and_again_when_the_leg_grew() {
        let (mut leg, mut call) = (b_leg("b"), a_leg("b"));
        let events = decide(&leg, &to(&call, None));
        assert_eq!(events.len(), 2);
        put(&mut leg, &mut [&mut call], &events, 10);
        assert_eq!(leg.state.leg_of().map(|(key, _)| key), Some("a"));
        assert!(decide(&leg, &to(&call, None)).is_empty(), "nothing is new");
        Arc::make_mut(&mut leg.state).leg("b").answer(Rank::Message, START + 5_000_000);
        let events = decide(&leg, &to(&call, None));
        assert_eq!(events.len(), 1, "only the call has something to learn");
        put(&mut leg, &mut [&mut call], &events, 20);
        assert_eq!(call.state.whole().legs["b"].answer.map(|answer| answer.1), Some(START + 5_000_000));
        assert!(decide(&leg, &to(&call, None)).is_empty());
    }

    #[test]
    fn a_leg_that_moves_leaves_nothing_behind() {
        let (mut leg, mut first) = (b_leg("b"), a_leg("b"));
        let mut second = keyed("c", (*a_leg("b").state).clone());
        let events = decide(&leg, &to(&first, None));
        put(&mut leg, &mut [&mut first], &events, 10);
        let events = decide(&leg, &to(&second, Some("a")));
        assert_eq!(events.len(), 4);
        put(&mut leg, &mut [&mut first, &mut second], &events, 20);
        assert_eq!(leg.state.leg_of().map(|(key, _)| key), Some("c"));
        assert!(first.state.whole().legs.is_empty() && second.state.whole().legs.contains_key("b"));
        assert!(decide(&leg, &to(&second, None)).is_empty());
    }
}
