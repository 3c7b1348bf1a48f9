//! Everything that happens in log order, one message after the other: duplicate marks, call keys, home days, merging
//! into the overlay, the tail. Plain code under one lock; but for look-ups in the indexes no I/O.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ahash::RandomState;
use tokio::sync::OwnedSemaphorePermit;

use super::Message;
use super::ahead::{Ahead, FETCHED_AT_ONCE};
use super::arrivals::Announcer;
use super::duplicates::{Duplicates, Noted};
use super::early::Early;
use super::keyer::Keyer;
use super::projection::Projection;
use super::tail::Tail;
use crate::call::CallState;
use crate::error::Error;
use crate::event::{Event, Id, Micros, Offset, Source, call_id};
use crate::fact::{Decoded, RecordingFact};
use crate::lake::Pinned;
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

/// Why no more is taken in until a restart.
#[derive(Clone, Debug)]
pub(crate) enum Failure {
    /// An index cannot be read: it is thrown away, and the start makes it again.
    Index(String),
    /// Something else, by which the indexes are as good as before.
    Other(String),
}

impl Failure {
    pub fn reason(&self) -> &str {
        match self {
            Failure::Index(reason) | Failure::Other(reason) => reason,
        }
    }
}

/// The state of the log's end.
pub(crate) struct Sequencer {
    pub tail: Tail,
    /// Where the tail's messages go when a long log is read at the start.
    pub early: Option<Early>,
    /// Size of those that went there and are not in the table, as the tail counts it.
    pub early_bytes: u64,
    pub duplicates: Duplicates,
    pub keyer: Keyer,
    /// Last offset that the keyer has seen.
    pub keyed: Option<Offset>,
    /// Last offset taken in.
    pub last: Option<Offset>,
    pub events_watermark: Option<Offset>,
    pub events: Arc<Pinned>,
    pub calls: Projection<CallState>,
    pub recordings: Projection<RecordingState>,
    /// The partition of the log, as `events` names it.
    pub partition: usize,
    /// Those of messages so far, for all that follow with the same.
    tenants: HashSet<Arc<str>, RandomState>,
    /// Who wants to know of messages about calls.
    pub call_subscribers: Vec<Announcer<CallState>>,
    /// Who wants to know of messages about recordings.
    pub recording_subscribers: Vec<Announcer<RecordingState>>,
    /// Why no more is taken in, if so: what was taken in is right, what follows would not be.
    pub failed: Option<Failure>,
}

/// The home day of a call: that of the time which its first message carries, if it can be believed.
pub(crate) fn home_day(event: &Event, decoded: &Decoded) -> i32 {
    let carried = decoded.occurred_at.filter(|at| (EARLIEST_TIME..=event.received_at.saturating_add(DAY)).contains(at));
    day_of(carried.unwrap_or(event.received_at))
}

impl Sequencer {
    /// One that has taken in nothing, over these tables.
    pub fn new(
        events: Arc<Pinned>,
        events_watermark: Option<Offset>,
        calls: Projection<CallState>,
        recordings: Projection<RecordingState>,
        duplicates: Duplicates,
    ) -> Sequencer {
        Sequencer {
            tail: Tail::default(),
            early: None,
            early_bytes: 0,
            duplicates,
            keyer: Keyer::default(),
            keyed: None,
            last: None,
            events_watermark,
            events,
            calls,
            recordings,
            partition: 0,
            tenants: HashSet::default(),
            call_subscribers: Vec::new(),
            recording_subscribers: Vec::new(),
            failed: None,
        }
    }

    /// The last offset that every table has.
    pub fn folded(&self) -> Option<Offset> {
        self.events_watermark.min(self.calls.watermark).min(self.recordings.watermark)
    }

    /// Size of the messages that `events` lacks.
    pub fn bytes(&self) -> u64 {
        self.tail.bytes() + self.early_bytes
    }

    /// Lets the tail's messages be written, if a long log is being read.
    pub fn write_early(&mut self, permit: OwnedSemaphorePermit) {
        if let Some(early) = &mut self.early {
            let (messages, bytes) = self.tail.take_out();
            early.push(messages, bytes, permit);
            self.early_bytes += bytes;
        }
    }

    /// Takes in a batch, unless an earlier one failed.
    pub fn take(&mut self, arrived: Arrived) {
        let mut messages = arrived.messages.into_iter();
        for index in 0.. {
            if index % FETCHED_AT_ONCE == 0 {
                self.fetch(messages.as_slice().get(..FETCHED_AT_ONCE).unwrap_or(messages.as_slice()));
            }
            let Some(message) = messages.next() else { return };
            let offset = Offset(arrived.first.0 + index as u64);
            if self.failed.is_some() {
                return;
            }
            let taken = catch_unwind(AssertUnwindSafe(|| self.message(offset, message)));
            let failure = match taken {
                Ok(Ok(duplicate)) => {
                    arrived.duplicate[index].store(duplicate, Ordering::Release);
                    continue;
                }
                Ok(Err(error)) => Failure::Index(error.to_string()),
                Err(_) => Failure::Other("taking in a message broke off".into()),
            };
            tracing::error!(reason = failure.reason(), %offset, "nothing more is taken in until a restart");
            self.failed = Some(failure);
        }
    }

    /// # Errors
    /// `Poisoned` when no more is taken in.
    pub fn check(&self) -> Result<(), Error> {
        self.failed.as_ref().map_or(Ok(()), |failure| Err(Error::Poisoned(failure.reason().to_owned())))
    }

    /// Whether that is because an index cannot be read.
    pub fn has_bad_index(&self) -> bool {
        matches!(self.failed, Some(Failure::Index(_)))
    }

    /// Takes in one message; says whether it is a duplicate.
    fn message(&mut self, offset: Offset, message: Message) -> Result<bool, Error> {
        let Message { event, mut decoded, ahead: Ahead { delivery, call }, bytes } = message;
        let mut duplicate_of = None;
        if self.duplicates.is_behind(offset) {
            match self.duplicates.note_key(delivery, decoded.window, offset, &event)? {
                Noted::First => {}
                Noted::RepeatOf(original) => duplicate_of = Some(original),
                Noted::SameRecord => {
                    self.pass(offset);
                    return Ok(true);
                }
            }
        } else {
            self.duplicates.pass((offset, event.received_at, event.id.as_str()));
        }
        self.merge(offset, &event, &mut decoded, call, true)?;
        let duplicate = duplicate_of.is_some();
        if self.events_watermark.is_none_or(|folded| offset > folded) {
            let Decoded { occurred_at, fingerprint, error, .. } = decoded;
            let (error, partition) = (error.map(Arc::from), self.partition);
            self.tail.push(LoggedEvent {
                event,
                partition,
                offset,
                occurred_at,
                fingerprint,
                error,
                duplicate_of,
                bytes,
            });
        }
        self.last = self.last.max(Some(offset));
        Ok(duplicate)
    }

    /// A record that the log has already: no row and no fold is to know of it.
    fn pass(&mut self, offset: Offset) {
        metrics::counter!("trunklog_log_repeats_total").increment(1);
        self.keyed = self.keyed.max(Some(offset));
        self.last = self.last.max(Some(offset));
    }

    /// Merges what the message says, which is taken out of it, and tells those who want to know, if they are to be told.
    ///
    /// # Errors
    /// If an index cannot be read.
    pub fn project(&mut self, offset: Offset, event: &Event, decoded: &mut Decoded, tell: bool) -> Result<(), Error> {
        self.merge(offset, event, decoded, None, tell)
    }

    fn merge(
        &mut self,
        offset: Offset,
        event: &Event,
        decoded: &mut Decoded,
        id: Option<Id>,
        tell: bool,
    ) -> Result<(), Error> {
        if self.keyed.is_none_or(|keyed| offset > keyed) {
            let call = self.call(offset, event, decoded, id);
            self.keyed = Some(offset);
            if let Some(call) = call {
                if self.calls.is_behind(offset) {
                    self.call_subscribers.retain(|subscriber| !tell || subscriber.tell(&call));
                    self.calls.take(call)?;
                } else {
                    self.calls.place(&call)?;
                }
            }
        }
        let Some(recording) = recording(offset, event, decoded) else { return Ok(()) };
        if !self.recordings.is_behind(offset) {
            return self.recordings.place(&recording);
        }
        self.recording_subscribers.retain(|subscriber| !tell || subscriber.tell(&recording));
        self.recordings.take(recording)
    }

    fn shared(&mut self, tenant: &str) -> Arc<str> {
        if let Some(known) = self.tenants.get(tenant) {
            return Arc::clone(known);
        }
        let tenant: Arc<str> = tenant.into();
        self.tenants.insert(Arc::clone(&tenant));
        tenant
    }

    /// What the message says about a call, if it does; `id` is that of the call, if it is known.
    fn call(
        &mut self,
        offset: Offset,
        event: &Event,
        decoded: &mut Decoded,
        id: Option<Id>,
    ) -> Option<Keyed<CallState>> {
        let key = self.keyer.key(event, decoded)?;
        let (_, mut shared) = decoded.fact.take()?;
        let state = Arc::make_mut(&mut shared);
        let source = decoded.concerns.unwrap_or(event.source);
        state.decided_at(offset);
        // The bookkeeping columns are about what the telephone system delivered.
        if event.source != Source::Trunklog {
            state.delivered(event.received_at, offset);
        }
        Some(Keyed {
            tenant: self.shared(&event.tenant),
            source,
            id: id.unwrap_or_else(|| call_id(&event.tenant, source, &key)),
            key,
            day: home_day(event, decoded),
            state: shared,
        })
    }
}

/// What the message says about a recording, if it does.
fn recording(offset: Offset, event: &Event, decoded: &mut Decoded) -> Option<Keyed<RecordingState>> {
    let RecordingFact { source, id, mut state } = *decoded.recording.take()?;
    state.said_at((event.received_at, offset));
    Some(Keyed {
        tenant: event.tenant.as_str().into(),
        source,
        key: id.as_str().into(),
        id: id.as_str().into(),
        day: home_day(event, decoded),
        state: Arc::new(state),
    })
}
