//! What messages will look up in memory, and states whose rows are about to be made or that are about to be freed. They
//! lie scattered over hundreds of megabytes: several are fetched side by side, for to wait for one after the other took
//! longer than the work itself.

use std::hint::black_box;
use std::sync::Arc;

use smallvec::SmallVec;

use super::overlay::Entry;
use super::sequencer::Sequencer;
use super::{Message, duplicates};
use crate::event::{Event, Id, call_id};
use crate::fact::{CallRef, Decoded};
use crate::rows::{Keyed, State};

/// So many are fetched together.
pub(super) const FETCHED_AT_ONCE: usize = 16;

/// What one message will look up. Worked out when it is decoded, while the processor has it at hand.
#[derive(Clone, Debug)]
pub(super) struct Ahead {
    /// Its key among deliveries.
    pub delivery: u128,
    /// The id of its call, if the message names one.
    pub call: Option<Id>,
}

impl Ahead {
    pub fn of(event: &Event, decoded: &Decoded) -> Ahead {
        let call = match &decoded.fact {
            Some((CallRef::Key(key), _)) => Some(call_id(&event.tenant, decoded.concerns.unwrap_or(event.source), key)),
            _ => None,
        };
        Ahead { delivery: duplicates::key(&event.tenant, event.source, &decoded.fingerprint), call }
    }
}

impl Sequencer {
    /// Fetches these messages and what they will look up, then the states of their calls.
    pub(super) fn fetch(&self, upcoming: &[Message]) {
        let looks = upcoming.iter().map(|Message { event, decoded, ahead, .. }| {
            let said = decoded.fact.as_ref().map_or(0, |(_, state)| state.look());
            let near = said ^ event.look() ^ self.duplicates.fetch(ahead.delivery);
            (near, ahead.call.as_deref().map_or(Err(0), |call| self.calls.fetch(call)))
        });
        let looks: SmallVec<[_; FETCHED_AT_ONCE]> = looks.collect();
        let all = looks
            .into_iter()
            .map(|(near, call)| near ^ call.map_or_else(|look| look, |entry| entry.keyed.state.look()));
        black_box(all.fold(0, |all, look| all ^ look));
    }
}

/// Fetches all that these hold.
pub(super) fn fetch_states<'a, S: State>(states: impl IntoIterator<Item = &'a Keyed<S>>) {
    let looks = states
        .into_iter()
        .map(|Keyed { key, state, .. }| Arc::strong_count(key) ^ Arc::strong_count(state) ^ state.fetch());
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
