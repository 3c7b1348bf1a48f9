//! One event as a log record: `u32 length of attributes | attributes | payload`, little endian.
//!
//! Attributes are MessagePack with field names; then the length has its highest bit set. Logs of before have JSON.

use bytes::{BufMut, Bytes, BytesMut};

use crate::error::Error;
use crate::event::Event;

/// Set in the length of attributes that are MessagePack.
const PACKED: u32 = 1 << 31;

/// Encodes an event.
///
/// # Errors
/// `Corrupt` if the attributes cannot be written.
pub fn encode(event: &Event) -> Result<Bytes, Error> {
    let attributes =
        rmp_serde::to_vec_named(event).map_err(|error| Error::Corrupt(format!("event attributes: {error}")))?;
    let length = u32::try_from(attributes.len()).ok().filter(|length| length & PACKED == 0);
    let length = length.ok_or_else(|| Error::Corrupt("event attributes over 2 GiB".into()))? | PACKED;
    let mut record = BytesMut::with_capacity(4 + attributes.len() + event.payload.len());
    record.put_u32_le(length);
    record.put_slice(&attributes);
    record.put_slice(&event.payload);
    Ok(record.freeze())
}

/// Decodes a record; the payload shares the record's memory.
///
/// # Errors
/// `Corrupt` if it is not a record.
pub fn decode(record: &Bytes) -> Result<Event, Error> {
    let corrupt = |what: &str| Error::Corrupt(format!("log record: {what}"));
    let length = record.get(..4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_le_bytes);
    let length = length.ok_or_else(|| corrupt("too short"))?;
    let end = 4 + (length & !PACKED) as usize;
    let attributes = record.get(4..end).ok_or_else(|| corrupt("attributes are cut off"))?;
    let mut event: Event = if length & PACKED == 0 {
        serde_json::from_slice(attributes).map_err(|error| corrupt(&error.to_string()))?
    } else {
        rmp_serde::from_slice(attributes).map_err(|error| corrupt(&error.to_string()))?
    };
    event.payload = record.slice(end..);
    Ok(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_of_before_are_read_as_those_of_now() {
        let json = serde_json::json!({
            "id": "one", "tenant": "acme", "source": "kazoo", "type": "kazoo.pivot", "received_at": 7,
            "subject": "call", "path": "/in/kazoo", "headers": { "user-agent": "Kazoo" },
        });
        let attributes = json.to_string();
        let length = u32::try_from(attributes.len()).expect("short");
        let before = [&length.to_le_bytes()[..], attributes.as_bytes(), b"body"].concat();
        let event = decode(&Bytes::from(before)).expect("JSON");
        assert_eq!(
            (event.id.as_str(), event.headers["user-agent"].as_str(), &event.payload[..]),
            ("one", "Kazoo", &b"body"[..])
        );
        assert_eq!(decode(&encode(&event).expect("packed")).expect("MessagePack"), event);
    }

    #[test]
    fn what_is_cut_off_is_no_record() {
        let json = serde_json::json!({
            "id": "one", "tenant": "acme", "source": "kazoo", "type": "kazoo.pivot", "received_at": 7,
        });
        let record = encode(&serde_json::from_value(json).expect("an event")).expect("packed");
        for length in 0..record.len() {
            assert!(decode(&record.slice(..length)).is_err(), "{length} bytes");
        }
    }
}
