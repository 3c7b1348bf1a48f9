//! The Arrow schemas of all tables, with what each column means. Times are UTC with microseconds, durations whole
//! milliseconds. The order of columns is that of the published interface.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

/// Timestamps of every table.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Map of string to string, sorted by key.
pub fn string_map() -> DataType {
    let key = Field::new("key", DataType::Utf8, false);
    let value = Field::new("value", DataType::Utf8, true);
    let entries = DataType::Struct(Fields::from(vec![key, value]));
    DataType::Map(Arc::new(Field::new("key_value", entries, false)), false)
}

fn string_list() -> DataType {
    DataType::List(Arc::new(Field::new("element", DataType::Utf8, true)))
}

fn column(name: &str, kind: DataType, meaning: &str) -> Field {
    let comment = HashMap::from([("comment".to_owned(), meaning.to_owned())]);
    Field::new(name, kind, true).with_metadata(comment)
}

fn text(name: &str, meaning: &str) -> Field {
    column(name, DataType::Utf8, meaning)
}

fn time(name: &str, meaning: &str) -> Field {
    column(name, timestamp(), meaning)
}

fn whole(name: &str, meaning: &str) -> Field {
    column(name, DataType::Int64, meaning)
}

/// The fields of an element of `calls.legs`.
pub fn leg_fields() -> Fields {
    let plain = |name: &str, kind: DataType| Field::new(name, kind, true);
    Fields::from(vec![
        plain("leg_key", DataType::Utf8),
        plain("endpoint", DataType::Utf8),
        plain("endpoint_name", DataType::Utf8),
        plain("direction", DataType::Utf8),
        plain("started_at", timestamp()),
        plain("ringing_at", timestamp()),
        plain("answered_at", timestamp()),
        plain("ended_at", timestamp()),
        plain("talk_ms", DataType::Int64),
        plain("disposition", DataType::Utf8),
        plain("disposition_raw", DataType::Utf8),
        plain("cause_q850", DataType::Int64),
    ])
}

/// `calls` as SQL shows it.
pub fn calls() -> SchemaRef {
    let leg = Field::new("element", DataType::Struct(leg_fields()), true);
    Arc::new(Schema::new(vec![
        text("tenant", "whose call it is"),
        text("source", "the telephone system that reported it"),
        text("call_id", "our id: opaque and stable"),
        text("call_key", "the source's id of the call"),
        text("direction", "in, out, internal or unknown"),
        text("from_number", "calling number as sent; of user@realm only the user"),
        text("to_number", "called number as sent; of user@realm only the user"),
        text("from_e164", "calling number in E.164; NULL for anonymous, SIP ids and short numbers"),
        text("to_e164", "called number in E.164; NULL for SIP ids and short numbers"),
        text("caller_name", "name of the caller"),
        text("own_number", "the PBX's own number that was called, or shown to the called party"),
        text("endpoint", "extension, user or SIP peer that took or made the call"),
        text("endpoint_name", "its name"),
        text("queue", "queue or ring group that the call entered"),
        time("started_at", "start (seizure)"),
        time("ringing_at", "first ringing"),
        time("answered_at", "answer"),
        time("ended_at", "end; NULL while open"),
        whole("duration_ms", "whole length: as sent, else end - start"),
        whole("ring_ms", "ringing: as sent, else answer (or end) - ringing (or start)"),
        whole("talk_ms", "conversation; NULL when the source cannot say"),
        whole("hold_ms", "on hold"),
        whole("ivr_ms", "in an IVR"),
        whole("queue_ms", "waiting in a queue"),
        text("disposition", "outcome; unknown while open"),
        text("disposition_raw", "outcome in the source's own words"),
        whole("cause_q850", "cause value of ITU-T Q.850"),
        whole("sip_status", "final SIP status"),
        text("released_by", "caller, callee, ext, remote or unknown"),
        text("state", "open, closed, timed_out or partial; as stored also leg: part of another call, and no call"),
        text("clock", "clock of started_at: pbx, derived or receipt"),
        column("legs", DataType::List(Arc::new(leg)), "attempts to reach one endpoint, by start and key"),
        whole("transfers", "how often the call was transferred"),
        text("recording_state", "none, expected, available or failed"),
        column("recordings", string_list(), "recording ids"),
        column("dtmf", string_map(), "collected digits by collection"),
        column("attributes", string_map(), "further fields of the source"),
        text("external_id", "an id chosen by who made the call through the PBX's API"),
        column("related_calls", string_list(), "call_ids of related calls"),
        time("first_received_at", "earliest receipt of any delivery"),
        time("last_received_at", "latest receipt of any delivery"),
        whole("first_offset", "lowest log offset of any delivery"),
        whole("last_offset", "highest log offset of any delivery"),
    ]))
}

/// `calls` as stored: with the fold's state, the home day and the tier.
pub fn calls_table() -> SchemaRef {
    extend(&calls(), hidden_of_states())
}

fn hidden_of_states() -> [Field; 3] {
    [
        column("fold", DataType::Binary, "the fold's whole state (MessagePack)"),
        text("day", "home day (UTC)"),
        text("tier", "final, part, or leg of a row that is whole and not shown"),
    ]
}

/// `recordings` as SQL shows it.
pub fn recordings() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("tenant", "whose recording it is"),
        text("source", "the telephone system that sent it"),
        text("recording_id", "our id: opaque and stable"),
        text("call_id", "our id of its call"),
        text("call_key", "the source's id of its call"),
        text("link", "how its call is known: id (the sender said so), soft (decided), none"),
        column("link_confidence", DataType::Float64, "how sure the link is, from 0 to 1"),
        text("name", "file name as sent"),
        text("sha256", "SHA-256 of the bytes, in hex"),
        whole("bytes", "size"),
        text("media_type", "media type as the sender named it"),
        text("container", "container, read from the bytes"),
        text("codec", "codec, read from the bytes"),
        whole("channels", "channels, read from the bytes"),
        whole("sample_rate_hz", "samples per second and channel, read from the bytes"),
        whole("bit_rate", "average bits per second, read from the bytes"),
        whole("duration_ms", "length: read from the bytes, else as sent"),
        time("started_at", "start as the sender says"),
        time("received_at", "first receipt"),
        text("status", "received, damaged, deleted or erased"),
        text("object", "key in object storage, with #offset+length for one inside a pack"),
        text(
            "uploaded_as",
            "path and query below the upload route that it was first uploaded to; of a fetched one its link",
        ),
        text("external_recording_id", "the sender's id of it"),
        text("from_number", "calling number as sent; of user@realm only the user"),
        text("to_number", "called number as sent; of user@realm only the user"),
        text("endpoint", "user or extension that was recorded"),
    ]))
}

/// `recordings` as stored: with what a search by upload URL needs, the fold's state, the home day and the tier.
pub fn recordings_table() -> SchemaRef {
    let elsewhere = column("elsewhere", DataType::Boolean, "uploaded to more URLs than `uploaded_as`");
    extend(&recordings(), [elsewhere].into_iter().chain(hidden_of_states()))
}

/// `events` as SQL shows it.
pub fn events() -> SchemaRef {
    Arc::new(Schema::new(vec![
        text("tenant", "whose message it is"),
        text("source", "the telephone system that sent it"),
        text("type", "kind of message"),
        text("event_id", "id of the message"),
        text("call_key", "the source's id of its call"),
        text("subject", "the same"),
        time("received_at", "receipt"),
        time("occurred_at", "the time that the message itself carries"),
        whole("partition", "log partition"),
        whole("offset", "log offset"),
        text("method", "HTTP method"),
        text("path", "path of the request"),
        text("query", "query of the request"),
        column("headers", string_map(), "selected headers"),
        text("content_type", "content type of the payload"),
        column("payload", DataType::Binary, "the body, verbatim"),
        text("fingerprint", "SHA-256 of the idempotency key, in hex"),
        text("duplicate_of", "event_id of the first delivery"),
        column("quarantined", DataType::Boolean, "kept, but not understood"),
        text("error", "why not"),
    ]))
}

/// `events` as stored: with what a second decoding needs of the envelope, and the receive day.
pub fn events_table() -> SchemaRef {
    let hidden = [
        column("structured", DataType::Boolean, "came as a structured CloudEvent: its id is its idempotency key"),
        text("refused", "why ingest could not take the message apart, whatever the decoder says"),
        text("day", "receive day (UTC)"),
    ];
    extend(&events(), hidden)
}

fn extend(schema: &SchemaRef, more: impl IntoIterator<Item = Field>) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone()).chain(more);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The schema without its comments, as it comes back from Parquet files and is compared in code.
pub fn bare(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| field.as_ref().clone().with_metadata(HashMap::new()));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
