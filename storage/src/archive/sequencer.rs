//! Everything that happens in log order, one message after the other: duplicate marks, call keys, home days, merging
//! into the overlay, the tail. Plain code under one lock; no I/O.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::catalog::TableProvider;

use super::Message;
use super::duplicates::Duplicates;
use super::keyer::Keyer;
use super::overlay::{Entry, Overlay};
use super::tail::Tail;
use crate::call::CallState;
use crate::event::{Event, Micros, Offset, call_id, hex};
use crate::fact::Decoded;
use crate::lake::Version;
use crate::rows::{KeyedCall, LoggedEvent, day_of};

/// 2000-01-01: times before are not believed.
const EARLIEST_TIME: Micros = 946_684_800_000_000;
const DAY: Micros = 86_400_000_000;

/// Where a call lives, by the first 128 bits of its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home {
    pub day: i32,
    /// It has a row in the final tier.
    pub stored: bool,
}

/// A batch that became durable and awaits its turn.
#[derive(Debug)]
pub(crate) struct Arrived {
    pub first: Offset,
    pub messages: Vec<Message>,
    /// Set where the message turns out to be a duplicate.
    pub duplicate: Arc<[AtomicBool]>,
}

/// The state of the log's end.
pub(crate) struct Sequencer {
    pub tail: Tail,
    pub overlay: Overlay,
    pub duplicates: Duplicates,
    pub keyer: Keyer,
    pub homes: HashMap<u128, Home>,
    /// Calls with changes behind the `calls` table's watermark.
    pub dirty: HashSet<Arc<str>>,
    /// Calls whose final row must be read before they are whole.
    pub lacking: HashSet<Arc<str>>,
    /// Last offset taken in.
    pub last: Option<Offset>,
    pub events_watermark: Option<Offset>,
    pub calls_watermark: Option<Offset>,
    pub events: Arc<dyn TableProvider>,
    pub calls: Arc<dyn TableProvider>,
    /// Versions of `calls` by watermark, oldest first, for reading as of an offset.
    pub history: Vec<Version>,
}

pub(crate) fn home_key(call_id: &str) -> u128 {
    call_id.get(..32).and_then(|prefix| u128::from_str_radix(prefix, 16).ok()).unwrap_or_default()
}

/// The home day of a call: that of the time which its first message carries, if it can be believed.
pub(crate) fn home_day(event: &Event, decoded: &Decoded) -> i32 {
    let carried = decoded.occurred_at.filter(|at| (EARLIEST_TIME..=event.received_at.saturating_add(DAY)).contains(at));
    day_of(carried.unwrap_or(event.received_at))
}

impl Sequencer {
    /// Takes in a batch.
    pub fn take(&mut self, arrived: Arrived) {
        for (index, message) in arrived.messages.into_iter().enumerate() {
            let offset = Offset(arrived.first.0 + index as u64);
            if self.message(offset, Arc::new(message.event), Arc::new(message.decoded)) {
                arrived.duplicate[index].store(true, Ordering::Release);
            }
        }
    }

    /// Takes in one message; says whether it is a duplicate.
    fn message(&mut self, offset: Offset, event: Arc<Event>, decoded: Arc<Decoded>) -> bool {
        let mut duplicate = false;
        if self.events_watermark.is_none_or(|folded| offset > folded) {
            let fingerprint = hex(&decoded.fingerprint);
            let at = (offset, event.received_at, event.id.as_str());
            let duplicate_of = self.duplicates.note(&event.tenant, event.source, &fingerprint, decoded.window, at);
            duplicate = duplicate_of.is_some();
            let (event, decoded) = (Arc::clone(&event), Arc::clone(&decoded));
            self.tail.push(LoggedEvent { event, offset, decoded, duplicate_of });
        }
        if self.calls_watermark.is_none_or(|folded| offset > folded) {
            self.fold(offset, &event, &decoded);
        }
        self.last = self.last.max(Some(offset));
        duplicate
    }

    fn fold(&mut self, offset: Offset, event: &Event, decoded: &Decoded) {
        let Some(key) = self.keyer.key(event, decoded) else { return };
        let Some((_, fact)) = &decoded.fact else { return };
        let id = call_id(&event.tenant, event.source, &key);
        let home =
            *self.homes.entry(home_key(&id)).or_insert_with(|| Home { day: home_day(event, decoded), stored: false });
        let mut state = fact.clone();
        state.delivered(event.received_at, offset);
        let make = || new_entry(event, &id, &key, home);
        let id: Arc<str> = id.as_str().into();
        if home.stored && !self.overlay.contains(&id) {
            self.lacking.insert(Arc::clone(&id));
        }
        self.overlay.update(&id, make, |entry| Arc::make_mut(&mut entry.call.state).merge(state));
        self.dirty.insert(id);
    }

    /// Merges stored rows into the overlay's entries that lack them.
    pub fn supply(&mut self, stored: Vec<KeyedCall>) {
        for call in stored {
            self.overlay.change(&call.call_id, |entry| {
                Arc::make_mut(&mut entry.call.state).merge((*call.state).clone());
                entry.lacks_stored = false;
            });
            self.lacking.remove(&call.call_id);
        }
    }

    /// The days of the calls that lack their stored row.
    pub fn lacking_days(&self) -> Vec<i32> {
        let days = self.lacking.iter().filter_map(|id| self.homes.get(&home_key(id)).map(|home| home.day));
        let days: HashSet<i32> = days.collect();
        days.into_iter().collect()
    }

    /// The calls that the next fold writes.
    pub fn changed(&self) -> Vec<KeyedCall> {
        self.dirty.iter().filter_map(|id| self.overlay.get(id).map(|entry| entry.call.clone())).collect()
    }

    /// These days were swapped: their unchanged calls are whole in the final tier.
    pub fn swapped(&mut self, days: &HashSet<i32>) {
        for entry in self.overlay.entries().filter(|entry| days.contains(&entry.call.day)) {
            if let Some(home) = self.homes.get_mut(&home_key(&entry.call.call_id)) {
                // A call that has arrived since the swap's fold is dirty and not in the final tier by that swap,
                // unless it was folded before; saying it is stored only costs a look-up.
                home.stored = true;
            }
        }
        let dirty = &self.dirty;
        self.overlay.retain(|entry| !days.contains(&entry.call.day) || dirty.contains(&entry.call.call_id));
        let overlay = &self.overlay;
        self.lacking.retain(|id| overlay.contains(id));
    }
}

fn new_entry(event: &Event, id: &str, key: &str, home: Home) -> Entry {
    Entry {
        call: KeyedCall {
            tenant: event.tenant.as_str().into(),
            source: event.source,
            call_id: id.into(),
            key: key.into(),
            day: home.day,
            state: Arc::new(CallState::default()),
        },
        lacks_stored: home.stored,
    }
}
