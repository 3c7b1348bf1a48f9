//! One projection of the log: a table of states with what memory has that the table has not. Plain code; but for
//! look-ups in the index of home days no I/O.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use super::overlay::{Entry, Overlay, Said};
use super::sequencer::Sequencer;
use super::store::Tables;
use crate::call::CallState;
use crate::error::Error;
use crate::event::{Id, Micros, Offset};
use crate::index::{Runs, View};
use crate::lake::{Pinned, Table, Version};
use crate::recording::RecordingState;
use crate::rows::{Keyed, State, day_name};

/// A call that ended and was not heard of for so long gets no more messages but late ones.
const SETTLED_AFTER: Micros = 300_000_000;
/// Of a call that was not heard of for so long nothing may come any more, although it did not end.
const SILENT_AFTER: Micros = 4 * 3_600_000_000;

/// A home day in the index: days since 1970-01-01, big endian.
pub(crate) const HOME_BYTES: usize = 4;

/// Where a call or recording stands in the index: the first 128 bits of its id.
pub(crate) fn home_key(id: &str) -> u128 {
    let half = |digits: std::ops::Range<usize>| u64::from_str_radix(id.get(digits)?, 16).ok();
    half(0..16).zip(half(16..32)).map_or(0, |(high, low)| u128::from(high) << 64 | u128::from(low))
}

/// An entry of the index.
pub(crate) fn home_entry(id: &str, day: i32) -> (u128, [u8; HOME_BYTES]) {
    (home_key(id), day.to_be_bytes())
}

/// A table of states, with the index of the home days of all its rows. Only whoever writes tables has it.
pub(crate) struct Lane {
    pub table: Table,
    pub homes: Runs<HOME_BYTES>,
    /// A fold of which it is not known whether it landed, or not yet noted that it did.
    pub attempt: Option<Arc<Attempt>>,
    /// A swap of which the same is not known.
    pub exchange: Option<Arc<Exchange>>,
    /// Those that got a part since a swap was planned, while one is under way: it does not have these parts.
    pub parted: Option<HashSet<Id>>,
    /// Files that the next fold replaces: [`Projection::provisional`] has all their rows.
    pub provisional: Vec<String>,
}

/// What a fold writes.
#[derive(Debug, Default)]
pub(crate) struct Attempt {
    pub until: Offset,
    /// Those whose row is there to stay.
    pub whole: Vec<Id>,
    /// Those whose row the next fold replaces.
    pub provisional: Vec<Id>,
    /// Those that get a part.
    pub parts: Vec<Id>,
    /// Home days of those that get their first row, for the index.
    pub homes: Vec<(u128, [u8; HOME_BYTES])>,
    /// The files with the provisional rows.
    pub provisional_files: OnceLock<Vec<String>>,
    /// A file that the table has if the fold landed, if it has any.
    pub first_file: OnceLock<String>,
}

/// What may still come of a call or recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Hardly any message.
    Settled,
    /// Most likely more messages; it was last heard of then.
    Changing { heard: Micros },
    /// Perhaps some.
    Unsure,
}

/// What a swap exchanges.
#[derive(Debug)]
pub(crate) struct Exchange {
    /// A file that the table has if the swap landed.
    pub path: String,
    pub days: Vec<String>,
    /// Those whose parts are merged into their rows, with their home days; one may come more than once.
    pub with_parts: Vec<(Id, i32)>,
}

/// Where in the table the rows are of those that memory has, too.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placement {
    /// Files that hold all provisional rows, and nothing else.
    pub provisional: Arc<[String]>,
    /// What a commit that the table shows has written is being noted in memory: until that is done, entries do not tell
    /// whether they have rows.
    pub is_noting: bool,
}

/// States that the log is folded into, each kind with its own table and watermark.
pub(crate) trait Projected: State {
    /// The order of rows in a file of one day.
    const ORDER: &'static [&'static str] = &["tenant", Self::TIME, Self::ID];
    fn of(sequencer: &Sequencer) -> &Projection<Self>;
    fn of_mut(sequencer: &mut Sequencer) -> &mut Projection<Self>;
    fn lane(tables: &mut Tables) -> &mut Lane;
    /// The time that its row is sorted by ([`State::time`]), and what is to be expected when `latest` is the highest
    /// receipt time: in one go, for to look at each of many states takes longer than to work it out.
    fn outlook(keyed: &Keyed<Self>, latest: Micros) -> (Option<Micros>, Outlook);
}

impl Projected for CallState {
    fn of(sequencer: &Sequencer) -> &Projection<Self> {
        &sequencer.calls
    }

    fn of_mut(sequencer: &mut Sequencer) -> &mut Projection<Self> {
        &mut sequencer.calls
    }

    fn lane(tables: &mut Tables) -> &mut Lane {
        &mut tables.calls
    }

    fn outlook(call: &Keyed<Self>, latest: Micros) -> (Option<Micros>, Outlook) {
        let (started_at, closed) = call.state.started_at(call.source);
        let outlook = call.state.seen.map_or(Outlook::Unsure, |seen| {
            let heard = seen.last_received_at;
            match latest.saturating_sub(heard) {
                silence if silence > SETTLED_AFTER && closed => Outlook::Settled,
                silence if silence > SILENT_AFTER => Outlook::Unsure,
                _ => Outlook::Changing { heard },
            }
        });
        (started_at, outlook)
    }
}

impl Projected for RecordingState {
    fn of(sequencer: &Sequencer) -> &Projection<Self> {
        &sequencer.recordings
    }

    fn of_mut(sequencer: &mut Sequencer) -> &mut Projection<Self> {
        &mut sequencer.recordings
    }

    fn lane(tables: &mut Tables) -> &mut Lane {
        &mut tables.recordings
    }

    /// Probes and links come to each soon after its bytes, mostly before a fold.
    fn outlook(recording: &Keyed<Self>, _: Micros) -> (Option<Micros>, Outlook) {
        (Self::time(recording), Outlook::Unsure)
    }
}

/// What is known of one kind of state at the log's end.
pub(crate) struct Projection<S: State> {
    /// Those that are not whole in the final tier.
    pub overlay: Overlay<S>,
    /// Those without changes whose rows the next fold writes again, so that they have one row and no parts while much
    /// is still said of them.
    pub provisional: Overlay<S>,
    /// The home days of all that have a row in the final tier.
    pub homes: View<HOME_BYTES>,
    /// Home days that the index lacks although the table has the rows, found while the log is read again.
    pub placed: HashMap<u128, i32>,
    /// Rounds begin with folds: what the next one writes changed in this round. That each entry says so itself spares
    /// looking up millions.
    pub round: u64,
    /// How many did.
    pub changed: usize,
    /// Those whose final row must be read before they are whole.
    pub lacking: HashSet<Id>,
    /// Last offset that is in the table.
    pub watermark: Option<Offset>,
    /// The pinned table.
    pub table: Arc<Pinned>,
    /// Where in it the rows are of those that memory has, too.
    pub placement: Placement,
    /// Versions of the table by watermark, oldest first, for reading as of an offset.
    pub history: Vec<Version>,
    /// Since when there are parts of a day that no compaction has taken up.
    pub parts_since: HashMap<i32, Instant>,
}

impl<S: State> Projection<S> {
    /// Nothing but the table and where its rows live.
    pub fn new(table: Arc<Pinned>, watermark: Option<Offset>, homes: View<HOME_BYTES>) -> Projection<S> {
        Projection {
            overlay: Overlay::default(),
            provisional: Overlay::default(),
            homes,
            placed: HashMap::new(),
            round: 1,
            changed: 0,
            lacking: HashSet::new(),
            watermark,
            table,
            placement: Placement::default(),
            history: Vec::new(),
            parts_since: HashMap::new(),
        }
    }

    /// Whether the table lacks this message.
    pub fn is_behind(&self, offset: Offset) -> bool {
        self.watermark.is_none_or(|folded| offset > folded)
    }

    /// The home day, if there is a row in the final tier.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn home(&self, id: &str) -> Result<Option<i32>, Error> {
        let key = home_key(id);
        let indexed = self.homes.first(key)?.map(i32::from_be_bytes);
        Ok(indexed.or_else(|| self.placed.get(&key).copied()))
    }

    /// Looks where this one would be, so that it is near when something is said of it. If memory does not have it, what is
    /// given says nothing.
    pub fn fetch(&self, id: &str) -> Result<&Entry<S>, usize> {
        let entry = self.overlay.get(id).or_else(|| self.provisional.get(id));
        entry.ok_or_else(|| self.homes.fetch(home_key(id)))
    }

    /// Whether anything is known of this one.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn knows(&self, id: &str) -> Result<bool, Error> {
        Ok(self.overlay.contains(id) || self.home(id)?.is_some())
    }

    /// Merges what one message says; `keyed.day` is the home day if this is the first one.
    ///
    /// # Errors
    /// If the index cannot be read; nothing is then changed.
    pub fn take(&mut self, keyed: Keyed<S>) -> Result<(), Error> {
        self.merge(keyed, Said::InRound(self.round))
    }

    /// Takes up a stored part.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn take_part(&mut self, part: Keyed<S>) -> Result<(), Error> {
        self.parts_since.entry(part.day).or_insert_with(Instant::now);
        self.merge(part, Said::InPart)
    }

    fn merge(&mut self, keyed: Keyed<S>, said: Said) -> Result<(), Error> {
        let is_first = match self.overlay.join(keyed, said) {
            Ok(is_first) => is_first,
            Err(keyed) => {
                let mut entry = self.entry(keyed)?;
                let is_first = entry.note(said);
                self.overlay.insert(entry);
                is_first
            }
        };
        self.changed += usize::from(is_first);
        Ok(())
    }

    /// One for what is said of a state that the overlay does not have.
    fn entry(&mut self, mut keyed: Keyed<S>) -> Result<Entry<S>, Error> {
        if let Some(mut entry) = self.provisional.remove(&keyed.id) {
            entry.join(keyed.state);
            return Ok(entry);
        }
        let home = self.home(&keyed.id)?;
        keyed.day = home.unwrap_or(keyed.day);
        if home.is_some() {
            self.lacking.insert(keyed.id.clone());
        }
        Ok(Entry::new(keyed, home.is_some()))
    }

    /// Notes the home day of one whose row the table has and the index perhaps lacks; to be called in log order.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn place(&mut self, keyed: &Keyed<S>) -> Result<(), Error> {
        if self.home(&keyed.id)?.is_some() {
            return Ok(());
        }
        let part = self.overlay.get(&keyed.id).map(|entry| entry.keyed.day);
        self.placed.entry(home_key(&keyed.id)).or_insert(part.unwrap_or(keyed.day));
        if part.is_some() {
            // Its parts were loaded before it was known that it has a row, too.
            self.overlay.mark(&keyed.id, |entry| (entry.stored, entry.lacks_stored) = (true, true));
            self.lacking.insert(keyed.id.clone());
        }
        Ok(())
    }

    /// Merges stored rows into the overlay's entries that lack them.
    pub fn supply(&mut self, stored: Vec<Keyed<S>>) {
        for row in stored {
            self.lacking.remove(&row.id);
            let id = row.id.clone();
            self.overlay.change(&id, |entry| {
                // The stored row has the keys of the first message.
                let fresh = std::mem::replace(&mut entry.keyed, row);
                Arc::make_mut(&mut entry.keyed.state).join(Arc::unwrap_or_clone(fresh.state));
                entry.lacks_stored = false;
            });
        }
    }

    /// As it is now, for reading.
    pub fn seen(&self) -> Projection<S> {
        let (overlay, lacking) = (self.overlay.clone(), self.lacking.clone());
        let fresh = Projection::new(Arc::clone(&self.table), self.watermark, self.homes.clone());
        Projection { overlay, lacking, placement: self.placement.clone(), ..fresh }
    }

    /// The days of those that lack their stored row.
    pub fn lacking_days(&self) -> Vec<i32> {
        let days = self.lacking.iter().filter_map(|id| self.overlay.get(id).map(|entry| entry.keyed.day));
        let days: HashSet<i32> = days.collect();
        days.into_iter().collect()
    }

    /// Those that the next fold writes, as they are now.
    pub fn take_dirty(&mut self) -> Dirty<S> {
        let (overlay, provisional) = (self.overlay.clone(), self.provisional.clone());
        let dirty = Dirty { round: self.round, overlay, provisional };
        (self.round, self.changed) = (self.round + 1, 0);
        dirty
    }

    /// A fold did not land: what it would have written is for the next one.
    pub fn give_back(&mut self, attempt: &Attempt) {
        let ids = attempt.whole.iter().chain(&attempt.provisional).chain(&attempt.parts);
        for id in ids {
            self.overlay.mark(id, |entry| self.changed += usize::from(entry.note(Said::InRound(self.round))));
        }
    }

    /// A fold up to here has landed, and the index has the home days of what it wrote. What it wrote is noted then,
    /// piece by piece: until that is done, memory has it too, and wins.
    pub fn landed(&mut self, until: Offset) {
        self.watermark = self.watermark.max(Some(until));
    }

    /// Whether it has changed since the last fold began; `None` of what is not in the overlay.
    fn is_changed(&self, id: &str) -> Option<bool> {
        Some(self.overlay.get(id)?.changed == self.round)
    }

    /// Notes rows that stay; gives those that memory need not hold any more, to be dropped.
    pub fn has_rows(&mut self, ids: &[Id]) -> Vec<Entry<S>> {
        let done = ids.iter().filter_map(|id| match self.is_changed(id) {
            Some(true) => {
                self.overlay.mark(id, |entry| (entry.stored, entry.provisional) = (true, false));
                None
            }
            Some(false) => self.overlay.remove(id),
            None => self.provisional.remove(id),
        });
        done.collect()
    }

    /// Notes rows that the next fold replaces.
    pub fn has_provisional_rows(&mut self, ids: &[Id]) {
        for id in ids {
            if self.is_changed(id) == Some(true) {
                self.overlay.mark(id, |entry| (entry.stored, entry.provisional) = (true, true));
            } else if let Some(entry) = self.overlay.remove(id) {
                let keyed = entry.keyed.copied();
                self.provisional.insert(Entry { keyed, stored: true, provisional: true, ..entry });
            }
        }
    }

    /// Notes parts. What has one stays until it is compacted, so it is copied, as are those with provisional rows: where
    /// it was made it lies among millions of others that go, and would keep their pages from being used again.
    pub fn has_parts(&mut self, ids: &[Id]) {
        for id in ids {
            let Some(entry) = self.overlay.remove(id) else { continue };
            self.parts_since.entry(entry.keyed.day).or_insert_with(Instant::now);
            let keyed = entry.keyed.copied();
            self.overlay.insert(Entry { keyed, parts: true, ..entry });
        }
    }

    /// Notes that these have parts which came while the others of their days were merged into final rows.
    pub fn still_has_parts(&mut self, ids: &[Id]) {
        let days = ids.iter().filter_map(|id| self.overlay.get(id).map(|entry| entry.keyed.day));
        for day in days.collect::<Vec<_>>() {
            self.parts_since.entry(day).or_insert_with(Instant::now);
        }
    }

    /// The parts of these days were merged into final rows.
    pub fn swapped(&mut self, days: &[String]) {
        self.parts_since.retain(|day, _| !days.contains(&day_name(*day)));
    }

    /// Notes that the parts of these are in their final rows; gives those that memory need not hold any more, to be
    /// dropped.
    pub fn has_no_parts(&mut self, ids: &[Id]) -> Vec<Entry<S>> {
        let done = ids.iter().filter_map(|id| {
            if self.is_changed(id) == Some(true) {
                self.overlay.mark(id, |entry| (entry.stored, entry.parts) = (true, false));
                return None;
            }
            self.lacking.remove(id);
            self.overlay.remove(id)
        });
        done.collect()
    }
}

/// States that a fold writes, as they were at one moment.
pub(crate) struct Dirty<S: State> {
    round: u64,
    overlay: Overlay<S>,
    provisional: Overlay<S>,
}

impl<S: State> Dirty<S> {
    /// Those that get a whole row, and those that have one to which a part is added.
    pub fn entries(&self) -> (Vec<&Entry<S>>, Vec<&Entry<S>>) {
        let changed = self.overlay.entries().filter(|entry| entry.changed == self.round);
        changed.chain(self.provisional.entries()).partition(|entry| !entry.stored || entry.provisional)
    }
}
