//! The naive fold's own rows against the second simple-minded fold (`naive.rs`), which reads the messages without the
//! archive's decoders: bookkeeping of every call that has an id, times of the sources that take them from receipts.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use trunklog_storage::archive::Message;
use trunklog_storage::event::{Micros, Source, format_time};
use trunklog_storage::rows::KeyedCall;

use super::fold::Fold;
use crate::naive;
use crate::simulate::Call;

/// Where they differ.
pub(super) fn differences(messages: &[Message], fold: &Fold) -> Vec<String> {
    let mut tenants: BTreeMap<&str, (naive::Messages, Vec<Call>)> = BTreeMap::new();
    for (offset, Message { event, decoded, .. }) in messages.iter().enumerate() {
        let Some(key) = decoded.call_key.clone().filter(|_| decoded.error.is_none()) else { continue };
        // Decisions are no deliveries, and some messages name a call but say nothing about it.
        if event.source == Source::Trunklog || decoded.fact.is_none() {
            continue;
        }
        let query = event.query.as_deref().unwrap_or_default().as_bytes();
        let encoded = if event.payload.is_empty() { query } else { &event.payload[..] };
        let received_at = format_time(event.received_at);
        let message = naive::Message::new(decoded.kind.to_string(), received_at, offset as i64, encoded);
        let (by_call, _) = tenants.entry(&event.tenant).or_default();
        by_call.entry((event.source.to_string(), key.to_string())).or_default().push(message);
    }
    for ((tenant, _, _), call) in &fold.calls {
        // A call that only a decision names was not delivered.
        if let (Some((_, calls)), Some(shown)) = (tenants.get_mut(tenant.as_str()), shown(call)) {
            calls.push(shown);
        }
    }
    tenants.values().flat_map(|(by_call, calls)| naive::differences(by_call, calls)).collect()
}

/// The columns that the other fold knows.
fn shown(call: &KeyedCall) -> Option<Call> {
    let seen = call.state.seen?;
    let time = |at: Option<Micros>| at.map(format_time);
    let mut columns = json!({
        "source": call.source.as_str(),
        "call_key": &*call.key,
        "first_received_at": format_time(seen.first_received_at),
        "last_received_at": format_time(seen.last_received_at),
        "first_offset": seen.first_offset.0,
        "last_offset": seen.last_offset.0,
    });
    if matches!(call.source, Source::Placetel | Source::Planfix) {
        let row = call.state.row(&call.tenant, call.source);
        columns["started_at"] = json!(time(row.started_at));
        columns["answered_at"] = json!(time(row.answered_at));
        columns["ended_at"] = json!(time(row.ended_at));
        columns["duration_ms"] = json!(row.duration_ms);
        columns["clock"] = json!(row.clock);
        columns["state"] = json!(row.state);
    }
    match columns {
        Value::Object(columns) => Some(columns),
        _ => None,
    }
}
