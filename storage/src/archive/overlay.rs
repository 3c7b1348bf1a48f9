//! Calls or recordings that are not whole in the final tier: those with parts or with messages in the tail, merged in
//! memory.
//!
//! Spread over shards by id; a query holds the shards it saw, and a change copies only the shard it touches, so
//! the rows of the others are rendered once for many queries.

use std::sync::{Arc, OnceLock};

use ahash::RandomState;
use arrow::array::RecordBatch;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry as Slot;

use crate::error::Error;
use crate::fact::Decoder;
use crate::rows::{self, Keyed, State};

const SHARDS: usize = 64;

/// A call or recording in memory.
#[derive(Clone, Debug)]
pub(crate) struct Entry<S: State> {
    pub keyed: Keyed<S>,
    /// It has a row in the final tier.
    pub stored: bool,
    /// That row is not merged in yet.
    pub lacks_stored: bool,
    /// It has rows in the part tier.
    pub parts: bool,
    /// The file that has its row is replaced by the next fold.
    pub provisional: bool,
    /// The round in which a message last changed it (see [`super::projection::Projection::round`]).
    pub changed: u64,
    /// What is shown of it, once somebody asked.
    pub shown: OnceLock<Arc<S::Shown>>,
}

/// Where something that is said of a state comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// A stored part.
    InPart,
    /// A message, in this round.
    InRound(u64),
}

impl<S: State> Entry<S> {
    /// One that nothing is known of but this.
    pub fn new(keyed: Keyed<S>, stored: bool) -> Entry<S> {
        let (parts, provisional, changed) = (false, false, 0);
        Entry { keyed, stored, lacks_stored: stored, parts, provisional, changed, shown: OnceLock::new() }
    }

    /// Notes where that comes from which was merged into it; says whether it is the first message of its round.
    pub fn note(&mut self, said: Said) -> bool {
        match said {
            Said::InPart => {
                self.parts = true;
                false
            }
            Said::InRound(round) => std::mem::replace(&mut self.changed, round) != round,
        }
    }

    /// Merges more into it.
    pub fn join(&mut self, more: Arc<S>) {
        Arc::make_mut(&mut self.keyed.state).join(Arc::unwrap_or_clone(more));
        self.shown = OnceLock::new();
    }
}

#[derive(Clone, Debug)]
struct Shard<S: State> {
    /// By their ids.
    entries: HashTable<Entry<S>>,
    hasher: RandomState,
    rendered: OnceLock<RecordBatch>,
}

impl<S: State> Default for Shard<S> {
    fn default() -> Self {
        Shard { entries: HashTable::new(), hasher: RandomState::new(), rendered: OnceLock::new() }
    }
}

impl<S: State> Shard<S> {
    fn get(&self, id: &str) -> Option<&Entry<S>> {
        self.entries.find(self.hasher.hash_one(id), |entry| *entry.keyed.id == *id)
    }

    fn get_mut(&mut self, id: &str) -> Option<&mut Entry<S>> {
        self.entries.find_mut(self.hasher.hash_one(id), |entry| *entry.keyed.id == *id)
    }
}

/// The states in memory; cloning is cheap and gives an unchanging view.
#[derive(Clone, Debug)]
pub(crate) struct Overlay<S: State> {
    shards: Vec<Arc<Shard<S>>>,
}

impl<S: State> Default for Overlay<S> {
    fn default() -> Self {
        Overlay { shards: (0..SHARDS).map(|_| Arc::default()).collect() }
    }
}

fn shard_of(id: &str) -> usize {
    id.get(..2).and_then(|prefix| usize::from_str_radix(prefix, 16).ok()).unwrap_or_default() % SHARDS
}

impl<S: State> Overlay<S> {
    /// Whether the rows of this one in the tables are superseded.
    pub fn contains(&self, id: &str) -> bool {
        self.get(id).is_some()
    }

    pub fn get(&self, id: &str) -> Option<&Entry<S>> {
        self.shards[shard_of(id)].get(id)
    }

    pub fn insert(&mut self, entry: Entry<S>) {
        let shard = Arc::make_mut(&mut self.shards[shard_of(&entry.keyed.id)]);
        shard.rendered = OnceLock::new();
        let hash = |entry: &Entry<S>| shard.hasher.hash_one(&*entry.keyed.id);
        match shard.entries.entry(hash(&entry), |known| known.keyed.id == entry.keyed.id, hash) {
            Slot::Occupied(mut slot) => *slot.get_mut() = entry,
            Slot::Vacant(slot) => drop(slot.insert(entry)),
        }
    }

    /// Changes an entry, if there is one.
    pub fn change(&mut self, id: &str, change: impl FnOnce(&mut Entry<S>)) {
        let shard = Arc::make_mut(&mut self.shards[shard_of(id)]);
        if let Some(entry) = shard.get_mut(id) {
            change(entry);
            entry.shown = OnceLock::new();
            shard.rendered = OnceLock::new();
        }
    }

    /// Merges more into an entry, and says what [`Entry::note`] does; gives it back if there is none.
    pub fn join(&mut self, more: Keyed<S>, said: Said) -> Result<bool, Keyed<S>> {
        let shard = Arc::make_mut(&mut self.shards[shard_of(&more.id)]);
        let Some(entry) = shard.get_mut(&more.id) else { return Err(more) };
        entry.join(more.state);
        let is_first = entry.note(said);
        shard.rendered = OnceLock::new();
        Ok(is_first)
    }

    /// Notes something about an entry that its row does not show.
    pub fn mark(&mut self, id: &str, mark: impl FnOnce(&mut Entry<S>)) {
        if let Some(entry) = Arc::make_mut(&mut self.shards[shard_of(id)]).get_mut(id) {
            mark(entry);
        }
    }

    /// Takes out an entry whose row in the table is whole; what comes back only needs to be dropped.
    pub fn remove(&mut self, id: &str) -> Option<Entry<S>> {
        let shard = Arc::make_mut(&mut self.shards[shard_of(id)]);
        shard.rendered = OnceLock::new();
        let found = shard.entries.find_entry(shard.hasher.hash_one(id), |entry| *entry.keyed.id == *id);
        found.ok().map(|entry| entry.remove().0)
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry<S>> {
        self.shards.iter().flat_map(|shard| shard.entries.iter())
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.entries.len()).sum()
    }

    /// The rows of all, a batch for each shard that has any.
    pub fn rows(&self, decoder: &dyn Decoder) -> Result<Vec<RecordBatch>, Error> {
        let filled = self.shards.iter().filter(|shard| !shard.entries.is_empty());
        filled
            .map(|shard| {
                if let Some(batch) = shard.rendered.get() {
                    return Ok(batch.clone());
                }
                let states: Vec<Keyed<S>> = shard.entries.iter().map(|entry| entry.keyed.clone()).collect();
                let batch = rows::shown(&states, decoder)?;
                Ok(shard.rendered.get_or_init(|| batch).clone())
            })
            .collect()
    }
}
