//! One projection of the log: a table of states with what memory has that the table has not. Plain code; no I/O.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use datafusion::catalog::TableProvider;

use super::Tables;
use super::overlay::{Entry, Overlay};
use super::sequencer::Sequencer;
use crate::call::CallState;
use crate::event::Offset;
use crate::lake::{Table, Version};
use crate::recording::RecordingState;
use crate::rows::{Keyed, State};

/// Where a call or recording lives, by the first 128 bits of its id.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Home {
    pub day: i32,
    /// It has a row in the final tier.
    pub stored: bool,
}

pub(crate) fn home_key(id: &str) -> u128 {
    id.get(..32).and_then(|prefix| u128::from_str_radix(prefix, 16).ok()).unwrap_or_default()
}

/// States that the log is folded into, each kind with its own table and watermark.
pub(crate) trait Projected: State {
    fn of(sequencer: &Sequencer) -> &Projection<Self>;
    fn of_mut(sequencer: &mut Sequencer) -> &mut Projection<Self>;
    fn table(tables: &mut Tables) -> &mut Table;
}

impl Projected for CallState {
    fn of(sequencer: &Sequencer) -> &Projection<Self> {
        &sequencer.calls
    }

    fn of_mut(sequencer: &mut Sequencer) -> &mut Projection<Self> {
        &mut sequencer.calls
    }

    fn table(tables: &mut Tables) -> &mut Table {
        &mut tables.calls
    }
}

impl Projected for RecordingState {
    fn of(sequencer: &Sequencer) -> &Projection<Self> {
        &sequencer.recordings
    }

    fn of_mut(sequencer: &mut Sequencer) -> &mut Projection<Self> {
        &mut sequencer.recordings
    }

    fn table(tables: &mut Tables) -> &mut Table {
        &mut tables.recordings
    }
}

/// What is known of one kind of state at the log's end.
pub(crate) struct Projection<S> {
    pub overlay: Overlay<S>,
    pub homes: HashMap<u128, Home>,
    /// Those with changes behind the table's watermark.
    pub dirty: HashSet<Arc<str>>,
    /// Those whose final row must be read before they are whole.
    pub lacking: HashSet<Arc<str>>,
    /// Last offset that is in the table.
    pub watermark: Option<Offset>,
    /// The pinned table.
    pub table: Arc<dyn TableProvider>,
    /// Versions of the table by watermark, oldest first, for reading as of an offset.
    pub history: Vec<Version>,
    /// Since when there are parts that no compaction has taken up.
    pub parts_since: Option<Instant>,
}

impl<S: State> Projection<S> {
    /// Nothing but the table.
    pub fn new(table: Arc<dyn TableProvider>, watermark: Option<Offset>) -> Projection<S> {
        Projection {
            overlay: Overlay::default(),
            homes: HashMap::new(),
            dirty: HashSet::new(),
            lacking: HashSet::new(),
            watermark,
            table,
            history: Vec::new(),
            parts_since: None,
        }
    }

    /// Whether the table lacks this message.
    pub fn is_behind(&self, offset: Offset) -> bool {
        self.watermark.is_none_or(|folded| offset > folded)
    }

    /// Merges what one message says; `keyed.day` is the home day if this is the first one.
    pub fn take(&mut self, mut keyed: Keyed<S>) {
        let home = *self.homes.entry(home_key(&keyed.id)).or_insert(Home { day: keyed.day, stored: false });
        keyed.day = home.day;
        let id = Arc::clone(&keyed.id);
        if home.stored && !self.overlay.contains(&id) {
            self.lacking.insert(Arc::clone(&id));
        }
        self.merge(keyed, home.stored);
        self.dirty.insert(id);
    }

    /// Takes up a stored part.
    pub fn take_part(&mut self, part: Keyed<S>) {
        let lacks_stored = self.homes.get(&home_key(&part.id)).is_some_and(|home| home.stored);
        if lacks_stored {
            self.lacking.insert(Arc::clone(&part.id));
        }
        self.merge(part, lacks_stored);
    }

    fn merge(&mut self, keyed: Keyed<S>, lacks_stored: bool) {
        let state = Arc::clone(&keyed.state);
        let id = Arc::clone(&keyed.id);
        let make = || Entry { keyed: Keyed { state: Arc::default(), ..keyed }, lacks_stored };
        self.overlay.update(&id, make, |entry| Arc::make_mut(&mut entry.keyed.state).join(Arc::unwrap_or_clone(state)));
    }

    /// Merges stored rows into the overlay's entries that lack them.
    pub fn supply(&mut self, stored: Vec<Keyed<S>>) {
        for row in stored {
            self.overlay.change(&row.id, |entry| {
                Arc::make_mut(&mut entry.keyed.state).join((*row.state).clone());
                entry.lacks_stored = false;
            });
            self.lacking.remove(&row.id);
        }
    }

    /// The days of those that lack their stored row.
    pub fn lacking_days(&self) -> Vec<i32> {
        let days = self.lacking.iter().filter_map(|id| self.homes.get(&home_key(id)).map(|home| home.day));
        let days: HashSet<i32> = days.collect();
        days.into_iter().collect()
    }

    /// Those that the next fold writes.
    pub fn changed(&self) -> Vec<Keyed<S>> {
        self.dirty.iter().filter_map(|id| self.overlay.get(id).map(|entry| entry.keyed.clone())).collect()
    }

    /// These days were swapped: what did not change in them is whole in the final tier.
    pub fn swapped(&mut self, days: &HashSet<i32>) {
        for entry in self.overlay.entries().filter(|entry| days.contains(&entry.keyed.day)) {
            if let Some(home) = self.homes.get_mut(&home_key(&entry.keyed.id)) {
                // One that has arrived since the swap's fold is dirty and not in the final tier by that swap,
                // unless it was folded before; saying it is stored only costs a look-up.
                home.stored = true;
            }
        }
        let dirty = &self.dirty;
        self.overlay.retain(|entry| !days.contains(&entry.keyed.day) || dirty.contains(&entry.keyed.id));
        let overlay = &self.overlay;
        self.lacking.retain(|id| overlay.contains(id));
    }
}
