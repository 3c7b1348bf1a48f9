//! Calls that are not whole in the final tier: those with parts or with messages in the tail, merged in memory.
//!
//! Spread over shards by call id; a query holds the shards it saw, and a change copies only the shard it touches, so
//! the rows of the others are rendered once for many queries.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;

use crate::error::Error;
use crate::fact::Decoder;
use crate::rows::{self, KeyedCall};

const SHARDS: usize = 64;

/// A call in memory.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub call: KeyedCall,
    /// It has a row in the final tier which is not merged in yet.
    pub lacks_stored: bool,
}

#[derive(Clone, Debug, Default)]
struct Shard {
    calls: HashMap<Arc<str>, Entry>,
    rendered: OnceLock<RecordBatch>,
}

/// The calls in memory; cloning is cheap and gives an unchanging view.
#[derive(Clone, Debug)]
pub(crate) struct Overlay {
    shards: Vec<Arc<Shard>>,
}

impl Default for Overlay {
    fn default() -> Self {
        Overlay { shards: (0..SHARDS).map(|_| Arc::default()).collect() }
    }
}

fn shard_of(call_id: &str) -> usize {
    call_id.get(..2).and_then(|prefix| usize::from_str_radix(prefix, 16).ok()).unwrap_or_default() % SHARDS
}

impl Overlay {
    /// Whether the rows of this call in the tables are superseded.
    pub fn contains(&self, call_id: &str) -> bool {
        self.shards[shard_of(call_id)].calls.contains_key(call_id)
    }

    pub fn get(&self, call_id: &str) -> Option<&Entry> {
        self.shards[shard_of(call_id)].calls.get(call_id)
    }

    /// Changes or makes the entry of this call.
    pub fn update(&mut self, call_id: &str, make: impl FnOnce() -> Entry, change: impl FnOnce(&mut Entry)) {
        let shard = Arc::make_mut(&mut self.shards[shard_of(call_id)]);
        shard.rendered = OnceLock::new();
        match shard.calls.get_mut(call_id) {
            Some(entry) => change(entry),
            None => {
                let mut entry = make();
                change(&mut entry);
                shard.calls.insert(Arc::clone(&entry.call.call_id), entry);
            }
        }
    }

    /// Changes the entry of this call, if there is one.
    pub fn change(&mut self, call_id: &str, change: impl FnOnce(&mut Entry)) {
        let shard = Arc::make_mut(&mut self.shards[shard_of(call_id)]);
        if let Some(entry) = shard.calls.get_mut(call_id) {
            change(entry);
            shard.rendered = OnceLock::new();
        }
    }

    /// Drops the entries for which `keep` is false.
    pub fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        for shard in &mut self.shards {
            if shard.calls.values().any(|entry| !keep(entry)) {
                let shard = Arc::make_mut(shard);
                shard.calls.retain(|_, entry| keep(entry));
                shard.rendered = OnceLock::new();
            }
        }
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.shards.iter().flat_map(|shard| shard.calls.values())
    }

    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.calls.len()).sum()
    }

    /// The rows of all calls, a batch for each shard that has any.
    pub fn rows(&self, decoder: &dyn Decoder) -> Result<Vec<RecordBatch>, Error> {
        let filled = self.shards.iter().filter(|shard| !shard.calls.is_empty());
        filled
            .map(|shard| {
                if let Some(batch) = shard.rendered.get() {
                    return Ok(batch.clone());
                }
                let calls: Vec<KeyedCall> = shard.calls.values().map(|entry| entry.call.clone()).collect();
                let batch = rows::calls(&calls, decoder)?;
                Ok(shard.rendered.get_or_init(|| batch).clone())
            })
            .collect()
    }
}
