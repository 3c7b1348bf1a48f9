//! Everything that happens in log order, one message after the other: duplicate marks, call keys, home days, merging
//! into the overlay, the tail. Plain code under one lock; no I/O.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::catalog::TableProvider;

use super::Message;
use super::arrivals::Announcer;
use super::duplicates::Duplicates;
use super::keyer::Keyer;
use super::projection::Projection;
use super::tail::Tail;
use crate::call::CallState;
use crate::event::{Event, Micros, Offset, Source, call_id, hex};
use crate::fact::Decoded;
use crate::recording::RecordingState;
use crate::rows::{Keyed, LoggedEvent, day_of};

/// 2000-01-01: times before are not believed.
const EARLIEST_TIME: Micros = 946_684_800_000_000;
const DAY: Micros = 86_400_000_000;

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
    pub duplicates: Duplicates,
    pub keyer: Keyer,
    /// Last offset taken in.
    pub last: Option<Offset>,
    pub events_watermark: Option<Offset>,
    pub events: Arc<dyn TableProvider>,
    pub calls: Projection<CallState>,
    pub recordings: Projection<RecordingState>,
    /// Who wants to know of recordings whose bytes were acknowledged.
    pub subscribers: Vec<Announcer>,
}

/// The home day of a call: that of the time which its first message carries, if it can be believed.
pub(crate) fn home_day(event: &Event, decoded: &Decoded) -> i32 {
    let carried = decoded.occurred_at.filter(|at| (EARLIEST_TIME..=event.received_at.saturating_add(DAY)).contains(at));
    day_of(carried.unwrap_or(event.received_at))
}

impl Sequencer {
    /// One that has taken in nothing, over these tables.
    pub fn new(
        events: Arc<dyn TableProvider>,
        events_watermark: Option<Offset>,
        calls: Projection<CallState>,
        recordings: Projection<RecordingState>,
    ) -> Sequencer {
        Sequencer {
            tail: Tail::default(),
            duplicates: Duplicates::default(),
            keyer: Keyer::default(),
            last: None,
            events_watermark,
            events,
            calls,
            recordings,
            subscribers: Vec::new(),
        }
    }

    /// The last offset that every table has.
    pub fn folded(&self) -> Option<Offset> {
        self.events_watermark.min(self.calls.watermark).min(self.recordings.watermark)
    }

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
        if self.calls.is_behind(offset) {
            self.fold_call(offset, &event, &decoded);
        }
        if self.recordings.is_behind(offset) {
            self.fold_recording(offset, &event, &decoded);
        }
        self.last = self.last.max(Some(offset));
        duplicate
    }

    fn fold_call(&mut self, offset: Offset, event: &Event, decoded: &Decoded) {
        let Some(key) = self.keyer.key(event, decoded) else { return };
        let Some((_, fact)) = &decoded.fact else { return };
        let source = decoded.concerns.unwrap_or(event.source);
        let mut state = fact.clone();
        state.decided_at(offset);
        // The bookkeeping columns are about what the telephone system delivered.
        if event.source != Source::Trunklog {
            state.delivered(event.received_at, offset);
        }
        self.calls.take(Keyed {
            tenant: event.tenant.as_str().into(),
            source,
            id: call_id(&event.tenant, source, &key).into(),
            key: key.into(),
            day: home_day(event, decoded),
            state: Arc::new(state),
        });
    }

    fn fold_recording(&mut self, offset: Offset, event: &Event, decoded: &Decoded) {
        let Some(fact) = &decoded.recording else { return };
        let mut state = fact.state.clone();
        state.said_at((event.received_at, offset));
        let keyed = Keyed {
            tenant: event.tenant.as_str().into(),
            source: fact.source,
            id: fact.id.as_str().into(),
            key: fact.id.as_str().into(),
            day: home_day(event, decoded),
            state: Arc::new(state),
        };
        if keyed.state.stored.is_some() {
            self.subscribers.retain(|subscriber| subscriber.tell(&keyed));
        }
        self.recordings.take(keyed);
    }
}
