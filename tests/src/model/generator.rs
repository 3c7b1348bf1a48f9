//! Messages without end, from a seed: few calls on few days, many of them under way at once, told in order and out of
//! order, twice, late, after their end, on another day than their own, and not at all.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use trunklog_storage::event::{Event, Micros, Source};
use trunklog_storage::sorted_map::SortedMap;

use super::scripts::{self, Call, Draft, Recorded, chance, one_of};

/// 2026-01-02T21:30:00Z: midnight comes soon.
const EVENING: Micros = 1_767_389_400_000_000;
const SECOND: Micros = 1_000_000;
const HOUR: Micros = 3600 * SECOND;
/// So many calls are told at the same time.
const AT_ONCE: usize = 10;
/// A header as long as this fills a segment of the log with few messages.
const FILLER_BYTES: usize = 900_000;

struct Told {
    call: Call,
    untold: Vec<Draft>,
}

/// The messages of a seed.
pub struct Generator {
    dice: StdRng,
    clock: Micros,
    serial: u64,
    calls: Vec<Told>,
    recordings: Vec<Recorded>,
    sent: Vec<Event>,
}

impl Generator {
    /// The same messages for the same seed and the same questions.
    pub fn new(seed: u64) -> Generator {
        let dice = StdRng::seed_from_u64(seed);
        Generator { dice, clock: EVENING, serial: 0, calls: Vec::new(), recordings: Vec::new(), sent: Vec::new() }
    }

    /// So many messages as they come in one after the other.
    pub fn batch(&mut self, count: usize) -> Vec<Event> {
        (0..count).map(|_| self.message()).collect()
    }

    /// So many long ones.
    pub fn long(&mut self, count: usize) -> Vec<Event> {
        let mut events = self.batch(count);
        for event in &mut events {
            Arc::make_mut(&mut event.headers).insert("x-filler".into(), "x".repeat(FILLER_BYTES).into());
        }
        events
    }

    /// These again, as a sender repeats what was not acknowledged.
    pub fn again(&mut self, events: &[Event]) -> Vec<Event> {
        events.iter().map(|event| self.repeated(event.clone())).collect()
    }

    fn message(&mut self) -> Event {
        self.tick();
        let event = match self.dice.random_range(0..100) {
            0..12 if !self.sent.is_empty() => self.delivered_twice(),
            12..22 if !self.calls.is_empty() => self.afterwards(),
            22..28 if !self.calls.is_empty() => self.about_recordings(),
            28..30 => {
                let source = self.any_source();
                let draft = scripts::gibberish(&mut self.dice, source);
                let tenant = self.any_tenant();
                self.event(tenant, draft)
            }
            _ => self.of_a_call(),
        };
        self.sent.push(event.clone());
        event
    }

    /// Mostly moments pass, sometimes hours, rarely more than the time in which repeats are known.
    fn tick(&mut self) {
        self.clock += match self.dice.random_range(0..1000) {
            0..400 => self.dice.random_range(1..SECOND),
            400..950 => self.dice.random_range(SECOND..600 * SECOND),
            950..997 => self.dice.random_range(HOUR..6 * HOUR),
            _ => 8 * 24 * HOUR,
        };
    }

    fn delivered_twice(&mut self) -> Event {
        let any = self.dice.random_range(0..self.sent.len());
        let index = if chance(&mut self.dice, 50) { self.sent.len() - 1 } else { any };
        self.repeated(self.sent[index].clone())
    }

    /// Another delivery has another id and receipt, unless the sender gave it its id.
    fn repeated(&mut self, mut event: Event) -> Event {
        self.tick();
        let near = chance(&mut self.dice, 50);
        event.received_at = if near { event.received_at + self.dice.random_range(0..3 * SECOND) } else { self.clock };
        if !event.structured {
            event.id = self.new_id().into();
        }
        event
    }

    /// Something about a call that may be long over.
    fn afterwards(&mut self) -> Event {
        let call = self.any_call();
        let draft = scripts::afterwards(&mut self.dice, &call);
        self.event(call.tenant, draft)
    }

    fn about_recordings(&mut self) -> Event {
        let call = self.any_call();
        let draft = if matches!(call.source, Source::Kazoo | Source::Virtualpbx) && chance(&mut self.dice, 50) {
            let (draft, recorded) = scripts::upload(&mut self.dice, &call);
            self.recordings.push(recorded);
            draft
        } else {
            let known = self.recordings.len();
            let recorded = if known == 0 { None } else { Some(self.dice.random_range(0..known)) };
            scripts::decision(&mut self.dice, &call, recorded.map(|index| &self.recordings[index]))
        };
        self.event(call.tenant, draft)
    }

    /// The next message of a call that is being told, or another one of it.
    fn of_a_call(&mut self) -> Event {
        let mut live: Vec<usize> =
            (0..self.calls.len()).filter(|index| !self.calls[*index].untold.is_empty()).collect();
        if live.len() < AT_ONCE && chance(&mut self.dice, 40) || live.is_empty() {
            live = vec![self.begin()];
        }
        let told = one_of(&mut self.dice, &live);
        let left = self.calls[told].untold.len();
        if left == 0 {
            // Some scripts leave everything out.
            return self.of_a_call();
        }
        let position = if chance(&mut self.dice, 80) { 0 } else { self.dice.random_range(0..left) };
        let draft = self.calls[told].untold.remove(position);
        let tenant = self.calls[told].call.tenant;
        self.event(tenant, draft)
    }

    fn begin(&mut self) -> usize {
        let (tenant, source) = (self.any_tenant(), self.any_source());
        let alike = |told: &&Told| told.call.tenant == tenant && told.call.source == source;
        let prefix = match source {
            Source::Placetel => "pl",
            Source::Voispeed => "vs",
            Source::Planfix => "px",
            _ => "kz",
        };
        let key = format!("{prefix}-{}", self.calls.iter().filter(alike).count() + 1);
        let start = self.clock
            - match self.dice.random_range(0..100) {
                0..70 => self.dice.random_range(0..5 * SECOND),
                70..96 => self.dice.random_range(HOUR..50 * HOUR),
                // Clocks that cannot be believed: of another century, or of days to come.
                96..98 => 30 * 365 * 24 * HOUR,
                _ => -3 * 24 * HOUR,
            };
        let call = Call { tenant, source, key, start };
        let mut untold = scripts::script(&mut self.dice, &call);
        if chance(&mut self.dice, 15) && untold.len() > 1 {
            // One of them never comes.
            let lost = self.dice.random_range(0..untold.len());
            untold.remove(lost);
        }
        self.calls.push(Told { call, untold });
        self.calls.len() - 1
    }

    fn any_call(&mut self) -> Call {
        let index = self.dice.random_range(0..self.calls.len());
        self.calls[index].call.clone()
    }

    fn any_tenant(&mut self) -> &'static str {
        one_of(&mut self.dice, &["acme", "acme", "acme", "other"])
    }

    fn any_source(&mut self) -> Source {
        let more = [Source::Kazoo, Source::Placetel, Source::Voispeed, Source::Voispeed, Source::Planfix];
        if chance(&mut self.dice, 30) { one_of(&mut self.dice, &Source::PBX) } else { one_of(&mut self.dice, &more) }
    }

    fn event(&mut self, tenant: &'static str, draft: Draft) -> Event {
        let learnt = draft.source == Source::Trunklog || draft.kind.ends_with(".recording");
        let structured = !learnt && chance(&mut self.dice, 8);
        let mut id = self.new_id();
        if structured {
            id.push_str("-of-a-sender-that-names-its-messages-at-length");
        }
        Event {
            // Who loads messages in bulk gives them ids of any length, and receipts of long ago.
            id: id.into(),
            tenant: tenant.into(),
            source: draft.source,
            kind: draft.kind.into(),
            received_at: self.clock - if structured { self.dice.random_range(0..30 * HOUR) } else { 0 },
            subject: None,
            structured,
            method: Some(if draft.body.is_empty() { "GET" } else { "POST" }.into()),
            path: Some(draft.path.into()),
            query: draft.query.map(Into::into),
            headers: Arc::new(SortedMap::from([("host".into(), "calls.example".into())])),
            content_type: draft.content_type.map(Into::into),
            error: (!learnt && chance(&mut self.dice, 1)).then(|| "it could not be taken apart".to_owned()),
            payload: draft.body.into_bytes().into(),
        }
    }

    fn new_id(&mut self) -> String {
        self.serial += 1;
        format!("01980000-0000-7000-8000-{:012x}", self.serial)
    }
}
