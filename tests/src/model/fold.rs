//! The naive fold: a list of messages, one after the other, into two maps in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::DateTime;
use trunklog_storage::archive::Message;
use trunklog_storage::call::CallState;
use trunklog_storage::event::{Event, Micros, Offset, Source, call_id};
use trunklog_storage::fact::Decoded;
use trunklog_storage::recording::RecordingState;
use trunklog_storage::rows::{Keyed, KeyedCall, KeyedRecording};

use super::nameless::Nameless;

/// 2000-01-01T00:00:00Z: earlier times are not believed.
const EARLIEST: Micros = 946_684_800_000_000;
const DAY: Micros = 86_400_000_000;

/// What a list of messages, the first of them at offset 0, comes to.
#[derive(Default)]
pub struct Fold {
    /// By tenant, source and key.
    pub calls: BTreeMap<(String, Source, String), KeyedCall>,
    /// By our id.
    pub recordings: BTreeMap<String, KeyedRecording>,
    /// Of each message the id of its first delivery, if it is not that itself.
    pub duplicate_of: Vec<Option<String>>,
}

impl Fold {
    /// Folds all of them.
    pub fn of(messages: &[Message]) -> Fold {
        let mut fold = Fold::default();
        let mut nameless = Nameless::default();
        for (index, message) in messages.iter().enumerate() {
            let offset = Offset(index as u64);
            fold.duplicate_of.push(first_delivery(messages, index));
            if let Some((reference, _)) = &message.decoded.fact {
                let key = nameless.key(reference, &message.event, &message.decoded);
                fold.call(offset, message, key);
            }
            fold.recording(offset, message);
        }
        fold
    }

    fn call(&mut self, offset: Offset, Message { event, decoded, .. }: &Message, key: String) {
        let Some((_, fact)) = &decoded.fact else { return };
        let source = decoded.concerns.unwrap_or(event.source);
        let mut said = (**fact).clone();
        said.links.values_mut().for_each(|(decided, _)| *decided = offset);
        said.decided.values_mut().for_each(|decision| decision.at = offset);
        if event.source != Source::Trunklog {
            said.delivered(event.received_at, offset);
        }
        let id = call_id(&event.tenant, source, &key);
        let slot = self.calls.entry((event.tenant.to_string(), source, key.clone()));
        let call = slot.or_insert_with(|| Keyed {
            tenant: event.tenant.as_str().into(),
            source,
            id,
            key: key.into(),
            day: home(event, decoded),
            state: Arc::new(CallState::default()),
        });
        Arc::make_mut(&mut call.state).merge(said);
    }

    fn recording(&mut self, offset: Offset, Message { event, decoded, .. }: &Message) {
        let Some(fact) = &decoded.recording else { return };
        let moment = (event.received_at, offset);
        let mut said = fact.state.clone();
        said.stored.iter_mut().for_each(|(at, _)| *at = moment);
        said.uploaded_as.iter_mut().for_each(|(at, _)| *at = moment);
        said.uploads.values_mut().for_each(|at| *at = moment);
        said.probe.iter_mut().for_each(|(at, _)| *at = moment);
        said.link.iter_mut().for_each(|(at, _)| *at = moment);
        let recording = self.recordings.entry(fact.id.clone()).or_insert_with(|| Keyed {
            tenant: event.tenant.as_str().into(),
            source: fact.source,
            id: fact.id.as_str().into(),
            key: fact.id.as_str().into(),
            day: home(event, decoded),
            state: Arc::new(RecordingState::default()),
        });
        Arc::make_mut(&mut recording.state).merge(said);
    }
}

/// The first message that this one may be a repeat of: looked for among all that came before.
fn first_delivery(messages: &[Message], index: usize) -> Option<String> {
    let new = &messages[index];
    let repeats = |old: &&Message| {
        old.event.tenant == new.event.tenant
            && old.event.source == new.event.source
            && old.decoded.fingerprint == new.decoded.fingerprint
            && (new.event.received_at - old.event.received_at).abs() <= new.decoded.window
    };
    messages[..index].iter().find(repeats).map(|old| old.event.id.to_string())
}

/// Days since 1970 of the time that the message carries, if that can be believed, else of its receipt.
fn home(event: &Event, decoded: &Decoded) -> i32 {
    let believed = decoded.occurred_at.filter(|at| *at >= EARLIEST && *at <= event.received_at + DAY);
    let day = believed.unwrap_or(event.received_at).div_euclid(DAY);
    i32::try_from(day).expect("a day within thousands of years")
}

/// The day as the tables name it.
pub fn day_name(day: i32) -> String {
    let midnight = DateTime::from_timestamp_micros(i64::from(day) * DAY).expect("a day within thousands of years");
    midnight.format("%Y-%m-%d").to_string()
}
