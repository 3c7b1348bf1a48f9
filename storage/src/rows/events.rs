//! The rows of `events`.

use std::sync::Arc;

use arrow::array::{ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, RecordBatch, StringBuilder};

use super::{day_of, days, maps, texts, times, wholes};
use crate::error::Error;
use crate::event::{Event, Micros, Offset, push_hex};
use crate::schema;

/// A message with what the archive found out about it.
#[derive(Clone, Debug)]
pub struct LoggedEvent {
    /// The message.
    pub event: Arc<Event>,
    /// The partition of the log; the embedded log has one, 0.
    pub partition: usize,
    /// Its offset in it.
    pub offset: Offset,
    /// The time that the message itself carries.
    pub occurred_at: Option<Micros>,
    /// SHA-256 of the idempotency key.
    pub fingerprint: [u8; 32],
    /// Why it could not be understood.
    pub error: Option<Arc<str>>,
    /// The first delivery, if this is another one.
    pub duplicate_of: Option<Arc<str>>,
    /// About so many bytes of memory.
    pub(crate) bytes: u64,
}

fn event_columns(events: &[&LoggedEvent]) -> Result<Vec<ArrayRef>, Error> {
    let each = || events.iter().map(|logged| &*logged.event);
    let bytes = each().map(|event| event.payload.len()).sum();
    let mut payload = BinaryBuilder::with_capacity(events.len(), bytes);
    each().for_each(|event| payload.append_value(&event.payload));
    let mut quarantined = BooleanBuilder::new();
    events.iter().for_each(|logged| quarantined.append_value(logged.error.is_some()));
    let mut fingerprints = StringBuilder::with_capacity(events.len(), 64 * events.len());
    let mut digits = String::with_capacity(64);
    for logged in events {
        digits.clear();
        push_hex(&mut digits, &logged.fingerprint);
        fingerprints.append_value(&digits);
    }
    debug_assert_eq!(payload.len(), events.len());
    // `call_key` and `subject` are the same.
    let subjects = texts(each().map(|event| event.subject.as_deref()));
    Ok(vec![
        texts(each().map(|event| Some(event.tenant.as_str()))),
        texts(each().map(|event| Some(event.source.as_str()))),
        texts(each().map(|event| Some(event.kind.as_str()))),
        texts(each().map(|event| Some(event.id.as_str()))),
        Arc::clone(&subjects),
        subjects,
        times(each().map(|event| Some(event.received_at))),
        times(events.iter().map(|logged| logged.occurred_at)),
        wholes(events.iter().map(|logged| i64::try_from(logged.partition).ok())),
        wholes(events.iter().map(|logged| Some(logged.offset.0.cast_signed()))),
        texts(each().map(|event| event.method.as_deref())),
        texts(each().map(|event| event.path.as_deref())),
        texts(each().map(|event| event.query.as_deref())),
        maps(each().map(|event| &*event.headers))?,
        texts(each().map(|event| event.content_type.as_deref())),
        Arc::new(payload.finish()),
        Arc::new(fingerprints.finish()),
        texts(events.iter().map(|logged| logged.duplicate_of.as_deref())),
        Arc::new(quarantined.finish()),
        texts(events.iter().map(|logged| logged.error.as_deref())),
    ])
}

/// Events as SQL shows them.
pub fn events(events: &[&LoggedEvent]) -> Result<RecordBatch, Error> {
    Ok(RecordBatch::try_new(schema::bare(&schema::events()), event_columns(events)?)?)
}

/// Events as stored, with their receive day.
pub fn stored_events(events: &[&LoggedEvent]) -> Result<RecordBatch, Error> {
    let mut columns = event_columns(events)?;
    let structured = events.iter().map(|logged| Some(logged.event.structured));
    columns.push(Arc::new(arrow::array::BooleanArray::from_iter(structured)));
    columns.push(texts(events.iter().map(|logged| logged.event.error.as_deref())));
    columns.push(days(events.iter().map(|logged| day_of(logged.event.received_at))));
    Ok(RecordBatch::try_new(schema::bare(&schema::events_table()), columns)?)
}
