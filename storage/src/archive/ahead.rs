//! What messages will look up in memory, worked out before their turn, and states whose rows are about to be made or that
//! are about to be freed. They lie scattered over hundreds of megabytes: several are fetched side by side, for to wait for
//! one after the other took longer than the work itself.

use std::hint::black_box;
use std::sync::Arc;

use super::overlay::Entry;
use super::sequencer::Sequencer;
use super::{Message, duplicates};
use crate::event::shared_call_id;
use crate::fact::CallRef;
use crate::rows::{Keyed, State};

/// So many are fetched together.
pub(super) const FETCHED_AT_ONCE: usize = 16;

/// What one message will look up.
pub(super) struct Ahead {
    /// Its key among deliveries.
    pub delivery: u128,
    /// The id of its call, if the message names one.
    pub call: Option<Arc<str>>,
}

impl Ahead {
    pub fn of(message: &Message) -> Ahead {
        let Message { event, decoded } = message;
        let call = match &decoded.fact {
            Some((CallRef::Key(key), _)) => {
                Some(shared_call_id(&event.tenant, decoded.concerns.unwrap_or(event.source), key))
            }
            _ => None,
        };
        Ahead { delivery: duplicates::key(&event.tenant, event.source, &decoded.fingerprint), call }
    }
}

impl Sequencer {
    /// Fetches what these will look up.
    pub(super) fn fetch(&self, upcoming: &[Ahead]) {
        let looks = upcoming.iter().map(|ahead| {
            self.duplicates.fetch(ahead.delivery) ^ ahead.call.as_deref().map_or(0, |call| self.calls.fetch(call))
        });
        black_box(looks.fold(0, |all, look| all ^ look));
    }
}

/// Fetches all that these hold.
pub(super) fn fetch_states<'a, S: State>(states: impl IntoIterator<Item = &'a Keyed<S>>) {
    let looks = states.into_iter().map(|Keyed { id, key, state, .. }| {
        Arc::strong_count(id) ^ Arc::strong_count(key) ^ Arc::strong_count(state) ^ state.fetch()
    });
    black_box(looks.fold(0, |all, look| all ^ look));
}

/// Frees these: each must be looked at for that.
pub(super) fn free<S: State>(entries: Vec<Entry<S>>) {
    let mut entries = entries.into_iter();
    while !entries.as_slice().is_empty() {
        fetch_states(entries.as_slice().iter().take(FETCHED_AT_ONCE).map(|entry| &entry.keyed));
        entries.by_ref().take(FETCHED_AT_ONCE).for_each(drop);
    }
}
