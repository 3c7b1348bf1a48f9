//! Rows to Arrow: calls and events as record batches in the tables' schemas.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Int64Array, ListBuilder, MapBuilder, MapFieldNames,
    RecordBatch, StringArray, StringBuilder, StructArray, TimestampMicrosecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field};

use crate::call::{CallRow, CallState, LegRow};
use crate::error::Error;
use crate::event::{Event, Micros, Offset, Source, format_time, hex};
use crate::fact::{Decoded, Decoder};
use crate::schema;

/// A call with its key, as the fold and the tail hold it.
#[derive(Clone, Debug)]
pub struct KeyedCall {
    /// Tenant.
    pub tenant: Arc<str>,
    /// Source.
    pub source: Source,
    /// Our id.
    pub call_id: Arc<str>,
    /// The source's key.
    pub key: Arc<str>,
    /// Home day, in days since 1970-01-01.
    pub day: i32,
    /// What is known.
    pub state: Arc<CallState>,
}

/// A message with what the archive found out about it.
#[derive(Clone, Debug)]
pub struct LoggedEvent {
    /// The message.
    pub event: Arc<Event>,
    /// Its offset.
    pub offset: Offset,
    /// What it means.
    pub decoded: Arc<Decoded>,
    /// The first delivery, if this is another one.
    pub duplicate_of: Option<Arc<str>>,
}

fn times(values: impl Iterator<Item = Option<Micros>>) -> ArrayRef {
    Arc::new(TimestampMicrosecondArray::from_iter(values).with_timezone("UTC"))
}

fn texts<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(StringArray::from_iter(values))
}

fn wholes(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(Int64Array::from_iter(values))
}

fn maps<'a>(values: impl Iterator<Item = &'a BTreeMap<String, String>>) -> Result<ArrayRef, Error> {
    let names = MapFieldNames { entry: "key_value".into(), key: "key".into(), value: "value".into() };
    let mut builder = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for map in values {
        for (key, value) in map {
            builder.keys().append_value(key);
            builder.values().append_value(value);
        }
        builder.append(true)?;
    }
    Ok(Arc::new(builder.finish()))
}

fn lists<'a>(values: impl Iterator<Item = &'a Vec<String>>) -> ArrayRef {
    let field = Field::new("element", DataType::Utf8, true);
    let mut builder = ListBuilder::new(StringBuilder::new()).with_field(field);
    for list in values {
        list.iter().for_each(|item| builder.values().append_value(item));
        builder.append(true);
    }
    Arc::new(builder.finish())
}

fn legs(rows: &[CallRow]) -> Result<ArrayRef, Error> {
    let flat: Vec<&LegRow> = rows.iter().flat_map(|row| &row.legs).collect();
    let each = || flat.iter();
    let columns: Vec<ArrayRef> = vec![
        texts(each().map(|leg| Some(leg.leg_key.as_str()))),
        texts(each().map(|leg| leg.endpoint.as_deref())),
        texts(each().map(|leg| leg.endpoint_name.as_deref())),
        texts(each().map(|leg| Some(leg.direction.as_str()))),
        times(each().map(|leg| leg.started_at)),
        times(each().map(|leg| leg.ringing_at)),
        times(each().map(|leg| leg.answered_at)),
        times(each().map(|leg| leg.ended_at)),
        wholes(each().map(|leg| leg.talk_ms)),
        texts(each().map(|leg| Some(leg.disposition))),
        texts(each().map(|leg| leg.disposition_raw.as_deref())),
        wholes(each().map(|leg| leg.cause_q850)),
    ];
    let values = StructArray::try_new(schema::leg_fields(), columns, None::<NullBuffer>)?;
    let element = Arc::new(Field::new("element", DataType::Struct(schema::leg_fields()), true));
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(|row| row.legs.len()));
    Ok(Arc::new(arrow::array::ListArray::try_new(element, offsets, Arc::new(values), None)?))
}

/// The columns of `calls`, in the schema's order.
fn call_columns(calls: &[KeyedCall], decoder: &dyn Decoder) -> Result<Vec<ArrayRef>, Error> {
    let rows: Vec<CallRow> = calls.iter().map(|call| call.state.row(&call.tenant, call.source)).collect();
    let e164 = |pick: fn(&CallRow) -> &Option<String>| -> ArrayRef {
        let numbers = calls
            .iter()
            .zip(&rows)
            .map(|(call, row)| pick(row).as_deref().and_then(|number| decoder.e164(&call.tenant, call.source, number)));
        Arc::new(StringArray::from_iter(numbers))
    };
    let seen = |pick: fn(&crate::call::Seen) -> i64| calls.iter().map(move |call| call.state.seen.as_ref().map(pick));
    let each = || rows.iter();
    let text = |pick: fn(&CallRow) -> Option<&str>| texts(each().map(pick));
    let time = |pick: fn(&CallRow) -> Option<Micros>| times(each().map(pick));
    let whole = |pick: fn(&CallRow) -> Option<i64>| wholes(each().map(pick));
    Ok(vec![
        texts(calls.iter().map(|call| Some(&*call.tenant))),
        texts(calls.iter().map(|call| Some(call.source.as_str()))),
        texts(calls.iter().map(|call| Some(&*call.call_id))),
        texts(calls.iter().map(|call| Some(&*call.key))),
        text(|row| Some(&row.direction)),
        text(|row| row.from_number.as_deref()),
        text(|row| row.to_number.as_deref()),
        e164(|row| &row.from_number),
        e164(|row| &row.to_number),
        text(|row| row.caller_name.as_deref()),
        text(|row| row.own_number.as_deref()),
        text(|row| row.endpoint.as_deref()),
        text(|row| row.endpoint_name.as_deref()),
        text(|row| row.queue.as_deref()),
        time(|row| row.started_at),
        time(|row| row.ringing_at),
        time(|row| row.answered_at),
        time(|row| row.ended_at),
        whole(|row| row.duration_ms),
        whole(|row| row.ring_ms),
        whole(|row| row.talk_ms),
        whole(|row| row.hold_ms),
        whole(|row| row.ivr_ms),
        whole(|row| row.queue_ms),
        text(|row| Some(row.disposition)),
        text(|row| row.disposition_raw.as_deref()),
        whole(|row| row.cause_q850),
        whole(|row| row.sip_status),
        text(|row| Some(&row.released_by)),
        text(|row| Some(row.state)),
        text(|row| row.clock),
        legs(&rows)?,
        whole(|row| Some(row.transfers)),
        text(|row| Some(row.recording_state)),
        lists(each().map(|row| &row.recordings)),
        maps(each().map(|row| &row.dtmf))?,
        maps(each().map(|row| &row.attributes))?,
        text(|row| row.external_id.as_deref()),
        lists(each().map(|row| &row.related_calls)),
        times(seen(|seen| seen.first_received_at)),
        times(seen(|seen| seen.last_received_at)),
        wholes(seen(|seen| seen.first_offset.0.cast_signed())),
        wholes(seen(|seen| seen.last_offset.0.cast_signed())),
    ])
}

/// Calls as SQL shows them.
pub fn calls(calls: &[KeyedCall], decoder: &dyn Decoder) -> Result<RecordBatch, Error> {
    Ok(RecordBatch::try_new(schema::bare(&schema::calls()), call_columns(calls, decoder)?)?)
}

/// Calls as stored, with state, day and tier.
pub fn stored_calls(calls: &[KeyedCall], tier: &str, decoder: &dyn Decoder) -> Result<RecordBatch, Error> {
    let mut columns = call_columns(calls, decoder)?;
    let mut fold = BinaryBuilder::new();
    for call in calls {
        fold.append_value(encode_state(&call.state)?);
    }
    columns.push(Arc::new(fold.finish()));
    let days: Vec<String> = calls.iter().map(|call| day_name(call.day)).collect();
    columns.push(texts(days.iter().map(|day| Some(day.as_str()))));
    columns.push(texts(calls.iter().map(|_| Some(tier))));
    Ok(RecordBatch::try_new(schema::bare(&schema::calls_table()), columns)?)
}

/// The `fold` column: MessagePack with field names, so that a state may grow fields.
pub fn encode_state(state: &CallState) -> Result<Vec<u8>, Error> {
    rmp_serde::to_vec_named(state).map_err(|error| Error::Corrupt(format!("a call's state cannot be written: {error}")))
}

/// Reads a `fold` column.
pub fn decode_state(bytes: &[u8]) -> Result<CallState, Error> {
    rmp_serde::from_slice(bytes)
        .map_err(|error| Error::Corrupt(format!("a call's stored state cannot be read: {error}")))
}

fn event_columns(events: &[LoggedEvent]) -> Result<Vec<ArrayRef>, Error> {
    let each = || events.iter().map(|logged| &*logged.event);
    let mut payload = BinaryBuilder::new();
    each().for_each(|event| payload.append_value(&event.payload));
    let mut quarantined = BooleanBuilder::new();
    events.iter().for_each(|logged| quarantined.append_value(logged.decoded.error.is_some()));
    let fingerprints: Vec<String> = events.iter().map(|logged| hex(&logged.decoded.fingerprint)).collect();
    debug_assert_eq!(payload.len(), events.len());
    Ok(vec![
        texts(each().map(|event| Some(event.tenant.as_str()))),
        texts(each().map(|event| Some(event.source.as_str()))),
        texts(events.iter().map(|logged| Some(logged.decoded.kind.as_str()))),
        texts(each().map(|event| Some(event.id.as_str()))),
        texts(events.iter().map(|logged| logged.decoded.call_key.as_deref())),
        texts(events.iter().map(|logged| logged.decoded.call_key.as_deref())),
        times(each().map(|event| Some(event.received_at))),
        times(events.iter().map(|logged| logged.decoded.occurred_at)),
        wholes(each().map(|_| Some(0))),
        wholes(events.iter().map(|logged| Some(logged.offset.0.cast_signed()))),
        texts(each().map(|event| event.method.as_deref())),
        texts(each().map(|event| event.path.as_deref())),
        texts(each().map(|event| event.query.as_deref())),
        maps(each().map(|event| &event.headers))?,
        texts(each().map(|event| event.content_type.as_deref())),
        Arc::new(payload.finish()),
        texts(fingerprints.iter().map(|fingerprint| Some(fingerprint.as_str()))),
        texts(events.iter().map(|logged| logged.duplicate_of.as_deref())),
        Arc::new(quarantined.finish()),
        texts(events.iter().map(|logged| logged.decoded.error.as_deref())),
    ])
}

/// Events as SQL shows them.
pub fn events(events: &[LoggedEvent]) -> Result<RecordBatch, Error> {
    Ok(RecordBatch::try_new(schema::bare(&schema::events()), event_columns(events)?)?)
}

/// Events as stored, with their receive day.
pub fn stored_events(events: &[LoggedEvent]) -> Result<RecordBatch, Error> {
    let mut columns = event_columns(events)?;
    let structured = events.iter().map(|logged| Some(logged.event.structured));
    columns.push(Arc::new(arrow::array::BooleanArray::from_iter(structured)));
    columns.push(texts(events.iter().map(|logged| logged.event.error.as_deref())));
    let days: Vec<String> = events.iter().map(|logged| day_name(day_of(logged.event.received_at))).collect();
    columns.push(texts(days.iter().map(|day| Some(day.as_str()))));
    Ok(RecordBatch::try_new(schema::bare(&schema::events_table()), columns)?)
}

const DAY: Micros = 86_400_000_000;

/// The UTC day of a time, in days since 1970-01-01; times outside what a table can hold go to its ends.
pub fn day_of(at: Micros) -> i32 {
    i32::try_from(at.div_euclid(DAY)).unwrap_or(if at < 0 { i32::MIN } else { i32::MAX })
}

/// `2026-01-02`.
pub fn day_name(day: i32) -> String {
    let mut name = format_time(Micros::from(day).saturating_mul(DAY));
    name.truncate(10);
    name
}

/// The day of this name.
pub fn parse_day(name: &str) -> Option<i32> {
    crate::event::parse_time(&format!("{name}T00:00:00Z")).map(day_of)
}
