//! A row as SQL would show it, made from the state in this process.

use serde_json::{Map, Value, json};
use trunklog_storage::call::{CallRow, CallState, LegRow};
use trunklog_storage::event::{Micros, Source, format_time};
use trunklog_storage::fact::Decoder;

/// The visible columns of a call.
pub fn row(state: &CallState, decoder: &dyn Decoder, tenant: &str, source: Source, key: &str) -> Value {
    let row = state.row(tenant, source);
    let e164 = |number: Option<&str>| number.and_then(|number| decoder.e164(tenant, source, number));
    let mut shown = texts(&row);
    shown.extend(values(&row));
    shown.insert("source".to_owned(), json!(source.as_str()));
    shown.insert("call_key".to_owned(), json!(key));
    shown.insert("from_e164".to_owned(), json!(e164(row.from_number.as_deref())));
    shown.insert("to_e164".to_owned(), json!(e164(row.to_number.as_deref())));
    Value::Object(shown)
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn time(at: Option<Micros>) -> Value {
    json!(at.map(format_time))
}

fn texts(row: &CallRow) -> Map<String, Value> {
    object([
        ("direction", json!(row.direction)),
        ("from_number", json!(row.from_number)),
        ("to_number", json!(row.to_number)),
        ("caller_name", json!(row.caller_name)),
        ("own_number", json!(row.own_number)),
        ("endpoint", json!(row.endpoint)),
        ("endpoint_name", json!(row.endpoint_name)),
        ("queue", json!(row.queue)),
        ("disposition", json!(row.disposition)),
        ("disposition_raw", json!(row.disposition_raw)),
        ("released_by", json!(row.released_by)),
        ("state", json!(row.state)),
        ("clock", json!(row.clock)),
        ("recording_state", json!(row.recording_state)),
        ("external_id", json!(row.external_id)),
    ])
}

fn values(row: &CallRow) -> Map<String, Value> {
    object([
        ("started_at", time(row.started_at)),
        ("ringing_at", time(row.ringing_at)),
        ("answered_at", time(row.answered_at)),
        ("ended_at", time(row.ended_at)),
        ("duration_ms", json!(row.duration_ms)),
        ("ring_ms", json!(row.ring_ms)),
        ("talk_ms", json!(row.talk_ms)),
        ("hold_ms", json!(row.hold_ms)),
        ("ivr_ms", json!(row.ivr_ms)),
        ("queue_ms", json!(row.queue_ms)),
        ("cause_q850", json!(row.cause_q850)),
        ("sip_status", json!(row.sip_status)),
        ("legs", json!(row.legs.iter().map(leg).collect::<Vec<_>>())),
        ("transfers", json!(row.transfers)),
        ("recordings", json!(row.recordings)),
        ("dtmf", json!(row.dtmf)),
        ("attributes", json!(row.attributes)),
        ("related_calls", json!(row.related_calls)),
    ])
}

fn leg(leg: &LegRow) -> Value {
    Value::Object(object([
        ("leg_key", json!(leg.leg_key)),
        ("endpoint", json!(leg.endpoint)),
        ("endpoint_name", json!(leg.endpoint_name)),
        ("direction", json!(leg.direction)),
        ("started_at", time(leg.started_at)),
        ("ringing_at", time(leg.ringing_at)),
        ("answered_at", time(leg.answered_at)),
        ("ended_at", time(leg.ended_at)),
        ("talk_ms", json!(leg.talk_ms)),
        ("disposition", json!(leg.disposition)),
        ("disposition_raw", json!(leg.disposition_raw)),
        ("cause_q850", json!(leg.cause_q850)),
    ]))
}
