//! Which message is another delivery of which: an index of recent fingerprints, a pure function of the log.
//!
//! A delivery counts for a later one that was received at most the window away, and as long as it is among the last
//! [`KEPT_MESSAGES`] or was received within seven days of the highest receipt time so far; so the index stays small
//! and a bulk load of old messages still knows its repeats. Messages that `events` has are in sorted runs on disk,
//! the others in memory.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::sync::Arc;

use hashbrown::HashTable;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use crate::error::Error;
use crate::event::{Event, Micros, Offset, Source};
use crate::fact::DUPLICATE_WINDOW;
use crate::index::View;

/// Of earlier deliveries so many are looked at for one that is the very same record.
const LOOKED_AT: usize = 64;
/// Messages that are kept whatever their receipt times.
pub(crate) const KEPT_MESSAGES: u64 = 1_000_000;
/// An id up to this length stands in the runs; longer ones are kept aside.
const INLINE_BYTES: usize = 39;
/// One delivery in a run: offset, receipt time, length of the id, the id.
pub(crate) const DELIVERY_BYTES: usize = 8 + 8 + 1 + INLINE_BYTES;

/// A delivery as it stands in a run.
pub(crate) type Stored = (u128, [u8; DELIVERY_BYTES]);

/// What the index knows besides the runs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Aside {
    /// The highest receipt time of all messages.
    pub latest: Micros,
    /// Ids that are too long for a run, by offset.
    long_ids: BTreeMap<u64, (Micros, Arc<str>)>,
}

/// The index.
#[derive(Debug)]
pub(crate) struct Duplicates {
    /// The deliveries that the runs lack, as they will stand there, in the order of the log.
    order: VecDeque<Stored>,
    /// How many left `order`: its first one has this number.
    forgotten: u64,
    /// The numbers of those in `order`, by their keys: no more than that, so that it stays in the processor's caches.
    recent: HashTable<u64>,
    runs: View<DELIVERY_BYTES>,
    /// The runs have everything up to here.
    until: Option<Offset>,
    aside: Aside,
    /// Nobody asks: of ids nothing is kept.
    unasked: bool,
    /// The log may have a record twice.
    pub records_twice: bool,
}

/// What a message is among those before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    First,
    /// A delivery of what the message with this id has brought.
    RepeatOf(Arc<str>),
    /// The same record once more: a producer sends again what brokers did not acknowledge, and after a change of its
    /// epoch they do not know it for a repeat.
    SameRecord,
}

/// The key of a delivery in the index.
pub(crate) fn key(tenant: &str, source: Source, fingerprint: &[u8; 32]) -> u128 {
    let mut hash = Sha256::new();
    for part in [tenant.as_bytes(), b"\0", source.as_str().as_bytes(), b"\0", fingerprint] {
        hash.update(part);
    }
    hash.finalize()[..16].iter().fold(0, |key, byte| key << 8 | u128::from(*byte))
}

/// Keys are hashes.
fn hash(key: u128) -> u64 {
    key as u64
}

fn of_number(order: &VecDeque<Stored>, forgotten: u64, number: u64) -> Option<&Stored> {
    order.get(usize::try_from(number.checked_sub(forgotten)?).ok()?)
}

/// Whether a delivery still counts when the log is at this offset.
fn counts(delivery: (Offset, Micros), at: Offset, latest: Micros) -> bool {
    delivery.0.0 + KEPT_MESSAGES > at.0 || delivery.1.saturating_add(DUPLICATE_WINDOW) >= latest
}

impl Duplicates {
    /// Over runs that have everything up to `until`.
    pub fn new(runs: View<DELIVERY_BYTES>, until: Option<Offset>, aside: Aside) -> Duplicates {
        Duplicates {
            order: VecDeque::new(),
            forgotten: 0,
            recent: HashTable::new(),
            runs,
            until,
            aside,
            unasked: false,
            records_twice: false,
        }
    }

    /// One that passes the messages up to `until`, and knows nothing but their highest receipt time.
    pub fn unasked(until: Option<Offset>) -> Duplicates {
        Duplicates { unasked: true, ..Duplicates::new(View::empty(), until, Aside::default()) }
    }

    /// Whether this message is yet to be noted.
    pub fn is_behind(&self, offset: Offset) -> bool {
        self.until.is_none_or(|until| offset > until)
    }

    /// The highest receipt time of all messages so far.
    pub fn latest(&self) -> Micros {
        self.aside.latest
    }

    /// What must be kept besides the runs, for when `latest` was the highest receipt time.
    pub fn aside(&self, latest: Micros) -> Aside {
        Aside { latest, ..self.aside.clone() }
    }

    /// What this message is: if not the first one in the log of this fingerprint at most `window` away, a repeat of that;
    /// or a record that the log has already, by its id (structured CloudEvents bring theirs along, and may be sent twice).
    /// Then remembers this one, unless the log has it. Must be called in log order.
    ///
    /// # Errors
    /// If a run cannot be read.
    pub fn note_key(&mut self, key: u128, window: Micros, offset: Offset, event: &Arc<Event>) -> Result<Noted, Error> {
        self.aside.latest = self.aside.latest.max(event.received_at);
        let latest = self.aside.latest;
        let fits = |at: Offset, received: Micros| {
            event.received_at.saturating_sub(received).saturating_abs() <= window
                && counts((at, received), offset, latest)
        };
        let may_be_there = self.records_twice && !event.structured;
        let (mut noted, mut looked_at) = (Noted::First, 0);
        // They come in the order of the log.
        let mut look = |(at, received): (Offset, Micros), id: &dyn Fn() -> Arc<str>| {
            looked_at += 1;
            if may_be_there && received == event.received_at && *id() == *event.id {
                noted = Noted::SameRecord;
                return ControlFlow::Break(());
            }
            if noted == Noted::First && fits(at, received) {
                noted = Noted::RepeatOf(id());
            }
            let is_known = noted != Noted::First && !(may_be_there && looked_at < LOOKED_AT);
            if is_known { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let (mut ended, long_ids) = (ControlFlow::Continue(()), &self.aside.long_ids);
        self.runs.each(key, |value| {
            let delivery = offset_and_receipt(value);
            ended = look(delivery, &|| read_id(value, delivery.0, long_ids));
            ended
        })?;
        let (order, forgotten) = (&self.order, self.forgotten);
        if ended.is_continue() {
            let same = |number: &u64| of_number(order, forgotten, *number).filter(|(known, _)| *known == key);
            let mut known: SmallVec<[&Stored; 1]> = self.recent.iter_hash(hash(key)).filter_map(same).collect();
            known.sort_by_key(|(_, value)| offset_and_receipt(value).0);
            let _ = known.into_iter().try_for_each(|(_, value)| {
                let delivery = offset_and_receipt(value);
                look(delivery, &|| read_id(value, delivery.0, long_ids))
            });
        }
        if noted != Noted::SameRecord {
            let number = forgotten + order.len() as u64;
            let hash_of = |number: &u64| of_number(order, forgotten, *number).map_or(0, |(key, _)| hash(*key));
            self.recent.insert_unique(hash(key), number, hash_of);
            self.order.push_back((key, write(offset, event.received_at, &event.id)));
            self.put_aside(offset, event.received_at, &event.id);
        }
        Ok(noted)
    }

    /// Looks where a key would be, so that it is near when it is noted.
    pub fn fetch(&self, key: u128) -> usize {
        self.runs.fetch(key) ^ usize::from(self.recent.find(hash(key), |_| false).is_some())
    }

    fn put_aside(&mut self, offset: Offset, received_at: Micros, id: &str) {
        if id.len() > INLINE_BYTES {
            self.aside.long_ids.insert(offset.0, (received_at, id.into()));
        }
    }

    /// A message that the runs have is read again: only what stands aside can lack it.
    pub fn pass(&mut self, message: (Offset, Micros, &str)) {
        let (offset, received_at, event_id) = message;
        self.aside.latest = self.aside.latest.max(received_at);
        if !self.unasked {
            self.put_aside(offset, received_at, event_id);
        }
    }

    /// How many deliveries are in memory.
    pub fn in_memory(&self) -> usize {
        self.order.len()
    }

    /// Deliveries up to and including this offset that are only in memory, for the runs: at most so many, after the first
    /// `skipped`; none when that were all. And their highest receipt time.
    pub fn unwritten(&self, until: Offset, skipped: usize, at_most: usize) -> (Vec<Stored>, Micros) {
        let upcoming = self.order.range(skipped.min(self.order.len())..).take(at_most);
        let written: Vec<Stored> =
            upcoming.take_while(|(_, value)| offset_and_receipt(value).0 <= until).copied().collect();
        let latest = written.iter().map(|(_, value)| offset_and_receipt(value).1).max();
        (written, latest.unwrap_or(Micros::MIN))
    }

    /// The runs now have everything up to here; `latest` was the highest receipt time then. Memory has it too until
    /// [`Duplicates::forget`]. Gives back the runs of before: dropping them may unlink large files.
    pub fn release(&mut self, until: Offset, latest: Micros, runs: View<DELIVERY_BYTES>) -> View<DELIVERY_BYTES> {
        let before = std::mem::replace(&mut self.runs, runs);
        self.until = self.until.max(Some(until));
        self.aside.long_ids.retain(|offset, (received, _)| counts((Offset(*offset), *received), until, latest));
        before
    }

    /// Forgets so many deliveries that the runs have; says whether there may be more.
    pub fn forget(&mut self, at_most: usize) -> bool {
        for _ in 0..at_most {
            let first = self.order.front().filter(|(_, value)| Some(offset_and_receipt(value).0) <= self.until);
            let Some((key, _)) = first.copied() else { return false };
            if let Ok(entry) = self.recent.find_entry(hash(key), |number| *number == self.forgotten) {
                entry.remove();
            }
            self.order.pop_front();
            self.forgotten += 1;
        }
        true
    }

    /// Says of a run, by the highest offset and receipt time in it, whether nothing in it counts any more.
    pub fn is_gone(latest: Micros, at: Offset) -> impl Fn(Offset, Micros) -> bool {
        move |last, stamp| !counts((last, stamp), at, latest)
    }
}

/// A delivery for the runs, of a message that is read back from `events`.
pub(crate) fn stored(
    tenant: &str,
    source: Source,
    fingerprint: &[u8; 32],
    message: (Offset, Micros, &str),
    aside: &mut Aside,
) -> Stored {
    let (offset, received_at, id) = message;
    aside.latest = aside.latest.max(received_at);
    if id.len() > INLINE_BYTES {
        aside.long_ids.insert(offset.0, (received_at, id.into()));
    }
    (key(tenant, source, fingerprint), write(offset, received_at, id))
}

fn write(offset: Offset, received_at: Micros, id: &str) -> [u8; DELIVERY_BYTES] {
    let mut value = [0; DELIVERY_BYTES];
    value[..8].copy_from_slice(&offset.0.to_be_bytes());
    value[8..16].copy_from_slice(&received_at.to_be_bytes());
    let id = id.as_bytes();
    if let (Ok(length), true) = (u8::try_from(id.len()), id.len() <= INLINE_BYTES) {
        value[16] = length;
        value[17..17 + id.len()].copy_from_slice(id);
    } else {
        value[16] = u8::MAX;
    }
    value
}

fn offset_and_receipt(value: &[u8; DELIVERY_BYTES]) -> (Offset, Micros) {
    let number = |from: usize| value[from..from + 8].iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
    (Offset(number(0)), number(8).cast_signed())
}

fn read_id(value: &[u8; DELIVERY_BYTES], offset: Offset, long_ids: &BTreeMap<u64, (Micros, Arc<str>)>) -> Arc<str> {
    let inline = value.get(17..17 + usize::from(value[16])).and_then(|id| std::str::from_utf8(id).ok());
    let long = || long_ids.get(&offset.0).map(|(_, id)| Arc::clone(id));
    inline.map(Arc::from).or_else(long).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Micros = 86_400_000_000;
    const PRINT: [u8; 32] = [7; 32];

    impl Duplicates {
        fn note(
            &mut self,
            fingerprint: &[u8; 32],
            window: Micros,
            offset: Offset,
            event: &Arc<Event>,
        ) -> Result<Noted, Error> {
            self.note_key(key(&event.tenant, event.source, fingerprint), window, offset, event)
        }
    }

    fn index() -> Duplicates {
        Duplicates::new(View::empty(), None, Aside::default())
    }

    fn event(tenant: &str, source: Source, id: &str, received_at: Micros) -> Arc<Event> {
        let event = serde_json::json!({
            "id": id, "tenant": tenant, "source": source, "type": "toy", "received_at": received_at,
        });
        Arc::new(serde_json::from_value(event).expect("an event"))
    }

    fn note(index: &mut Duplicates, offset: u64, day: i64) -> Option<String> {
        let event = event("acme", Source::Placetel, &format!("event-{offset}"), day * DAY);
        original(index.note(&PRINT, DUPLICATE_WINDOW, Offset(offset), &event).expect("memory"))
    }

    fn original(noted: Noted) -> Option<String> {
        match noted {
            Noted::First => None,
            Noted::RepeatOf(id) => Some(id.to_string()),
            Noted::SameRecord => panic!("the log has it once"),
        }
    }

    #[test]
    fn the_original_is_the_first_within_seven_days() {
        let mut index = index();
        assert_eq!(note(&mut index, 0, 0), None);
        assert_eq!(note(&mut index, 1, 5).as_deref(), Some("event-0"));
        assert_eq!(note(&mut index, 2, 9).as_deref(), Some("event-1"));
        assert_eq!(note(&mut index, 3, 30), None);
    }

    #[test]
    fn tenants_and_sources_are_apart() {
        let mut index = index();
        let mut note = |tenant, source, offset| {
            original(index.note(&PRINT, 1, Offset(offset), &event(tenant, source, "x", 0)).expect("memory"))
        };
        assert_eq!(note("a", Source::Kazoo, 0), None);
        assert_eq!(note("b", Source::Kazoo, 1), None);
        assert_eq!(note("a", Source::Virtualpbx, 2), None);
        assert_eq!(note("a", Source::Kazoo, 3).as_deref(), Some("x"));
    }

    #[test]
    fn what_is_in_the_runs_still_counts_with_ids_of_any_length() {
        let directory = tempfile::tempdir().expect("temporary directory");
        let mut runs = crate::index::Runs::open(directory.path(), "log").expect("an index");
        let long = "x".repeat(300);
        let mut index = index();
        for (offset, id) in [(0, "short"), (1, long.as_str())] {
            let print = [u8::try_from(offset).expect("small"); 32];
            let event = event("a", Source::Kazoo, id, 5);
            index.note(&print, DUPLICATE_WINDOW, Offset(offset), &event).expect("noted");
        }
        let (entries, stamp) = index.unwritten(Offset(1), 0, 9);
        assert_eq!((entries.len(), stamp), (2, 5));
        runs.add(entries, Offset(1), stamp).expect("added");
        index.release(Offset(1), index.latest(), runs.view());
        assert!(!index.forget(9), "all");
        assert!(!index.is_behind(Offset(1)) && index.recent.is_empty());
        let mut again = Duplicates::new(runs.view(), runs.until(), index.aside(index.latest()));
        for (offset, id) in [(2, "short"), (3, long.as_str())] {
            let print = [u8::try_from(offset - 2).expect("small"); 32];
            let event = event("a", Source::Kazoo, "again", 6);
            let noted = again.note(&print, DUPLICATE_WINDOW, Offset(offset), &event).expect("noted");
            assert_eq!(original(noted).as_deref(), Some(id));
        }
        // A record of before stands in the log once more.
        let record = event("a", Source::Kazoo, &long, 5);
        let twice = |records_twice: bool, record: &Arc<Event>| {
            let mut index = Duplicates::new(runs.view(), runs.until(), again.aside(again.latest()));
            index.records_twice = records_twice;
            index.note(&[1; 32], DUPLICATE_WINDOW, Offset(4), record).expect("noted")
        };
        let repeat = Noted::RepeatOf(long.as_str().into());
        assert_eq!((twice(true, &record), twice(false, &record)), (Noted::SameRecord, repeat.clone()));
        let sent_twice = Arc::new(Event { structured: true, ..(*record).clone() });
        assert_eq!(twice(true, &sent_twice), repeat);
    }

    #[test]
    fn a_record_that_the_log_has_twice_counts_once_and_its_repeats_still_do() {
        let mut index = index();
        index.records_twice = true;
        let mut note = |offset, id: &str, received| {
            let event = event("a", Source::Planfix, id, received);
            index.note(&PRINT, DUPLICATE_WINDOW, Offset(offset), &event).expect("noted")
        };
        assert_eq!(note(0, "first", 5), Noted::First);
        assert_eq!(note(1, "second", 6), Noted::RepeatOf("first".into()));
        assert_eq!(note(2, "first", 5), Noted::SameRecord);
        assert_eq!(note(3, "second", 6), Noted::SameRecord);
        assert_eq!(note(4, "third", 7), Noted::RepeatOf("first".into()));
        assert_eq!(index.order.len(), 3, "what is there already is not kept again");
    }
}
