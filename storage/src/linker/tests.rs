//! The linker on an archive, as it goes on when nothing of what it decided is remembered.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::kazoo::Legs;
use super::{Told, lookup, may_want_a_link};
use crate::archive::{Archive, ArchiveConfig, Arrivals, Message};
use crate::call::{CallState, Mark, Rank, Track};
use crate::event::{Event, Micros, Source, call_id};
use crate::fact::{Decoded, Decoder};
use crate::recording::message;

const START: Micros = 1_767_323_045_000_000;
const SECOND: Micros = 1_000_000;

/// Understands states as JSON, each about the call that is the message's subject.
struct Spoken;

impl Decoder for Spoken {
    fn decode(&self, event: &Event) -> Decoded {
        let state: CallState = serde_json::from_slice(&event.payload).expect("a state");
        let mut decoded = Decoded::new("spoken", &[event.id.as_bytes()]);
        if let Some(key) = event.subject.as_deref() {
            decoded.about(key, state);
        }
        decoded
    }

    fn e164(&self, _: &str, _: Source, _: &str) -> Option<String> {
        None
    }

    fn timeout(&self, _: &str, _: Source, _: bool) -> Micros {
        Micros::MAX
    }
}

/// An archive, and what its linker is told of it.
struct Bench {
    archive: Archive,
    arrivals: Arrivals<CallState>,
    _directory: TempDir,
}

impl Bench {
    async fn start() -> Bench {
        let directory = tempfile::tempdir().expect("temporary directory");
        let config = ArchiveConfig {
            segment_bytes: 20 << 20,
            min_free_bytes: 0,
            fold_interval: Duration::from_secs(3600),
            ..ArchiveConfig::new(directory.path())
        };
        let archive = Archive::open(config, Arc::new(Spoken)).await.expect("the archive opens");
        let arrivals = archive.subscribe_calls(may_want_a_link);
        Bench { archive, arrivals, _directory: directory }
    }

    /// A message comes.
    async fn hear(&self, key: &str, state: &CallState) {
        let event = Event { source: Source::Kazoo, ..message::event("acme", "spoken", Some(key), state) };
        self.archive.append(vec![Message::new(event, &Spoken)]).await.expect("stored");
    }

    /// Everything that came is told, and quiet sets in.
    async fn decide(&mut self, legs: &mut Legs) {
        while let Some(call) = self.arrivals.try_next() {
            legs.note(&call, Told::ByMessage, Instant::now());
        }
        legs.round(&self.archive, Instant::now() + Duration::from_secs(2)).await;
    }

    /// What the call `a` knows of its leg `b`.
    async fn copy(&self) -> Option<CallState> {
        let id = call_id("acme", Source::Kazoo, "a");
        let found = lookup::calls(&self.archive, &HashSet::from([id.clone()])).await.expect("readable");
        found.get(&id)?.state.decided_leg("b").cloned()
    }

    /// When the leg ended, as its call knows it.
    async fn end(&self) -> Option<Micros> {
        Some(self.copy().await?.legs["b"].end?.1)
    }
}

fn a_leg() -> CallState {
    let mut state = CallState::default();
    state.call.mark(Mark::ALeg).mark(Mark::Started).start(Rank::Message, START);
    state
}

fn b_leg(says: impl Fn(&mut Track)) -> CallState {
    let mut state = CallState::default();
    state.call.mark(Mark::BLeg);
    says(state.leg("b"));
    state
}

fn ended(second: i64) -> CallState {
    b_leg(|leg| {
        leg.end(Rank::Message, START + second * SECOND).mark(Mark::Ended);
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn late_messages_of_a_leg_reach_its_call_after_all_is_forgotten() {
    let mut bench = Bench::start().await;
    let started = b_leg(|leg| {
        leg.start(Rank::Message, START).mark(Mark::Started);
    });
    let answered = b_leg(|leg| {
        leg.answer(Rank::Message, START + 5 * SECOND);
    });
    bench.hear("a", &a_leg()).await;
    bench.hear("b", &started).await;
    bench.hear("a", &answered).await;
    bench.decide(&mut Legs::default()).await;
    assert!(bench.copy().await.is_some(), "the leg found its call");
    bench.archive.flush().await.expect("folded");
    while bench.arrivals.try_next().is_some() {}
    let mut forgetful = Legs::default();
    for second in [40, 50] {
        bench.hear("b", &ended(second)).await;
        bench.decide(&mut forgetful).await;
        assert_eq!(bench.end().await, Some(START + second * SECOND), "the call has what its leg said last");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leg_that_belongs_to_nothing_is_asked_about_and_left_alone() {
    let mut bench = Bench::start().await;
    let mut legs = Legs::default();
    bench.hear("a", &a_leg()).await;
    bench.hear("b", &ended(40)).await;
    let before = bench.archive.visible();
    bench.decide(&mut legs).await;
    assert_eq!((bench.archive.visible(), bench.copy().await), (before, None), "nothing is written");
    // As soon as its call is named, it is linked all the same.
    bench.hear("a", &ended(40)).await;
    bench.decide(&mut legs).await;
    assert_eq!(bench.end().await, Some(START + 40 * SECOND));
}
