//! A row of `events` as the message that it was, and decoded again.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};
use trunklog_storage::event::{Event, Source, format_time};
use trunklog_storage::fact::{CallRef, Decoded, Decoder, decode_safely};

use crate::row::Row;

/// The message, as far as the table keeps it.
pub(super) fn message(row: Row<'_>) -> Option<Event> {
    Some(Event {
        id: row.text("event_id")?.into(),
        tenant: row.text("tenant")?.into(),
        source: Source::parse(row.text("source")?)?,
        kind: row.text("type")?.into(),
        received_at: row.time("received_at")?,
        subject: row.text("call_key").map(Into::into),
        structured: false,
        method: row.text("method").map(Into::into),
        path: row.text("path").map(Into::into),
        query: row.text("query").map(Into::into),
        headers: Arc::new(row.map("headers").into_iter().map(|(name, value)| (name.into(), value.into())).collect()),
        content_type: row.text("content_type").map(Into::into),
        error: None,
        payload: Bytes::copy_from_slice(row.bytes("payload").unwrap_or_default()),
    })
}

/// What the message means to the decoder as it is now.
pub(super) fn decode(decoder: &dyn Decoder, row: Row<'_>) -> Option<Decoded> {
    message(row).map(|event| decode_safely(decoder, &event))
}

/// The decoded message as JSON.
pub(super) fn to_json(decoded: &Decoded) -> Value {
    let (key, state) = match &decoded.fact {
        Some((CallRef::Key(key), state)) => (Value::from(&**key), Some(state)),
        Some((CallRef::Open { extension, number, starts, ends }, state)) => {
            (json!({"extension": extension, "number": number, "starts": starts, "ends": ends}), Some(state))
        }
        None => (Value::Null, None),
    };
    json!({
        "type": decoded.kind,
        "occurred_at": decoded.occurred_at.map(format_time),
        "call_key": decoded.call_key,
        "error": decoded.error,
        "call": key,
        "fact": state.and_then(|state| serde_json::to_value(state).ok()),
    })
}

/// Whether this message without ids can be one of the call's.
pub(super) fn can_belong(decoded: &Decoded, call: Row<'_>) -> bool {
    let Some((CallRef::Open { extension, number, .. }, _)) = &decoded.fact else { return false };
    let legs = call.texts_in("legs", "leg_key");
    let parties = [call.text("from_number"), call.text("to_number")];
    let user = number.split_once('@').map_or(number.as_str(), |(user, _)| user);
    let same_number = user.is_empty() || parties.contains(&Some(user)) || parties == [None, None];
    same_number && (legs.is_empty() || legs.contains(extension))
}
